//! What `vmm explain` and the guest's `run=explain` have agreed on.

/// How a line on the console begins by which the guest says that it was waiting for a request, and
/// goes on.
pub const WOKEN: &str = "woken:";
