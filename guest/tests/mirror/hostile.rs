//! `run=hostile`, against the device, in every notify mode: that the device survives each case on
//! a disk and on a read-only one, and that what the cases say can be relied on.

use std::sync::{Arc, Mutex};
use std::{fs, io};

use devices::virtio::block::BlockBackend;
use devices::virtio::block::backend::{FileBackend, MemoryBackend, TransferError};
use guest::rng::pattern;
use spec::mmio::Register;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, VolatileSlice};
use vmm_sys_util::tempfile::TempFile;

use crate::host::{Host, Notify, Ram, Read, run};

/// Too few for the cases that leave more to be said of the disk: those of several CPUs.
const SECTORS: usize = 63;
/// How many of the first sectors the cases may write, and the seed of what they write there.
const KNOWN: usize = 16;
const SEED: u64 = 1;
const NOTIFY: [Notify; 3] = [Notify::Trap, Notify::IoEventFd, Notify::Poll];

/// Why those of several queues are skipped.
const ONE_QUEUE: &str = "the disk has one queue";
/// Why cases are skipped on this disk.
const SKIPPED: [&str; 3] = [
    "the disk is not read-only",
    "the disk is too small",
    ONE_QUEUE,
];
/// The same where it is read-only.
const SKIPPED_READ_ONLY: [&str; 5] = [
    ONE_QUEUE,
    "the disk is read-only",
    "the disk is too small",
    "VIRTIO_BLK_F_DISCARD is not offered",
    "VIRTIO_BLK_F_WRITE_ZEROES is not offered",
];

/// A disk of which no two sectors are alike.
fn disk() -> MemoryBackend {
    let mut bytes = vec![0; SECTORS * 512];
    pattern(99, 0, &mut bytes);
    MemoryBackend::new(bytes)
}

/// What the cases leave on a disk.
fn left() -> Vec<u8> {
    let mut bytes = disk().bytes().clone();
    pattern(SEED, 0, &mut bytes[..KNOWN * 512]);
    bytes
}

/// The lines of TAP that tell of cases, after their number has been compared with the plan.
fn results(console: &str) -> Vec<&str> {
    let mut lines = console.lines();
    assert_eq!(lines.next(), Some("TAP version 14"), "{console}");
    let plan = lines.next().unwrap().strip_prefix("1..").unwrap();
    let is_result = |line: &&str| line.starts_with("ok ") || line.starts_with("not ok ");
    let results: Vec<_> = lines.filter(is_result).collect();
    assert_eq!(results.len().to_string(), plan, "{console}");
    for (line, number) in results.iter().zip(1..) {
        let rest = line.strip_prefix("not ").unwrap_or(line);
        assert!(rest.starts_with(&format!("ok {number} - ")), "{line}");
    }
    results
}

#[test]
fn the_device_survives_every_case_and_the_disk_holds_what_was_rightly_written() {
    for (notify, read_only) in NOTIFY.into_iter().flat_map(|n| [(n, false), (n, true)]) {
        let disk = disk();
        let (expected, may_skip) = if read_only {
            (disk.bytes().clone(), &SKIPPED_READ_ONLY[..])
        } else {
            (left(), &SKIPPED[..])
        };
        let mut ram = Ram::new();
        let mut hosts = [Host::new(&ram, &disk, notify, read_only)];
        let (ok, console) = run(&mut ram, &mut hosts, "run=hostile case=all");
        let failed = console.lines().any(|line| line.starts_with("not ok "));
        assert!(ok && !failed, "{notify:?}, {read_only}: {console}");
        for line in results(&console) {
            match line.split_once(" # SKIP ") {
                Some((_, reason)) => assert!(may_skip.contains(&reason), "{line}"),
                None => assert!(line.contains("; seen "), "{line}"),
            }
        }
        assert!(*disk.bytes() == expected, "{notify:?}, {read_only}");
    }
}

#[test]
fn a_device_with_several_queues_survives_every_case_and_skips_none_of_theirs() {
    for (notify, queues) in NOTIFY.into_iter().flat_map(|n| [(n, 2), (n, 4)]) {
        let disk = disk();
        let mut ram = Ram::new();
        let mut hosts = [Host::with_queues(&ram, &disk, (notify, queues), false)];
        let (ok, console) = run(&mut ram, &mut hosts, "run=hostile case=all");
        let about = format!("{notify:?}, {queues} queues: {console}");
        assert!(ok && !console.contains(ONE_QUEUE), "{about}");
        let of_queues = results(&console)
            .into_iter()
            .filter(|line| line.contains(" - queues-"));
        assert!(of_queues.count() >= 5, "{about}");
        assert!(*disk.bytes() == left(), "{about}");
    }
}

