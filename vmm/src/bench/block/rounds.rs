//! What rounds of requests have found so far, whoever made them, and what that comes to.

use super::super::latencies::Latencies;
use super::super::report::{Series, Throughput};

/// How fast requests were.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Requests per second, of each round.
    pub(super) iops: Vec<f64>,
    /// Of the requests of all rounds.
    pub(super) latencies: Latencies,
}

impl Rounds {
    pub(super) fn throughput(&self) -> Throughput {
        Throughput {
            iops: Series::new(self.iops.clone()),
            latency: self.latencies.summary(),
        }
    }
}
