//! The mode of the cache: the `writeback` field of the configuration space, which the driver writes
//! on one thread and whoever serves the queue reads on another. What follows from it is the disk's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether writes are volatile until a flush. Clones are the same field.
#[derive(Clone, Debug)]
pub(super) struct Writeback(Arc<AtomicBool>);

impl Default for Writeback {
    fn default() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }
}

impl Writeback {
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn set(&self, writeback: bool) {
        self.0.store(writeback, Ordering::Release);
    }
}
