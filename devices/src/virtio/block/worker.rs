//! `QueueWorker::process_queue`, the one place that drains a request queue: it takes chains, has
//! them answered, returns them and interrupts. Who calls it, and when, is not its business.

use std::sync::Arc;

use spec::Features;
use spec::mmio::InterruptStatus;
use spec::queue::Descriptor;
use vm_memory::GuestMemoryMmap;

use super::answer::{Answer, Begun, Data};
use super::disk::{Disk, Warned};
use super::engine::Engine;
use super::flight::Flight;
use super::observe::{Observers, QueueObserver};
use super::request::Buffers;
use super::stats::DrainCause;
use crate::error::DeviceError;
use crate::virtio::queue::{Batch, RingError, SplitQueue};
use crate::virtio::{Drain, InterruptState};

/// Once a drain has moved or cleared as many bytes as this it ends with the request that it is in,
/// for its caller to see whether something else is wanted: a bound in chains alone would be one of
/// hours. It is large enough for what surrounds a drain not to matter.
const SHARE: u64 = 64 << 20;
/// As how many bytes a flush counts: a disk may take tens of milliseconds for either.
const FLUSH_BYTES: u64 = 4 << 20;

/// As how many bytes a segment that is cleared counts at least: it is a call to the host, which may
/// have to wait for its file system.
const CLEAR_BYTES: u64 = 1 << 20;

/// A request queue and all that serving it needs, in the hands of one thread.
pub struct QueueWorker {
    disk: Disk,
    memory: Arc<GuestMemoryMmap>,
    queue: SplitQueue,
    /// The requests whose data is on its way.
    flight: Flight,
    interrupt: Arc<InterruptState>,
    /// The rings could not be understood: the queue is not touched until it is set up anew.
    broken: bool,
    /// What is left of it is served first by the next drain.
    batch: Batch,
    /// What the drain has done so far, as a number of bytes.
    effort: u64,
    descriptors: Vec<Descriptor>,
    /// What the next drain begins for.
    cause: DrainCause,
    observers: Observers,
}

impl QueueWorker {
    /// A worker that serves `queue`, the one with this `index`, from `disk` by `engine`, for a driver
    /// that has accepted `features`.
    #[must_use]
    pub fn new(
        (mut disk, engine): (Disk, Box<dyn Engine>),
        memory: GuestMemoryMmap,
        (index, queue): (u16, SplitQueue),
        features: Features,
        interrupt: Arc<InterruptState>,
    ) -> Self {
        disk.negotiated(features);
        let observers = Observers::none(disk.id(), index);
        let memory = Arc::new(memory);
        Self {
            disk,
            flight: Flight::new(engine, Arc::clone(&memory)),
            memory,
            queue,
            interrupt,
            broken: false,
            batch: Batch::default(),
            effort: 0,
            descriptors: Vec::new(),
            cause: DrainCause::Activation,
            observers,
        }
    }

    /// Has `observer` watch from the next drain on, after those that do already.
    pub fn observe(&mut self, observer: Box<dyn QueueObserver>) {
        self.observers.add(observer);
    }

    /// The next drain begins for `cause`, unless it would have begun without it: for a notification
    /// by trap, if nobody tells.
    pub(super) fn woken(&mut self, cause: DrainCause) {
        if self.cause.is_notification() {
            self.cause = cause;
        }
    }

    /// Looks at the size of the disk, if somebody wishes for that, and tells the driver of another.
    ///
    /// # Errors
    /// An interrupt could not be raised.
    pub(super) fn resize(&mut self) -> Result<(), DeviceError> {
        match self.disk.resize() {
            true => {
                let read = |space: &mut [u8]| self.disk.read_config(space);
                self.interrupt.config_changed(read)?;
                self.observers.interrupted(InterruptStatus::CONFIG_CHANGE);
                Ok(())
            }
            false => Ok(()),
        }
    }

    /// Serves what is in the queue, at most as many chains as the queue is long and little more
    /// than 64 MiB of data, 16 flushes or 64 segments to clear, as far as the limits of the disk
    /// allow it, and sends one used buffer notification if the driver wants it.
    ///
    /// The driver is asked not to notify. After a complete drain it is the caller's to look into
    /// the queue again, or to [rearm](Self::rearm_notifications) the notifications.
    ///
    /// # Errors
    /// An interrupt could not be raised.
    pub fn process_queue(&mut self) -> Result<Drain, DeviceError> {
        self.resize()?;
        if self.broken {
            return Ok(Drain::Complete);
        }
        let (cause, next_avail) = (self.cause, self.queue.next_avail());
        self.observers.drain_begins(cause, next_avail);
        let drained = self.drain();
        if let Err(error) = &drained {
            self.broken = true;
            self.disk.warn(Warned::Rings, || {
                format!("{error}; the device needs a reset, and may again")
            });
        }
        let drained = drained.unwrap_or(Drain::Complete);
        self.cause = match drained {
            Drain::More | Drain::Later(_) => DrainCause::Continuation,
            // Whoever calls again without a word does so for a notification that it got.
            Drain::Complete => DrainCause::Trap,
        };
        let interrupts = self.queue.wants_interrupt();
        self.observers.drain_ends(drained, interrupts);
        if interrupts {
            self.interrupt.used_buffer()?;
            self.observers.interrupted(InterruptStatus::USED_BUFFER);
        }
        if self.broken {
            self.interrupt.needs_reset()?;
            self.observers.interrupted(InterruptStatus::CONFIG_CHANGE);
        }
        Ok(drained)
    }

