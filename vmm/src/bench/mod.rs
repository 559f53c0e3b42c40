//! `vmm bench`: what exits and block I/O cost on this machine. Each file here measures one thing,
//! or shows what has been measured; how a machine works is the rest of the library's.

pub mod progress;
pub mod report;
pub mod series;
