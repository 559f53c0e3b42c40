//! Every workload, against the device, in every notify mode.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{io, iter};

use devices::virtio::block::BlockBackend;
use devices::virtio::block::backend::{MemoryBackend, TransferError};
use guest::rng::pattern;
use spec::block::config;
use vm_memory::VolatileSlice;

use crate::host::{Host, Notify, Ram, Read, run, run_on};

const SECTORS: usize = 512;
pub const NOTIFY: [Notify; 3] = [Notify::Trap, Notify::IoEventFd, Notify::Poll];

/// A disk with a pattern on it.
pub fn disk() -> MemoryBackend {
    let mut bytes = vec![0; SECTORS * 512];
    pattern(99, 0, &mut bytes);
    MemoryBackend::new(bytes)
}

/// Runs a workload on a disk, with one CPU; what it printed last.
pub fn verdict(disk: &MemoryBackend, notify: Notify, parameters: &str) -> (bool, String) {
    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, disk, notify, false)];
    let (ok, console) = run_on(1, &mut ram, &mut hosts, parameters);
    (ok, console.lines().last().unwrap_or_default().to_owned())
}

/// That a workload fails, and says why.
pub fn assert_fails(parameters: &str, verdict_expected: &str) {
    let disk = disk();
    let before = disk.bytes().clone();
    let expected = (false, verdict_expected.to_owned());
    assert_eq!(verdict(&disk, Notify::Trap, parameters), expected);
    assert!(*disk.bytes() == before, "{parameters} wrote to the disk");
}

#[test]
fn info_tells_of_every_disk_and_writes_to_none() {
    for notify in NOTIFY {
        let (a, b) = (disk(), disk());
        let mut ram = Ram::new();
        let mut hosts = [
            Host::new(&ram, &a, notify, false),
            Host::new(&ram, &b, notify, true),
        ];
        let (ok, console) = run(&mut ram, &mut hosts, "");
        assert!(ok, "{console}");
        assert!(console.ends_with("info devices=2 ok\n"), "{console}");
        for told in ["VIRTIO_BLK_F_RO", "512 sectors, 0.25 MiB", "\"mirror\""] {
            assert!(console.contains(told), "{told} is not in {console}");
        }
        assert!(*a.bytes() == *disk().bytes() && *b.bytes() == *disk().bytes());
    }
}

#[test]
fn info_of_one_disk_tells_of_no_other() {
    let mut ram = Ram::new();
    let mut hosts = [false, true].map(|ro| Host::new(&ram, &disk(), Notify::Trap, ro));
    let (ok, console) = run(&mut ram, &mut hosts, "run=info disk=1");
    assert!(ok, "{console}");
    assert!(console.contains("device at 0xd0001000"), "{console}");
    assert!(console.ends_with("info devices=1 ok\n"), "{console}");
    let (ok, console) = run(&mut ram, &mut hosts, "run=info disk=2");
    let verdict = "info disk=2 FAILED: there is no disk 2: disks=2\n".to_owned();
    assert_eq!((ok, console), (false, verdict));
}

#[test]
fn info_without_devices_says_so() {
    let (ok, console) = run(&mut Ram::new(), &mut [], "run=info");
    assert!(ok);
    assert!(
        console.ends_with("no devices\ninfo devices=0 ok\n"),
        "{console}"
    );
}

#[test]
fn read_prints_the_crc_of_what_is_on_the_disk() {
    // The two sums are those of zlib.
    let mut bytes = vec![0; SECTORS * 512];
    bytes[512..1024].fill(b'a');
    let disk = MemoryBackend::new(bytes);
    for notify in NOTIFY {
        let zeros = verdict(&disk, notify, "run=read");
        assert_eq!(
            zeros,
            (true, "read lba=0 count=1 crc32=b2aa7578 ok".to_owned())
        );
        let both = verdict(&disk, notify, "run=read lba=0 count=2 wait=poll");
        assert_eq!(
            both,
            (true, "read lba=0 count=2 crc32=a44eaa07 ok".to_owned())
        );
    }
}

#[test]
fn fill_writes_its_sectors_and_no_other() {
    for notify in NOTIFY {
        let disk = disk();
        let mut expected = disk.bytes().clone();
        expected[3 * 512..303 * 512].fill(0xab);
        let done = verdict(&disk, notify, "run=fill lba=3 count=300 byte=0xab");
        assert_eq!(done, (true, "fill lba=3 count=300 byte=0xab ok".to_owned()));
        assert!(*disk.bytes() == expected);
    }
}

#[test]
fn verify_leaves_the_pattern_on_the_disk_in_every_mode() {
    let modes = ["", "indirect=off", "event_idx=off", "queue_size=4 depth=4"];
    for (notify, mode) in NOTIFY.into_iter().flat_map(|n| iter::repeat(n).zip(modes)) {
        for wait in ["irq", "poll"] {
            let disk = disk();
            let mut expected = disk.bytes().clone();
            pattern(7, 5, &mut expected[5 * 512..505 * 512]);
            let parameters = format!("run=verify lba=5 count=500 seed=7 wait={wait} {mode}");
            let (ok, line) = verdict(&disk, notify, &parameters);
            assert!(ok, "{line}");
            assert!(*disk.bytes() == expected, "{parameters}");
        }
    }
}

