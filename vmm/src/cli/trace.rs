//! The options of `--trace`, and what they ask for. Opens no file.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;

use crate::config::TraceConfig;
use crate::number::number;

/// How many events there can be room for.
const LIMITS: RangeInclusive<u32> = 1..=1_000_000;

/// What is to be traced, if anything is.
#[derive(Args, Debug)]
pub struct TraceArgs {
    /// Write what happened to FILE when the run has ended: exits, notifications, drains, requests
    /// and interrupts, in the Chrome trace-event format, which ui.perfetto.dev opens
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// How many events of each vCPU and of each queue are kept in memory for that, the last ones: an
    /// exit is one, a request two, and a drain three; at most 1000000
    #[arg(
        long,
        value_name = "N",
        default_value_t = 100_000,
        requires = "trace",
        value_parser = number(LIMITS)
    )]
    trace_limit: u32,
}

impl TraceArgs {
    /// What they say.
    pub fn config(self) -> Option<TraceConfig> {
        self.trace.map(|path| TraceConfig {
            path,
            limit: self.trace_limit,
        })
    }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
