//! The size of a disk that several queues use: it changes only while no request is held against it. Who
//! looks for another size, and when, is not decided here.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The size of a disk. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Capacity(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sectors: AtomicU64,
    /// How many hold it.
    holds: AtomicUsize,
    /// Whether somebody changes it, or waits until he can.
    changing: AtomicBool,
    /// Held by those who wait, and those who have something to tell them.
    waiting: Mutex<()>,
    told: Condvar,
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
            holds: AtomicUsize::new(0),
            changing: AtomicBool::new(false),
            waiting: Mutex::new(()),
            told: Condvar::new(),
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
        let shared = &*self.0;
        let mut waiting = shared.wait_while(shared.lock(), || shared.is_changing());
        shared.changing.store(true, Ordering::SeqCst);
        waiting = shared.wait_while(waiting, || shared.holds.load(Ordering::SeqCst) > 0);
        let mut sectors = shared.sectors.load(Ordering::Relaxed);
        let changed = change(&mut sectors);
        shared.sectors.store(sectors, Ordering::Relaxed);
        shared.changing.store(false, Ordering::SeqCst);
        shared.told.notify_all();
        drop(waiting);
        changed
    }
}

impl Hold {
    /// The size, in sectors. From the first call on it is held.
    pub(super) fn sectors(&mut self) -> u64 {
        let shared = &*self.capacity.0;
        *self.sectors.get_or_insert_with(|| shared.hold())
    }

    /// Lets others change it.
    pub(super) fn release(&mut self) {
        if self.sectors.take().is_some() {
            self.capacity.0.release();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

/// One stores `changing` and then looks at `holds`, the other the other way round: in the one order
/// that all of these have, one of them comes first, and the other sees it.
impl Shared {
    fn hold(&self) -> u64 {
        loop {
            self.holds.fetch_add(1, Ordering::SeqCst);
            if !self.is_changing() {
                return self.sectors.load(Ordering::Relaxed);
            }
            self.release();
            drop(self.wait_while(self.lock(), || self.is_changing()));
        }
    }

    fn release(&self) {
        if self.holds.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_changing() {
            let _waiting = self.lock();
            self.told.notify_all();
        }
    }

    fn is_changing(&self) -> bool {
        self.changing.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'s>(
        &'s self,
        waiting: MutexGuard<'s, ()>,
        is_so: impl Fn() -> bool,
    ) -> MutexGuard<'s, ()> {
        let waited = self.told.wait_while(waiting, |()| is_so());
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "capacity_tests.rs"]
mod tests;
