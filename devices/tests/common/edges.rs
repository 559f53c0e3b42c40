//! An interrupt that counts its edges, and lets a test wait for them, or fails.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use devices::virtio::Interrupt;

use super::LIMIT;

/// Counts the edges of an interrupt, and lets them be awaited.
#[derive(Default)]
pub struct Edges {
    count: Mutex<u64>,
    raised: Condvar,
    /// Whether no edge can be raised any more.
    pub fail: AtomicBool,
}

impl Interrupt for Edges {
    fn signal(&self) -> io::Result<()> {
        if self.fail.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::Other.into());
        }
        *self.count.lock().unwrap() += 1;
        self.raised.notify_all();
        Ok(())
    }
}

impl Edges {
    pub fn count(&self) -> u64 {
        *self.count.lock().unwrap()
    }

    /// Waits until there have been `count` edges.
    pub fn wait_for(&self, count: u64) {
        let waited = self
            .raised
            .wait_timeout_while(self.count.lock().unwrap(), LIMIT, |seen| *seen < count);
        let (seen, _) = waited.unwrap();
        assert!(*seen >= count, "{seen} of {count} edges in {LIMIT:?}");
    }

    /// Waits until `done` says so, looking again after every edge.
    pub fn wait_until(&self, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + LIMIT;
        let mut count = self.count.lock().unwrap();
        while !done() {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nothing happened for {LIMIT:?}");
            count = self.raised.wait_timeout(count, left).unwrap().0;
        }
    }
}
