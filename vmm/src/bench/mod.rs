//! `vmm bench`: what exits and block I/O cost on this machine. Each file here measures one thing,
//! or shows what has been measured; how a machine works is the rest of the library's.

pub mod awake;
pub mod bare;
pub mod block;
pub mod board;
pub mod compare;
pub mod control;
pub mod counts;
pub mod cpu_time;
pub mod csv;
pub mod error;
pub mod exits;
pub mod figures;
pub mod files;
pub mod floor;
pub mod format;
pub mod headline;
pub mod host;
pub mod host_io;
pub mod html;
pub mod kinds;
pub mod latencies;
pub mod linux;
pub mod machine;
pub mod plot;
pub mod probe;
pub mod progress;
pub mod report;
pub mod run;
#[cfg(test)]
mod sample;
pub mod sampler;
pub mod series;
pub mod start;
pub mod tables;
pub mod text;
pub mod transcript;
pub mod tsc;
pub mod worker;

pub use run::{Measurement, Outputs, Request, run};
