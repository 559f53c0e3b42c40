//! What the request queue of a block device has done: counts and latencies, and who keeps them
//! while the queue is served. It looks at no ring and no request.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use spec::block::status;

use super::answer::Answer;
use super::observe::QueueObserver;
use super::request::{Operation, ParseError, Request};
use crate::distribution::Distribution;
use crate::locks::lock;
use crate::virtio::Drain;
use crate::virtio::queue::Batch;

/// What a chain turned out to ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestKind {
    /// VIRTIO_BLK_T_IN.
    In,
    /// VIRTIO_BLK_T_OUT.
    Out,
    /// VIRTIO_BLK_T_FLUSH.
    Flush,
    /// VIRTIO_BLK_T_GET_ID.
    GetId,
    /// VIRTIO_BLK_T_DISCARD.
    Discard,
    /// VIRTIO_BLK_T_WRITE_ZEROES.
    WriteZeroes,
    /// A type or a flag that the device does not know: answered with VIRTIO_BLK_S_UNSUPP.
    Unsupported,
    /// No sound request, or one that this disk does not take: answered with VIRTIO_BLK_S_IOERR
    /// where there is a status byte to answer with.
    #[default]
    Refused,
}

impl RequestKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::In,
        Self::Out,
        Self::Flush,
        Self::GetId,
        Self::Discard,
        Self::WriteZeroes,
        Self::Unsupported,
        Self::Refused,
    ];

    /// The kind of what parsing has found.
    #[must_use]
    pub fn of(parsed: &Result<Request<'_>, ParseError>) -> Self {
        match parsed {
            Ok(request) => Self::of_operation(&request.operation),
            Err(error) => Self::of_error(error),
        }
    }

    /// The kind of a sound request.
    #[must_use]
    pub fn of_operation(operation: &Operation<'_>) -> Self {
        match operation {
            Operation::In { .. } => Self::In,
            Operation::Out { .. } => Self::Out,
            Operation::Flush => Self::Flush,
            Operation::GetId { .. } => Self::GetId,
            Operation::Discard(_) => Self::Discard,
            Operation::WriteZeroes(_) => Self::WriteZeroes,
        }
    }

    /// The kind of one that is refused.
    #[must_use]
    pub fn of_error(error: &ParseError) -> Self {
        match error.code() {
            status::UNSUPP => Self::Unsupported,
            _ => Self::Refused,
        }
    }

    /// The specification's name of the type; for what has none, what became of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::In => "IN",
            Self::Out => "OUT",
            Self::Flush => "FLUSH",
            Self::GetId => "GET_ID",
            Self::Discard => "DISCARD",
            Self::WriteZeroes => "WRITE_ZEROES",
            Self::Unsupported => "unsupported",
            Self::Refused => "refused",
        }
    }
}

/// What made a drain of the queue begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainCause {
    /// The driver's write to QueueNotify came to the transport.
    Trap,
    /// The kernel turned that write into one to an eventfd.
    EventFd,
    /// Nobody asked: the available ring was looked at.
    Poll,
    /// The device was activated; there may be buffers from before.
    Activation,
    /// The drain before had come to its bound.
    Continuation,
    /// Data that was on its way had come to its end.
    Completion,
}

impl DrainCause {
    /// Every cause.
    pub const ALL: [Self; 6] = [
        Self::Trap,
        Self::EventFd,
        Self::Poll,
        Self::Activation,
        Self::Continuation,
        Self::Completion,
    ];

    /// Whether the device was told of available buffers, or looked for them itself.
    #[must_use]
    pub const fn is_notification(self) -> bool {
        matches!(self, Self::Trap | Self::EventFd | Self::Poll)
    }

    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::EventFd => "eventfd",
            Self::Poll => "poll",
            Self::Activation => "activation",
            Self::Continuation => "continuation",
            Self::Completion => "completion",
        }
    }
}

/// What has become of the requests of one kind.
#[derive(Clone, Debug, Default)]
pub struct RequestStats {
    /// How many of them the host failed; they are answered with VIRTIO_BLK_S_IOERR.
    pub failed: u64,
    /// How many bytes of the disk the others have moved or cleared.
    pub bytes: u64,
    /// For each of them the time from when its chain was taken from the available ring to when it
    /// was in the used ring, in nanoseconds.
    pub latency: Distribution,
}

impl RequestStats {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.latency.count()
    }
}

