//! How fast a disk may be used: a token bucket for requests and one for bytes, in their form as a
//! moment up to which everything is spent (the generic cell rate algorithm). They are told what has
//! been done, and tell how long the next request is to wait. Nothing waits here.

use std::num::NonZeroU64;
use std::time::Duration;

/// How long a disk that is not used saves up for: it may then do at once what it may do in this
/// time.
pub const BURST: Duration = Duration::from_millis(100);

/// How fast a disk may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests per second, of whatever kind and with whatever outcome; `None` is any number.
    pub iops: Option<NonZeroU64>,
    /// Bytes of the disk that are read, written, discarded or made zeros per second; `None` is any
    /// number.
    pub bps: Option<NonZeroU64>,
}

/// What a disk has been used for, held against its limits. Times are since any fixed moment.
#[derive(Debug)]
pub(super) struct Throttle {
    requests: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Throttle {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            requests: limits.iops.map(Bucket::new),
            bytes: limits.bps.map(Bucket::new),
        }
    }

    /// How long from `now` the next request is to wait. It may begin whatever it is about: what it
    /// overdraws, those after it wait for.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        let buckets = self.requests.iter().chain(&self.bytes);
        let until = buckets.map(|bucket| bucket.spent_until).max();
        until.unwrap_or_default().saturating_sub(now)
    }

    /// A request about `bytes` of the disk has been done by `now`.
    pub(super) fn spend(&mut self, now: Duration, bytes: u64) {
        for (bucket, amount) in [(&mut self.requests, 1), (&mut self.bytes, bytes)] {
            if let Some(bucket) = bucket {
                bucket.spend(now, amount);
            }
        }
    }
}

/// A bucket into which tokens flow, and out of which they are taken before they are there.
#[derive(Debug)]
struct Bucket {
    /// Tokens per second.
    rate: NonZeroU64,
    /// When all tokens have flowed in that have been taken.
    spent_until: Duration,
}

impl Bucket {
    fn new(rate: NonZeroU64) -> Self {
        let spent_until = Duration::ZERO;
        Self { rate, spent_until }
    }

    fn spend(&mut self, now: Duration, amount: u64) {
        let per_second = u128::from(Duration::from_secs(1).as_nanos() as u64);
        let nanos = u128::from(amount) * per_second / u128::from(self.rate.get());
        let flows_in = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let from = self.spent_until.max(now.saturating_sub(BURST));
        self.spent_until = from.saturating_add(flows_in);
    }
}

#[cfg(test)]
#[path = "throttle_tests.rs"]
mod tests;
