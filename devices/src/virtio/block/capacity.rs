//! The size of a disk that several queues use: it changes only while no request is held against it. Who
//! looks for another size, and when, is not decided here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::backend::Gate;

/// The size of a disk. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Capacity(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sectors: AtomicU64,
    /// Whoever holds it is in this, and closed it is for whoever changes it.
    gate: Gate,
}

/// Somebody's hold on the size: while he has it nobody changes it.
#[derive(Debug)]
pub(super) struct Hold {
    capacity: Capacity,
    sectors: Option<u64>,
}

impl Capacity {
    /// That of a disk of as many `sectors`.
    pub(super) fn new(sectors: u64) -> Self {
        Self(Arc::new(Shared {
            sectors: AtomicU64::new(sectors),
            gate: Gate::default(),
        }))
    }

    /// Whoever may hold it, and does not yet.
    pub(super) fn holder(&self) -> Hold {
        Hold {
            capacity: self.clone(),
            sectors: None,
        }
    }

    /// Has `change` make another size of it, or none, when nobody holds it any more.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut u64) -> T) -> T {
        let _closed = self.0.gate.close();
        let mut sectors = self.0.sectors.load(Ordering::Relaxed);
        let changed = change(&mut sectors);
        self.0.sectors.store(sectors, Ordering::Relaxed);
        changed
    }
}

impl Hold {
    /// The size, in sectors. From the first call on it is held.
    pub(super) fn sectors(&mut self) -> u64 {
        let shared = &*self.capacity.0;
        *self.sectors.get_or_insert_with(|| {
            shared.gate.enter();
            shared.sectors.load(Ordering::Relaxed)
        })
    }

    /// Lets others change it.
    pub(super) fn release(&mut self) {
        if self.sectors.take().is_some() {
            self.capacity.0.gate.leave();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
#[path = "capacity_tests.rs"]
mod tests;
