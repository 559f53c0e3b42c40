//! Where a machine waits until all of its threads have come: nobody passes before the last, and nobody
//! at all if one does not come. What they come for is not known here.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use devices::locks::lock;

use crate::error::Error;

/// The gate of one machine. It opens once, or never.
#[derive(Debug, Default)]
pub struct StartGate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many are awaited.
    awaited: usize,
    /// Whether nobody else will be.
    complete: bool,
    /// Whether it will never open.
    barred: bool,
    /// Why, until that has been told.
    reason: Option<Error>,
}

impl State {
    fn is_open(&self) -> bool {
        self.complete && self.awaited == 0 && !self.barred
    }

    fn is_decided(&self) -> bool {
        self.is_open() || self.barred
    }
}

impl StartGate {
    /// Has one more thread awaited.
    pub fn await_one(&self) {
        self.lock().awaited += 1;
    }

    /// One that was awaited has come.
    pub fn arrive(&self) {
        let mut state = self.lock();
        state.awaited -= 1;
        self.look(&state);
    }

    /// One that was awaited does not come, because of `reason`.
    pub fn bar(&self, reason: Error) {
        let mut state = self.lock();
        state.barred = true;
        state.reason.get_or_insert(reason);
        self.look(&state);
    }

    /// Awaits nobody else, and waits until the gate is open.
    ///
    /// # Errors
    /// Why the first does not come of those who do not.
    pub fn complete(&self) -> Result<(), Error> {
        let mut state = self.lock();
        state.complete = true;
        self.look(&state);
        drop(state);
        self.pass();
        self.lock().reason.take().map_or(Ok(()), Err)
    }

    /// Waits until the gate is open: whether it is, and not barred.
    pub fn pass(&self) -> bool {
        let mut state = self.lock();
        while !state.is_decided() {
            state = (self.changed.wait(state)).unwrap_or_else(PoisonError::into_inner);
        }
        !state.barred
    }

    /// Lets nobody pass any more who has not yet, unless the gate has opened.
    pub fn abandon(&self) {
        let mut state = self.lock();
        if !state.is_open() {
            state.barred = true;
            self.look(&state);
        }
    }

    /// Wakes those who wait, if they need not any more.
    fn look(&self, state: &State) {
        if state.is_decided() {
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

#[cfg(test)]
#[path = "start_gate_tests.rs"]
mod tests;