    /// Whether there is something in the queue.
    #[must_use]
    pub fn has_available(&self) -> bool {
        !self.broken && self.queue.has_available()
    }

    /// Asks the driver to notify, and returns whether there is something in the queue already, for
    /// which it may not have notified.
    #[must_use]
    pub fn rearm_notifications(&mut self) -> bool {
        !self.broken && self.queue.rearm_notifications()
    }

    /// Ends with the queue, and returns its engine, which has nothing of it any more.
    ///
    /// # Errors
    /// The engine cannot wait for what it has.
    pub fn end(self) -> Result<Box<dyn Engine>, DeviceError> {
        Ok(self.flight.into_engine())
    }

    fn drain(&mut self) -> Result<Drain, RingError> {
        let memory = Arc::clone(&self.memory);
        let mut chains = self.queue.size();
        self.effort = 0;

        self.queue.suppress_notifications();
        while chains > 0 && self.effort < SHARE {
            let Some(head) = self.batch.heads.pop_front() else {
                if self.queue.take(chains, &mut self.batch)? == 0 {
                    break;
                }
                self.observers.taken(&self.batch);
                chains = chains.saturating_sub(self.batch.refused);
                if self.batch.refused > 0 {
                    self.disk.warn(Warned::Head, || {
                        "skipped a head that is not one, or is in flight; there may be more".into()
                    });
                }
                continue;
            };
            if let Some(wait) = self.disk.wait() {
                self.batch.heads.push_front(head);
                return Ok(Drain::Later(wait));
            }
            chains = chains.saturating_sub(1);
            self.serve(&memory, head);
        }
        let spent = chains == 0 || self.effort >= SHARE;
        Ok(if spent { Drain::More } else { Drain::Complete })
    }

    /// Serves the chain from `head`.
    fn serve(&mut self, memory: &GuestMemoryMmap, head: u16) {
        let mut descriptors = std::mem::take(&mut self.descriptors);
        match self.queue.walk(memory, head, &mut descriptors) {
            Ok(()) => {
                let descriptors = &descriptors;
                let buffers = Buffers {
                    memory,
                    descriptors,
                };
                self.request(head, &buffers);
            }
            Err(error) => {
                self.observers.refused(head, &error);
                self.disk.warn(Warned::Chain, || {
                    format!("refused a chain, and may refuse more: {error}")
                });
                self.disk.spend(0);
                self.complete(head, &Answer::default());
            }
        }
        self.descriptors = descriptors;
    }

    /// Serves the request in `buffers`, those of the chain from `head`.
    fn request(&mut self, head: u16, buffers: &Buffers<'_>) {
        let memory = buffers.memory;
        let disk = self.disk.clone();
        let held = disk.hold();
        let parsed = held.parse(buffers);
        self.observers.submitted(head, buffers.descriptors, &parsed);
        let request = match parsed {
            Ok(request) => request,
            Err(error) => {
                self.disk.spend(0);
                let answer = self.disk.refuse(memory, &error);
                return self.answered(head, &answer);
            }
        };
        let begun = self.disk.begin(head, &request);
        self.spend(&begun);
        let outcome = match Data::of(&request.operation) {
            Some(data) => match self.flight.push(begun, &data) {
                Ok(()) => return self.reap(),
                Err(error) => Err(error.into()),
            },
            None => self.disk.execute(memory, &begun, &request.operation),
        };
        let answer = self.disk.end(memory, &begun, outcome);
        self.answered(head, &answer);
    }

    /// Counts a request that has begun.
    fn spend(&mut self, request: &Begun) {
        self.disk.spend(request.moved);
        let flush = if request.flushes { FLUSH_BYTES } else { 0 };
        let clears = CLEAR_BYTES.saturating_mul(request.clears);
        let effort = request.moved.max(clears).saturating_add(flush);
        self.effort = self.effort.saturating_add(effort);
    }

    /// Returns the chains of the requests whose data has come to the end of its way.
    fn reap(&mut self) {
        while let Some((request, outcome)) = self.flight.pop(&**self.disk.backend()) {
            let answer = self.disk.end(&self.memory, &request, outcome);
            self.answered(request.head, &answer);
        }
    }

    /// Returns the chain from `head`, whose request has been answered.
    fn answered(&mut self, head: u16, answer: &Answer) {
        self.observers.answered(head, answer);
        self.complete(head, answer);
    }

    /// Returns the chain from `head`.
    fn complete(&mut self, head: u16, answer: &Answer) {
        let used = self.queue.next_used();
        self.queue.add_used(head, answer.written);
        self.observers.completed(head, used, answer);
    }
}