#[test]
fn clear_clears_its_sectors_and_no_other() {
    for (how, byte) in [
        ("zeroes", 0),
        ("unmap", 0),
        ("discard", MemoryBackend::DISCARDED),
    ] {
        for notify in NOTIFY {
            let disk = disk();
            let mut expected = disk.bytes().clone();
            expected[3 * 512..303 * 512].fill(byte);
            let parameters = format!("lba=3 count=300 how={how}");
            let done = verdict(&disk, notify, &format!("run=clear {parameters}"));
            assert_eq!(done, (true, format!("clear {parameters} ok")));
            assert!(*disk.bytes() == expected, "{how}");
        }
    }
}

#[test]
fn clear_makes_no_segment_longer_than_the_device_takes() {
    let disk = disk();
    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, &disk, Notify::Trap, false)];
    hosts[0].forge(Read::Config(config::MAX_DISCARD_SECTORS), 7);
    let (ok, console) = run(&mut ram, &mut hosts, "run=clear count=20 how=discard");
    assert!(ok, "{console}");
    assert_eq!(
        disk.bytes()[..20 * 512],
        [MemoryBackend::DISCARDED; 20 * 512]
    );
    assert_eq!(hosts[0].notifications, 4);
}

#[test]
fn clear_says_what_the_device_does_not_offer() {
    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, &Decaying(disk()), Notify::Trap, false)];
    let (ok, console) = run(&mut ram, &mut hosts, "run=clear how=discard");
    let verdict = "clear how=discard FAILED: discard at lba=0: the device does not offer \
         VIRTIO_BLK_F_DISCARD\n";
    assert_eq!((ok, &console[..]), (false, verdict));
}

/// A disk that has changed a byte by the time of a flush.
#[derive(Clone)]
struct Decaying(MemoryBackend);

impl BlockBackend for Decaying {
    fn capacity(&self) -> u64 {
        self.0.capacity()
    }

    fn read_at(&self, to: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.0.read_at(to, position)
    }

    fn write_at(&self, from: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.0.write_at(from, position)
    }

    fn flush(&self) -> io::Result<()> {
        self.0.bytes()[7 * 512 + 100] ^= 0xff;
        Ok(())
    }
}

#[test]
fn verify_names_the_first_byte_that_differs() {
    let mut expected = vec![0; 512];
    pattern(1, 7, &mut expected);
    let (written, read) = (expected[100], expected[100] ^ 0xff);

    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, &Decaying(disk()), Notify::Trap, false)];
    let (ok, console) = run_on(1, &mut ram, &mut hosts, "run=verify count=20");
    let verdict = format!(
        "verify count=20 FAILED: lba=7 byte 100: {read:#04x} was read, {written:#04x} was written\n"
    );
    assert_eq!((ok, console), (false, verdict));
}

/// A disk that says that it has read, and has not.
#[derive(Clone)]
struct Idle(MemoryBackend);

impl BlockBackend for Idle {
    fn capacity(&self) -> u64 {
        self.0.capacity()
    }

    fn read_at(&self, _: &[VolatileSlice<'_>], _: u64) -> Result<(), TransferError> {
        Ok(())
    }

    fn write_at(&self, from: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.0.write_at(from, position)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn verify_does_not_take_what_it_wrote_for_what_was_read() {
    let mut expected = vec![0; 512];
    pattern(1, 0, &mut expected);
    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, &Idle(disk()), Notify::Trap, false)];
    let (ok, console) = run_on(1, &mut ram, &mut hosts, "run=verify");
    let verdict = format!(
        "verify FAILED: lba=0 byte 0: 0x00 was read, {:#04x} was written\n",
        expected[0]
    );
    assert_eq!((ok, console), (false, verdict));
}

/// A disk that fails its first transfers.
#[derive(Clone)]
struct Recovering(MemoryBackend, Arc<AtomicUsize>);

impl Recovering {
    fn failed(&self) -> Result<(), TransferError> {
        let order = Ordering::SeqCst;
        let one_less = |failures: usize| failures.checked_sub(1);
        match self.1.fetch_update(order, order, one_less) {
            Err(_) => Ok(()),
            Ok(_) => Err(io::Error::from(io::ErrorKind::StorageFull).into()),
        }
    }
}

impl BlockBackend for Recovering {
    fn capacity(&self) -> u64 {
        self.0.capacity()
    }

    fn read_at(&self, to: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.failed()?;
        self.0.read_at(to, position)
    }

