//! A gate that many may be in at once, or one who wants it for himself. Being in is not bound to a
//! thread: what the kernel does may be in it. What it keeps apart is not decided here.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::locks::lock;

/// Who is in, and who waits for there to be nobody. By default nobody.
///
/// Who gets in counts himself and then looks whether it is closing, who closes it does both the other
/// way round: in the one order that all of these have, one of them comes first, and the other sees it.
#[derive(Debug, Default)]
pub struct Gate {
    /// How many are in, or look whether they can be.
    inside: AtomicUsize,
    /// Whether somebody has it closed, or waits for that.
    closing: AtomicBool,
    /// Held by those who wait, and those who have something to tell them.
    waiting: Mutex<()>,
    told: Condvar,
}

/// Somebody is in for as long as this lives.
#[derive(Debug)]
pub struct Inside<'g>(&'g Gate);

/// The gate is closed for as long as this lives.
#[derive(Debug)]
pub struct Closed<'g>(&'g Gate);

impl Gate {
    /// Gets in, unless somebody has the gate closed or waits for that.
    pub fn try_enter(&self) -> bool {
        self.inside.fetch_add(1, Ordering::SeqCst);
        if self.is_closing() {
            self.leave();
            return false;
        }
        true
    }

    /// Gets in as soon as nobody has the gate closed or waits for that. Whoever calls this must not be
    /// in it already: he would wait for one who waits for him.
    pub fn enter(&self) {
        while !self.try_enter() {
            drop(self.wait_while(lock(&self.waiting), || self.is_closing()));
        }
    }

    /// Leaves, after having got in.
    pub fn leave(&self) {
        if self.inside.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_closing() {
            let _waiting = lock(&self.waiting);
            self.told.notify_all();
        }
    }

    /// The same as [`enter`](Self::enter), for as long as the caller has what this returns.
    pub fn pass(&self) -> Inside<'_> {
        self.enter();
        Inside(self)
    }

    /// Closes the gate, and waits until nobody is in any more.
    pub fn close(&self) -> Closed<'_> {
        let waiting = self.wait_while(lock(&self.waiting), || self.is_closing());
        self.closing.store(true, Ordering::SeqCst);
        drop(self.wait_while(waiting, || self.inside.load(Ordering::SeqCst) > 0));
        Closed(self)
    }

    /// Whether somebody has it closed, or waits for that.
    pub(in crate::virtio::block) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
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

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        let _waiting = lock(&self.0.waiting);
        self.0.closing.store(false, Ordering::SeqCst);
        self.0.told.notify_all();
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
