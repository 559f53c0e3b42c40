//! `run=hostile case=smp-...`, with threads in the part of CPUs, in every notify mode: that the
//! device survives them, and that the disk holds only what a request can rightly have written.

use std::io;

use devices::virtio::block::BlockBackend;
use devices::virtio::block::backend::{MemoryBackend, TransferError};
use guest::rng::pattern;
use vm_memory::VolatileSlice;

use crate::host::{Host, Notify, Ram, run};
use crate::hostile_smp_sectors::{WRITTEN, is_known, is_whole};

const SECTORS: usize = 80;
/// How often a case is run that is quick: a header that were read twice would be noticed in two of
/// three runs on two busy CPUs.
const OFTEN: u32 = 3;
const NOTIFY: [Notify; 3] = [Notify::Trap, Notify::IoEventFd, Notify::Poll];

/// A disk with more behind its end, so that it can be seen whether anything is written there.
#[derive(Clone)]
struct Fenced(MemoryBackend);

impl BlockBackend for Fenced {
    fn capacity(&self) -> u64 {
        SECTORS as u64
    }

    fn read_at(&self, slices: &[VolatileSlice<'_>], at: u64) -> Result<(), TransferError> {
        self.0.read_at(slices, at)
    }

    fn write_at(&self, slices: &[VolatileSlice<'_>], at: u64) -> Result<(), TransferError> {
        self.0.write_at(slices, at)
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Runs a case, and sees that it says that all is well and has left all other sectors alone, but for
/// the first ones, which other cases know. `is_legal` says what the sectors may hold.
fn survives(case: &str, is_legal: fn(usize, &[u8]) -> bool) {
    for notify in NOTIFY {
        let mut before = vec![0; 2 * SECTORS * 512];
        pattern(99, 0, &mut before);
        let disk = MemoryBackend::new(before.clone());
        let mut ram = Ram::new();
        let mut hosts = [Host::new(&ram, &Fenced(disk.clone()), notify, false)];
        let (ok, console) = run(&mut ram, &mut hosts, &format!("run=hostile case={case}"));
        assert!(ok, "{notify:?}: {console}");
        assert!(!console.contains("# SKIP"), "{console}");
        assert!(console.contains(&format!("ok 2 - {case}, indirect")));
        let after = disk.bytes();
        assert!(after[WRITTEN.end * 512..] == before[WRITTEN.end * 512..]);
        for (lba, sector) in WRITTEN.zip(after[WRITTEN.start * 512..].chunks(512)) {
            let shown = &sector[..32];
            assert!(is_legal(lba, sector), "{notify:?}, {lba}: {shown:x?}");
        }
    }
}

#[test]
fn descriptors_that_change_under_the_device_lead_nowhere_else() {
    (0..OFTEN).for_each(|_| survives("smp-descriptors", is_known));
}

#[test]
fn headers_that_change_under_the_device_are_read_once() {
    (0..OFTEN).for_each(|_| survives("smp-headers", is_whole));
}

#[test]
fn indices_that_change_under_the_device_at_most_need_a_reset() {
    survives("smp-indices", is_whole);
}

#[test]
fn a_device_that_is_reset_while_it_is_used_comes_to_rest_and_back() {
    survives("smp-reset", is_whole);
}
