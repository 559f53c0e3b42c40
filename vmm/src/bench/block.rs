//! What block I/O costs.

pub mod disk;
pub mod options;
