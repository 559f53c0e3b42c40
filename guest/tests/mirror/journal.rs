//! The journal against the device: that what it says of flushes holds, by what the disk had when it
//! was flushed.

use std::io;
use std::sync::{Arc, Mutex};

use devices::virtio::block::BlockBackend;
use devices::virtio::block::backend::{MemoryBackend, TransferError};
use vm_memory::VolatileSlice;

use crate::host::{Host, Notify, Ram, run};
use crate::journal_check::{Acknowledged, Journal};

const SECTORS: usize = 64;
const JOURNAL: Journal = Journal {
    seed: 5,
    size: 4,
    flush_every: 7,
    clears: false,
};

/// A disk that keeps a copy of itself at each flush.
#[derive(Clone)]
struct Copied {
    disk: MemoryBackend,
    copies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Copied {
    fn new() -> Self {
        Self {
            disk: MemoryBackend::new(vec![0x5a; SECTORS * 512]),
            copies: Arc::default(),
        }
    }
}

impl BlockBackend for Copied {
    fn capacity(&self) -> u64 {
        self.disk.capacity()
    }

    fn read_at(&self, to: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.disk.read_at(to, position)
    }

    fn write_at(&self, from: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.disk.write_at(from, position)
    }

    /// It is free to leave what it was.
    fn discard(&self, _: u64, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn discard_granularity(&self) -> Option<u32> {
        self.disk.discard_granularity()
    }

    fn write_zeroes(&self, position: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.disk.write_zeroes(position, len, unmap)
    }

    fn flush(&self) -> io::Result<()> {
        let copy = self.disk.bytes().clone();
        self.copies.lock().unwrap().push(copy);
        Ok(())
    }
}

fn journal(disk: &(impl BlockBackend + Clone + 'static), notify: Notify, more: &str) -> String {
    let Journal {
        seed,
        size,
        flush_every,
        ..
    } = JOURNAL;
    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, disk, notify, false)];
    let line = format!(
        "run=journal count={SECTORS} seed={seed} size={size} flush_every={flush_every} \
         writes=100 {more}"
    );
    let (ok, console) = run(&mut ram, &mut hosts, &line);
    assert!(ok, "{line}: {console}");
    console
}

#[test]
fn journal_says_of_a_flush_only_what_the_disk_had_by_then_in_every_mode() {
    let modes = [
        "depth=8",
        "depth=12 wait=poll",
        "depth=16 indirect=off queue_size=64",
        "depth=1 event_idx=off",
        "depth=1 indirect=off queue_size=8",
        "depth=8 clears=on",
        "depth=16 indirect=off queue_size=64 clears=on wait=poll",
    ];
    for notify in [Notify::Trap, Notify::IoEventFd, Notify::Poll] {
        for mode in modes {
            let checked = Journal {
                clears: mode.contains("clears=on"),
                ..JOURNAL
            };
            let disk = Copied::new();
            let before = disk.disk.bytes().clone();
            let console = journal(&disk, notify, mode);
            let (lines, last) = console.trim_end().rsplit_once('\n').unwrap();
            assert_eq!(last, "journal seed=5 writes=100 ok");

            let copies = disk.copies.lock().unwrap();
            let ends: Vec<_> = lines.match_indices('f').map(|(at, _)| at).skip(1).collect();
            let ends = ends.into_iter().chain([lines.len() + 1]);
            assert_eq!(copies.len(), 100_usize.div_ceil(7));
            for (copy, end) in copies.iter().zip(ends) {
                let Acknowledged { flushes, up_to } =
                    Acknowledged::parse(&console.as_bytes()[..end]);
                let submitted = JOURNAL.submitted(flushes - 1).min(100);
                checked.assert_holds(&before, copy, up_to, submitted, mode);
            }
            let after = disk.disk.bytes();
            checked.assert_holds(&before, &after, 100, 100, mode);
        }
    }
}

#[test]
fn journal_flushes_while_writes_are_in_flight() {
    // A device that is notified before the flush would have completed all writes.
    let (disk, mut behind) = (Copied::new(), false);
    let console = journal(&disk, Notify::Trap, "depth=16");
    for (number, line) in (1..).zip(console.lines().filter(|line| line.starts_with("f "))) {
        let up_to: u64 = line[2..].parse().unwrap();
        assert!(up_to <= (number * JOURNAL.flush_every).min(100), "{line}");
        behind |= up_to < (number * JOURNAL.flush_every).min(100);
    }
    assert!(behind, "{console}");
}

#[test]
fn journal_without_a_flush_is_for_a_disk_in_write_through_mode() {
    let disk = Copied::new();
    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, &disk, Notify::Trap, false)];
    let (ok, console) = run(&mut ram, &mut hosts, "run=journal count=64 flush=off");
    let expected = "the disk is in write-back mode: without a flush nothing is stable\n";
    assert!(!ok && console.ends_with(expected), "{console}");
}

#[test]
fn journal_ends_with_the_first_failure() {
    #[derive(Clone)]
    struct Failing(MemoryBackend, bool);
    impl BlockBackend for Failing {
        fn capacity(&self) -> u64 {
            self.0.capacity()
        }
        fn read_at(&self, _: &[VolatileSlice<'_>], _: u64) -> Result<(), TransferError> {
            Ok(())
        }
        fn write_at(&self, _: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
            match position {
                4096 if !self.1 => Err(io::Error::from(io::ErrorKind::StorageFull).into()),
                _ => Ok(()),
            }
        }
        fn flush(&self) -> io::Result<()> {
            match self.1 {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        }
    }
    for (flush, expected) in [
        (false, "write at lba=8: status IOERR\n"),
        (true, "flush at lba=0: status IOERR\n"),
    ] {
        let disk = Failing(MemoryBackend::new(vec![0; SECTORS * 512]), flush);
        let mut ram = Ram::new();
        let mut hosts = [Host::new(&ram, &disk, Notify::Trap, false)];
        let (ok, console) = run(&mut ram, &mut hosts, "run=journal count=64");
        assert!(!ok && console.ends_with(expected), "{console}");
    }
}
