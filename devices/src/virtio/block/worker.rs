//! `QueueWorker::process_queue`, the one place that drains a request queue: it takes chains, has
//! them answered, returns them and interrupts. Who calls it, and when, is not its business.

use std::sync::Arc;

use spec::Features;
use spec::mmio::InterruptStatus;
use spec::queue::Descriptor;
use vm_memory::GuestMemoryMmap;

use super::disk::{Answer, Disk, Warned};
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
    memory: GuestMemoryMmap,
    queue: SplitQueue,
    interrupt: Arc<InterruptState>,
    /// The rings could not be understood: the queue is not touched until it is set up anew.
    broken: bool,
    /// What is left of it is served first by the next drain.
    batch: Batch,
    descriptors: Vec<Descriptor>,
    /// What the next drain begins for.
    cause: DrainCause,
    observers: Observers,
}

impl QueueWorker {
    /// A worker that serves `queue`, the one with this `index`, from `disk`, for a driver that has accepted `features`.
    #[must_use]
    pub fn new(
        mut disk: Disk,
        memory: GuestMemoryMmap,
        (index, queue): (u16, SplitQueue),
        features: Features,
        interrupt: Arc<InterruptState>,
    ) -> Self {
        disk.negotiated(features);
        let observers = Observers::none(disk.id(), index);
        Self {
            disk,
            memory,
            queue,
            interrupt,
            broken: false,
            batch: Batch::default(),
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

    fn drain(&mut self) -> Result<Drain, RingError> {
        let memory = &self.memory;
        let mut slices = Vec::new();
        let (mut chains, mut moved) = (self.queue.size(), 0_u64);

        self.queue.suppress_notifications();
        while chains > 0 && moved < SHARE {
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
            let descriptors = &mut self.descriptors;
            let answer = match self.queue.walk(memory, head, descriptors) {
                Ok(()) => {
                    let buffers = Buffers {
                        memory,
                        descriptors,
                    };
                    let disk = self.disk.hold();
                    let parsed = disk.parse(&buffers);
                    self.observers.submitted(head, descriptors, &parsed);
                    let answer = disk.answer(memory, &parsed, &mut slices);
                    self.observers.answered(head, &answer);
                    answer
                }
                Err(error) => {
                    self.observers.refused(head, &error);
                    self.disk.warn(Warned::Chain, || {
                        format!("refused a chain, and may refuse more: {error}")
                    });
                    Answer::default()
                }
            };
            let flush = if answer.flushed { FLUSH_BYTES } else { 0 };
            let clears = CLEAR_BYTES.saturating_mul(answer.clears);
            let effort = answer.moved.max(clears).saturating_add(flush);
            moved = moved.saturating_add(effort);
            self.disk.spend(answer.moved);
            let used = self.queue.next_used();
            self.queue.add_used(head, answer.written);
            self.observers.completed(head, used, &answer);
        }
        let spent = chains == 0 || moved >= SHARE;
        Ok(if spent { Drain::More } else { Drain::Complete })
    }
}
