//! How far a benchmark has come, for somebody who waits for it. What measures calls a [`Progress`]
//! between its samples, never within one.

/// Somebody who is told how far a benchmark has come.
pub trait Progress {
    /// A part begins, named `what`, of `steps` steps.
    fn begin(&mut self, what: &str, steps: u64);
    /// A step of that part begins, concerned with `now`.
    fn step(&mut self, now: &str);
}

/// Nobody.
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _what: &str, _steps: u64) {}
    fn step(&mut self, _now: &str) {}
}