/// What a request queue has done, over all lives of its device.
#[derive(Clone, Debug, Default)]
pub struct QueueStats {
    requests: [RequestStats; RequestKind::ALL.len()],
    drains: [u64; DrainCause::ALL.len()],
    /// How many requests each drain that found any has served.
    pub batch: Distribution,
    /// How many requests have had their data moved together with that of neighbours.
    pub merged: u64,
    /// By how many calls.
    pub merged_calls: u64,
    /// How many entries of the available ring were no head, or one that was in flight: nothing
    /// can be used for these.
    pub skipped: u64,
    /// How many used buffer notifications have been sent.
    pub interrupts: u64,
    /// How many drains have used buffers that the driver did not want to be told of.
    pub suppressed: u64,
}

impl QueueStats {
    /// The requests of this kind.
    #[must_use]
    pub fn requests(&self, kind: RequestKind) -> &RequestStats {
        &self.requests[kind as usize]
    }

    /// How many requests of any kind there were.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.requests.iter().map(RequestStats::count).sum()
    }

    /// The latency of requests of any kind, in nanoseconds.
    #[must_use]
    pub fn latency(&self) -> Distribution {
        let mut all = Distribution::new();
        for requests in &self.requests {
            all.add(&requests.latency);
        }
        all
    }

    /// How many drains began for this cause.
    #[must_use]
    pub fn drains(&self, cause: DrainCause) -> u64 {
        self.drains[cause as usize]
    }

    /// How many drains there were.
    #[must_use]
    pub fn drain_count(&self) -> u64 {
        self.drains.iter().sum()
    }

    /// How many drains found nothing to serve.
    #[must_use]
    pub fn empty_drains(&self) -> u64 {
        self.drain_count().saturating_sub(self.batch.count())
    }
}

/// The statistics of a queue, shared between whoever serves it and those who look. They are locked
/// for each request and drain alone, never during I/O.
#[derive(Clone, Default)]
pub struct SharedQueueStats(Arc<Mutex<QueueStats>>);

impl SharedQueueStats {
    /// What the queue has done up to this moment.
    #[must_use]
    pub fn snapshot(&self) -> QueueStats {
        self.with(|stats| stats.clone())
    }

    fn with<T>(&self, f: impl FnOnce(&mut QueueStats) -> T) -> T {
        f(&mut lock(&self.0))
    }
}

impl fmt::Debug for SharedQueueStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.snapshot().fmt(f)
    }
}

/// Keeps the statistics of a queue as it is served, from one activation of its device on.
pub struct QueueRecorder {
    stats: SharedQueueStats,
    /// What the drain has begun for.
    cause: DrainCause,
    /// When each chain was taken, by its head.
    taken: Vec<Instant>,
    /// How many requests the drain has served so far.
    batch: u64,
}

impl QueueRecorder {
    /// Whoever adds to `stats`.
    #[must_use]
    pub fn new(stats: SharedQueueStats) -> Self {
        Self {
            stats,
            cause: DrainCause::Activation,
            taken: Vec::new(),
            batch: 0,
        }
    }
}

impl QueueObserver for QueueRecorder {
    fn drain_begins(&mut self, cause: DrainCause, _next_avail: u16) {
        self.cause = cause;
    }

    fn taken(&mut self, batch: &Batch) {
        let now = Instant::now();
        for head in batch.heads.iter().copied().map(usize::from) {
            if self.taken.len() <= head {
                self.taken.resize(head + 1, now);
            }
            self.taken[head] = now;
        }
        if batch.refused > 0 {
            (self.stats).with(|stats| stats.skipped += u64::from(batch.refused));
        }
    }

    fn merged(&mut self, requests: usize) {
        self.stats.with(|stats| {
            stats.merged += requests as u64;
            stats.merged_calls += 1;
        });
    }

    fn completed(&mut self, head: u16, _used: u16, answer: &Answer) {
        let taken = self.taken.get(usize::from(head));
        let latency = taken.map(Instant::elapsed).unwrap_or_default();
        self.batch += 1;
        self.stats.with(|stats| {
            let requests = &mut stats.requests[answer.kind as usize];
            requests.latency.record_time(latency);
            if answer.failed {
                requests.failed += 1;
            } else {
                requests.bytes += answer.moved;
            }
        });
    }

    fn drain_ends(&mut self, _drain: Drain, interrupts: bool) {
        let batch = std::mem::take(&mut self.batch);
        let cause = self.cause;
        self.stats.with(|stats| {
            stats.drains[cause as usize] += 1;
            if batch > 0 {
                stats.batch.record(batch);
                if interrupts {
                    stats.interrupts += 1;
                } else {
                    stats.suppressed += 1;
                }
            }
        });
    }
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