/// A disk in a file, that can be handed to a device and kept.
#[derive(Clone)]
struct OnFile(Arc<Mutex<FileBackend>>);

impl BlockBackend for OnFile {
    fn capacity(&self) -> u64 {
        self.0.lock().unwrap().capacity()
    }

    fn read_at(&self, to: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.0.lock().unwrap().read_at(to, position)
    }

    fn write_at(&self, from: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.0.lock().unwrap().write_at(from, position)
    }

    fn flush(&self) -> io::Result<()> {
        self.0.lock().unwrap().flush()
    }
}

/// A file does not end where a disk does: what is past the end could be moved in part.
#[test]
fn a_disk_in_a_file_is_survived_too() {
    for (notify, read_only) in NOTIFY.into_iter().flat_map(|n| [(n, false), (n, true)]) {
        let file = TempFile::new().unwrap();
        let before = disk().bytes().clone();
        fs::write(file.as_path(), &before).unwrap();
        let backend = FileBackend::open(file.as_path(), read_only).unwrap();
        let mut ram = Ram::new();
        let disk = OnFile(Arc::new(Mutex::new(backend)));
        let mut hosts = [Host::new(&ram, &disk, notify, read_only)];
        let (ok, console) = run(&mut ram, &mut hosts, "run=hostile case=all");
        assert!(ok, "{notify:?}, {read_only}: {console}");
        let expected = if read_only { before } else { left() };
        let after = fs::read(file.as_path()).unwrap();
        assert!(after == expected, "{notify:?}, {read_only}");
    }
}

/// The names that `case=list` prints.
fn names() -> Vec<String> {
    let (ok, console) = run(&mut Ram::new(), &mut [], "run=hostile case=list");
    assert!(ok, "{console}");
    let first_words = console.lines().map(|line| line.split(' ').next().unwrap());
    first_words.map(str::to_owned).collect()
}

#[test]
fn every_case_of_the_list_can_be_run_alone() {
    let names = names();
    assert!(names.len() > 40, "{names:?}");
    for name in names {
        let mut ram = Ram::new();
        let mut hosts = [Host::new(&ram, &disk(), Notify::Trap, false)];
        let (ok, console) = run(&mut ram, &mut hosts, &format!("run=hostile case={name}"));
        assert!(ok, "{console}");
        for line in results(&console) {
            assert!(line.contains(&format!(" - {name}, ")), "{line}");
        }
    }
}

#[test]
fn what_is_wrong_with_the_choice_of_a_case_is_told() {
    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, &disk(), Notify::Trap, false)];
    let (ok, console) = run(&mut ram, &mut hosts, "run=hostile case=none");
    let begin = format!(
        "hostile case=none FAILED: case=none is none of all list {}",
        names().join(" ")
    );
    assert_eq!((ok, console.trim_end()), (false, &begin[..]));

    let small = MemoryBackend::new(vec![0; 31 * 512]);
    let mut hosts = [Host::new(&ram, &small, Notify::Trap, false)];
    let (ok, console) = run(&mut ram, &mut hosts, "run=hostile");
    let end = "the disk has 31 sectors; at least 32 are needed\n";
    assert!(!ok && console.ends_with(end), "{console}");
}

// That the cases can fail

#[test]
fn a_case_that_fails_says_what_was_expected_and_what_was_seen() {
    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, &disk(), Notify::Trap, false)];
    // A device that takes every queue.
    hosts[0].forge(Read::Register(Register::QueueReady), 1);
    let (ok, console) = run(&mut ram, &mut hosts, "run=hostile case=queue-size");
    let expected = "TAP version 14\n\
        1..1\n\
        not ok 1 - queue-size, direct: expected QueueReady 0; seen 0x1\n\
        \x20 ---\n\
        \x20 what: \"size, 0x0\"\n\
        \x20 expected: \"0x0\"\n\
        \x20 seen: \"0x1\"\n\
        \x20 hazard: \"queue size 0, no power of two, above QueueNumMax, or of more than 16 bits\"\n\
        \x20 check: 1\n\
        \x20 ...\n\
        hostile case=queue-size FAILED: failed=1 cases=1\n";
    assert_eq!((ok, &console[..]), (false, expected));
}

