//! `run=stalled`, against the device: that a disk which is slow keeps nobody from another, and that it
//! is told where it is not slow.

use std::io;
use std::sync::{Arc, Condvar, Mutex};

use devices::virtio::block::BlockBackend;
use devices::virtio::block::backend::{MemoryBackend, TransferError};
use vm_memory::VolatileSlice;

use crate::host::{Host, Notify, Ram, run};

/// A disk whose reads take until it is let go.
#[derive(Clone)]
struct Slow {
    disk: MemoryBackend,
    may_go: Arc<(Mutex<bool>, Condvar)>,
}

impl Slow {
    fn new(may_go: bool) -> Self {
        Self {
            disk: disk(),
            may_go: Arc::new((Mutex::new(may_go), Condvar::new())),
        }
    }

    fn let_go(&self) {
        *self.may_go.0.lock().unwrap() = true;
        self.may_go.1.notify_all();
    }
}

impl BlockBackend for Slow {
    fn capacity(&self) -> u64 {
        self.disk.capacity()
    }

    fn read_at(&self, to: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        let may_go = self.may_go.0.lock().unwrap();
        drop(self.may_go.1.wait_while(may_go, |may_go| !*may_go).unwrap());
        self.disk.read_at(to, position)
    }

    fn write_at(&self, from: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.disk.write_at(from, position)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn disk() -> MemoryBackend {
    MemoryBackend::new(vec![0x5a; 64 * 512])
}

/// Runs the workload with a disk that `may_go` at once, or not before it has ended.
fn stalled(notify: Notify, may_go: bool) -> (bool, String) {
    let slow = Slow::new(may_go);
    let mut ram = Ram::new();
    let mut hosts = [
        Host::new(&ram, &slow, notify, false),
        Host::new(&ram, &disk(), notify, false),
    ];
    let ended = run(&mut ram, &mut hosts, "run=stalled rounds=200");
    slow.let_go();
    ended
}

#[test]
fn a_disk_that_is_slow_keeps_nobody_from_another() {
    for notify in [Notify::IoEventFd, Notify::Poll] {
        let (ok, console) = stalled(notify, false);
        let verdict = "stalled disk=0 beside=1 rounds=200 ok\n";
        assert!(ok && console == verdict, "{notify:?}: {console}");
    }
}

#[test]
fn a_disk_that_is_not_slow_is_told_of() {
    let (ok, console) = stalled(Notify::Trap, true);
    let reason = "the disk has answered all by now: it is to be a slow one\n";
    assert!(!ok && console.ends_with(reason), "{console}");
}