    fn write_at(&self, from: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.failed()?;
        self.0.write_at(from, position)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn retry_makes_a_request_that_fails_again_until_it_succeeds_and_says_so_once() {
    for (workload, what) in [("read", "read"), ("fill", "write")] {
        for notify in NOTIFY {
            let disk = Recovering(disk(), Arc::new(AtomicUsize::new(3)));
            let mut ram = Ram::new();
            let mut hosts = [Host::new(&ram, &disk, notify, false)];
            let line = format!("run={workload} lba=3");
            let (ok, console) = run(&mut ram, &mut hosts, &line);
            assert!(
                !ok && console.ends_with("lba=3: status IOERR\n"),
                "{console}"
            );

            let (ok, console) = run(&mut ram, &mut hosts, &format!("{line} retry=on"));
            assert!(ok, "{console}");
            let told = format!(
                "{what} at lba=3: status IOERR; trying again\n{what} at lba=3: succeeded\n"
            );
            assert!(console.starts_with(&told), "{console}");
        }
    }
}

#[test]
fn explain_reads_and_writes_back_and_is_told_of_each_by_an_interrupt() {
    for (notify, mode) in NOTIFY
        .into_iter()
        .flat_map(|n| ["", "event_idx=off"].map(|m| (n, m)))
    {
        let disk = disk();
        let mut ram = Ram::new();
        let mut hosts = [Host::new(&ram, &disk, notify, false)];
        let parameters = format!("run=explain lba=3 indirect=off queue_size=8 {mode}");
        let (ok, console) = run(&mut ram, &mut hosts, &parameters);
        assert!(ok, "{console}");
        assert_eq!(
            console,
            "read lba=3 len=512\nwoken: read: head=0 written=513 status=0\n\
             write lba=3 len=512\nwoken: write: head=0 written=1 status=0\nexplain lba=3 ok\n"
        );
        assert_eq!(hosts[0].edges.count(), 2, "{notify:?} {mode}");
        assert!(*disk.bytes() == *self::disk().bytes());
    }
}

#[test]
fn explain_shows_how_a_read_only_disk_refuses_to_be_written() {
    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, &disk(), Notify::Trap, true)];
    let (ok, console) = run(&mut ram, &mut hosts, "run=explain");
    assert!(ok, "{console}");
    assert!(
        console.contains("woken: write: head=0 written=1 status=1\n"),
        "{console}"
    );
}

#[test]
fn explain_moves_a_block_of_the_size_that_the_disk_has() {
    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, &disk(), Notify::Trap, false)];
    hosts[0].forge(Read::Config(config::BLK_SIZE), 4096);
    let (ok, console) = run(&mut ram, &mut hosts, "run=explain lba=8");
    assert!(ok, "{console}");
    assert!(
        console.contains("head=0 written=4097 status=0"),
        "{console}"
    );
}

#[test]
fn workloads_make_no_segment_longer_than_the_device_takes() {
    for workload in ["info", "read count=20", "fill count=20", "verify count=20"] {
        let mut ram = Ram::new();
        let mut hosts = [Host::new(&ram, &disk(), Notify::Trap, false)];
        hosts[0].forge(Read::Config(config::SIZE_MAX), 1024);
        let (ok, console) = run(&mut ram, &mut hosts, &format!("run={workload}"));
        assert!(ok, "{console}");
    }
}

#[test]
fn the_self_test_passes_on_a_disk_and_on_a_read_only_one() {
    let disks = [(false, 87), (true, 37)];
    for (notify, (read_only, cases)) in NOTIFY.into_iter().flat_map(|n| disks.map(|d| (n, d))) {
        let disk = disk();
        let mut ram = Ram::new();
        let mut hosts = [Host::new(&ram, &disk, notify, read_only)];
        let (ok, console) = run(&mut ram, &mut hosts, "run=selftest");
        assert!(ok, "{console}");
        let verdict = format!("selftest cases={cases} ok\n");
        assert!(console.ends_with(&verdict), "{console}");
    }
}

#[test]
fn an_option_of_the_self_test_fixes_its_mode_and_leaves_out_no_case() {
    for (option, cases) in [
        ("", 87),
        ("wait=irq", 63),
        ("wait=poll", 63),
        ("event_idx=off", 63),
        ("indirect=off", 50),
        ("wait=poll event_idx=off indirect=off", 32),
    ] {
        let (ok, line) = verdict(&disk(), Notify::Trap, &format!("run=selftest {option}"));
        assert!(ok, "{option}: {line}");
        assert_eq!(line, format!("selftest cases={cases} ok"), "{option}");
    }
}

#[test]
fn a_queue_that_is_too_small_for_a_request_is_named_as_the_reason() {
    for workload in ["info", "read", "fill", "verify", "journal", "explain"] {
        for mode in ["queue_size=1", "queue_size=2", "queue_size=2 indirect=off"] {
            let size = &mode["queue_size=".len()..][..1];
            let expected = format!(
                "{workload} {mode} FAILED: device at 0xd0000000: queue size {size} is not a power \
                 of two from 4 to 256"
            );
            let (ok, line) = verdict(&disk(), Notify::Trap, &format!("run={workload} {mode}"));
            assert_eq!((ok, line), (false, expected));
        }
    }
}
