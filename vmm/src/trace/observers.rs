//! Who writes events down: what the observers of a queue and of a vCPU are told, each into the ring
//! that it has. They keep nothing else.

use std::thread;

use devices::virtio::Drain;
use devices::virtio::block::disk::Answer;
use devices::virtio::block::observe::QueueObserver;
use devices::virtio::block::request::{ParseError, Request};
use devices::virtio::block::stats::DrainCause;
use devices::virtio::chain::ChainError;
use devices::virtio::queue::Batch;
use spec::block::SECTOR_SIZE;
use spec::mmio::InterruptStatus;
use spec::queue::Descriptor;

use super::event::{Clock, Event, What};
use super::ring::Writer;
use crate::observe::{ExitObserver, HandledExit};
use crate::stats::exits::ExitSite;

/// Writes down the exits of a vCPU.
#[derive(Debug)]
pub struct ExitTracer {
    writer: Writer,
    clock: Clock,
    /// The exit that is being handled, and when that began.
    begun: Option<(ExitSite, u64)>,
}

impl ExitTracer {
    pub(super) fn new(writer: Writer, clock: Clock) -> Self {
        Self {
            writer,
            clock,
            begun: None,
        }
    }

    fn write(&mut self, site: ExitSite, begun: u64, len: usize, value: u64) {
        let what = What::Exit {
            end: self.clock.now(),
            kind: site.kind,
            address: site.address.unwrap_or(0),
            len: u32::try_from(len).unwrap_or(u32::MAX),
            value,
        };
        self.writer.ring().write(Event { time: begun, what });
    }
}

impl ExitObserver for ExitTracer {
    fn begins(&mut self, site: ExitSite) {
        let ring = self.writer.ring();
        ring.thread.get_or_insert_with(|| thread::current().id());
        self.begun = Some((site, self.clock.now()));
    }

    fn ends(&mut self, exit: &HandledExit<'_>) {
        if let Some((site, begun)) = self.begun.take() {
            self.write(site, begun, exit.len, exit.value);
        }
    }
}

impl Drop for ExitTracer {
    /// An exit that is being handled is one that the thread has panicked in.
    fn drop(&mut self) {
        if let Some((site, begun)) = self.begun.take() {
            self.write(site, begun, 0, 0);
        }
    }
}

/// Writes down what is done with a queue.
#[derive(Debug)]
pub struct QueueTracer {
    writer: Writer,
    clock: Clock,
}

impl QueueTracer {
    pub(super) fn new(writer: Writer, clock: Clock) -> Self {
        Self { writer, clock }
    }

    fn write(&mut self, what: What) {
        let time = self.clock.now();
        self.writer.ring().write(Event { time, what });
    }
}

impl QueueObserver for QueueTracer {
    fn drain_begins(&mut self, cause: DrainCause, _next_avail: u16) {
        let thread = thread::current().id();
        self.write(What::DrainBegins { cause, thread });
    }

    fn taken(&mut self, batch: &Batch) {
        let refused = batch.refused;
        self.write(What::Taken { refused });
    }

    fn submitted(
        &mut self,
        head: u16,
        descriptors: &[Descriptor],
        request: &Result<Request<'_>, ParseError>,
    ) {
        let operation = request.as_ref().ok().map(|request| &request.operation);
        let position = operation.and_then(|operation| operation.position());
        self.write(What::Submitted {
            head,
            descriptors: u16::try_from(descriptors.len()).unwrap_or(u16::MAX),
            sector: position.map(|position| position / SECTOR_SIZE),
            bytes: operation.map_or(0, |operation| operation.byte_count()),
        });
    }

    fn refused(&mut self, head: u16, _error: &ChainError) {
        self.write(What::Submitted {
            head,
            descriptors: 0,
            sector: None,
            bytes: 0,
        });
    }

    fn completed(&mut self, head: u16, used: u16, answer: &Answer) {
        self.write(What::Completed {
            head,
            kind: answer.kind,
            failed: answer.failed,
            status: answer.status,
            written: answer.written,
            used,
        });
    }

    fn drain_ends(&mut self, drain: Drain, interrupts: bool) {
        let more = drain == Drain::More;
        self.write(What::DrainEnds { more, interrupts });
    }

    fn interrupted(&mut self, event: InterruptStatus) {
        let used_buffer = event == InterruptStatus::USED_BUFFER;
        self.write(What::Interrupted { used_buffer });
    }
}

#[cfg(test)]
#[path = "observers_tests.rs"]
mod tests;