#[test]
fn cases_of_several_queues_fail_where_a_queue_is_not_as_it_must_be() {
    for (case, register, value, what) in [
        (
            "queues-counted",
            Register::QueueNumMax,
            512,
            "QueueSel, 0x4",
        ),
        (
            "queue-stopped-in-use",
            Register::QueueReset,
            1,
            "QueueReset, 0x0",
        ),
        (
            "queue-stopped-in-use",
            Register::QueueReady,
            1,
            "QueueReady, 0x0",
        ),
    ] {
        let mut ram = Ram::new();
        let mut hosts = [Host::with_queues(&ram, &disk(), (Notify::Trap, 4), false)];
        hosts[0].forge(Read::Register(register), value);
        let (ok, console) = run(&mut ram, &mut hosts, &format!("run=hostile case={case}"));
        assert!(!ok && console.contains("not ok 1 "), "{case}: {console}");
        let what = format!("what: \"{what}\"");
        assert!(console.contains(&what), "{case}: {console}");
    }
}

#[test]
fn a_device_that_does_not_come_back_ends_the_run() {
    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, &disk(), Notify::Trap, false)];
    // Once there has been something that needs a reset, the device stays as it is.
    let mut stuck = false;
    let events = hosts[0].edges.clone();
    hosts[0].forge = Some(Box::new(move |read| {
        stuck |= read == Read::Register(Register::InterruptStatus) && events.count() > 9;
        (stuck && read == Read::Register(Register::Status)).then_some(0x4f)
    }));
    let (ok, console) = run(&mut ram, &mut hosts, "run=hostile case=avail-idx-jump");
    let reason = "device at 0xd0000000: the device does not complete its reset";
    let end = format!("Bail out! {reason}\nhostile case=avail-idx-jump FAILED: {reason}\n");
    assert!(!ok && console.ends_with(&end), "{console}");
}

/// A disk that does something else, too, whenever it is read.
#[derive(Clone)]
struct Meddling {
    disk: MemoryBackend,
    memory: GuestMemoryMmap,
    meddle: fn(&MemoryBackend, &GuestMemoryMmap, &[VolatileSlice<'_>], u64),
}

impl BlockBackend for Meddling {
    fn capacity(&self) -> u64 {
        self.disk.capacity()
    }

    fn read_at(&self, to: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        let result = self.disk.read_at(to, position);
        (self.meddle)(&self.disk, &self.memory, to, position);
        result
    }

    fn write_at(&self, from: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.disk.write_at(from, position)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// What is seen of a case whose requests are answered rightly, by such a disk.
fn meddled(meddle: fn(&MemoryBackend, &GuestMemoryMmap, &[VolatileSlice<'_>], u64)) -> String {
    let mut ram = Ram::new();
    let meddling = Meddling {
        disk: disk(),
        memory: ram.memory.clone(),
        meddle,
    };
    let mut hosts = [Host::new(&ram, &meddling, Notify::Trap, false)];
    let (ok, console) = run(&mut ram, &mut hosts, "run=hostile case=used-len-read");
    assert!(!ok, "{console}");
    assert!(results(&console)[0].starts_with("not ok "), "{console}");
    console
}

#[test]
fn a_byte_that_is_written_next_to_a_buffer_fails_the_case() {
    let after = meddled(|_, memory, to, _| {
        let Some(last) = to.last() else { return };
        // Guest memory is at its own addresses here.
        let end = last.ptr_guard().as_ptr() as u64 + last.len() as u64;
        memory.write_obj(0_u8, GuestAddress(end)).unwrap();
    });
    assert!(after.contains("what: \"the guards, 0x0\""), "{after}");
    let before = meddled(|_, memory, to, _| {
        let Some(first) = to.first() else { return };
        let start = first.ptr_guard().as_ptr() as u64;
        memory.write_obj(0_u8, GuestAddress(start - 1)).unwrap();
    });
    assert!(before.contains("what: \"the guards, 0x0\""), "{before}");
}

#[test]
fn a_sector_that_changes_by_itself_fails_the_case() {
    let console = meddled(|disk, _, _, _| disk.bytes()[3 * 512 + 7] ^= 1);
    assert!(console.contains("what: \"the disk, 0x0\""), "{console}");
}
