//! A gate that many may be in at once, or one who wants it for himself. Being in is not bound to a
//! thread: what the kernel does may be in it. What it keeps apart is not decided here.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Who is in, and who waits for there to be nobody. By default nobody.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many are in.
    inside: usize,
    /// How many have it closed or wait for that: nobody else gets in.
    closing: usize,
    /// Whether one has it for himself.
    closed: bool,
}

/// The gate is closed for as long as this lives.
#[derive(Debug)]
pub struct Closed<'g>(&'g Gate);

impl Gate {
    /// Gets in, unless somebody has the gate closed or waits for that.
    pub fn try_enter(&self) -> bool {
        let mut state = self.lock();
        let is_open = state.closing == 0;
        state.inside += usize::from(is_open);
        is_open
    }

    /// Gets in as soon as nobody has the gate closed or waits for that. Whoever calls this must not be
    /// in it already: he would wait for one who waits for him.
    pub fn enter(&self) {
        let mut state = self.lock();
        while state.closing > 0 {
            state = self.wait(state);
        }
        state.inside += 1;
    }

    /// Leaves, after having got in.
    pub fn leave(&self) {
        let mut state = self.lock();
        state.inside = state.inside.saturating_sub(1);
        self.changed.notify_all();
    }

    /// Closes the gate, and waits until nobody is in any more.
    pub fn close(&self) -> Closed<'_> {
        let mut state = self.lock();
        state.closing += 1;
        while state.inside > 0 || state.closed {
            state = self.wait(state);
        }
        state.closed = true;
        Closed(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        let woken = self.changed.wait(state);
        woken.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = false;
        state.closing = state.closing.saturating_sub(1);
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
