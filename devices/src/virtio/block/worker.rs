//! `QueueWorker::process_queue`, the one place that drains a request queue: it takes chains, has
//! them answered, returns them and interrupts. Who calls it, and when, is not its business.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use spec::Features;
use spec::mmio::InterruptStatus;
use spec::queue::Descriptor;
use vm_memory::GuestMemoryMmap;

use super::answer::{Answer, Begun, Data};
use super::capacity::Hold;
use super::disk::{Disk, Warned};
use super::engine::Engine;
use super::flight::Flight;
use super::observe::{Observers, QueueObserver};
use super::request::Buffers;
use super::stats::DrainCause;
use crate::error::DeviceError;
use crate::virtio::queue::{Batch, SplitQueue};
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
    /// That on the size that they are held against.
    hold: Hold,
    /// Whether a drain may end while there are some.
    leaves_in_flight: bool,
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
        let merges_below = disk.backend().merges_below();
        Self {
            hold: disk.holder(),
            leaves_in_flight: false,
            disk,
            flight: Flight::new(engine, Arc::clone(&memory), merges_below),
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

    /// Lets drains end while requests are in flight, where the engine has that: the caller looks after
    /// them. If this is not called a drain waits for all that it has begun.
    pub(super) fn leave_in_flight(&mut self) {
        self.leaves_in_flight = true;
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
        if !self.disk.size_wish().is_set() {
            return Ok(());
        }
        self.settle()?;
        self.hold.release();
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

    /// Returns what has come to its end and serves what is in the queue, at most as many chains as the
    /// queue is long and little more than 64 MiB of data, 16 flushes or 64 segments to clear, as far
    /// as the limits of the disk allow it. It sends one used buffer notification if the driver wants it.
    ///
    /// The driver is asked not to notify. After a complete drain, and one that has left something in
    /// flight, it is the caller's to look into the queue again, or to
    /// [rearm](Self::rearm_notifications) the notifications.
    ///
    /// # Errors
    /// An interrupt could not be raised, or the engine fails.
    pub fn process_queue(&mut self) -> Result<Drain, DeviceError> {
        self.resize()?;
        if self.broken {
            return Ok(Drain::Complete);
        }
        let (cause, next_avail) = (self.cause, self.queue.next_avail());
        self.observers.drain_begins(cause, next_avail);
        let drained = self.drain()?;
        self.cause = match drained {
            Drain::More | Drain::Later(_) => DrainCause::Continuation,
            // Whoever calls again without a word does so for a notification that it got.
            Drain::Complete | Drain::InFlight => DrainCause::Trap,
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

    /// Whether a drain would find something to do: a request that has come to its end, or one in the
    /// queue that there is room for in flight.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.flight.has_ended() || self.may_take() && self.queue.has_available()
    }

    /// Asks the driver to notify, unless there is no room in flight, and returns whether there is
    /// [work](Self::has_work) already, for which it may not have notified.
    #[must_use]
    pub fn rearm_notifications(&mut self) -> bool {
        let has_available = self.may_take() && self.queue.rearm_notifications();
        has_available || self.flight.has_ended()
    }

    /// What can be read when a request that is in flight has come to its end.
    pub(super) fn event(&self) -> Option<BorrowedFd<'_>> {
        self.flight.event()
    }

    /// Ends with the queue, and returns its engine, which has nothing of it any more.
    ///
    /// # Errors
    /// The engine fails.
    pub fn end(mut self) -> Result<Box<dyn Engine>, DeviceError> {
        self.settle()?;
        Ok(self.flight.into_engine())
    }

    fn may_take(&self) -> bool {
        !self.broken && !self.flight.is_full()
    }

    fn drain(&mut self) -> Result<Drain, DeviceError> {
        let mut chains = self.queue.size();
        self.effort = 0;

        self.reap();
        self.queue.suppress_notifications();
        let drain = loop {
            if chains == 0 || self.effort >= SHARE {
                break Drain::More;
            }
            if self.flight.is_full() {
                break Drain::InFlight;
            }
            let Some(head) = self.batch.heads.pop_front() else {
                // What a transfer that is made at once leaves time for is there when this looks.
                self.send();
                if self.take(chains) == 0 {
                    break Drain::Complete;
                }
                chains = chains.saturating_sub(self.batch.refused);
                continue;
            };
            if let Some(wait) = self.disk.wait() {
                self.batch.heads.push_front(head);
                break Drain::Later(wait);
            }
            self.resize()?;
            chains = chains.saturating_sub(1);
            self.serve(head)?;
        };
        if self.leaves_in_flight && !self.broken {
            self.pass_on()?;
        } else {
            self.settle()?;
        }
        if self.flight.is_empty() {
            self.hold.release();
        }
        Ok(match drain {
            Drain::Complete if !self.flight.is_empty() => Drain::InFlight,
            // Heads that have been taken nobody would be told of.
            Drain::InFlight if !self.flight.is_full() => Drain::More,
            drain => drain,
        })
    }

    /// Takes at most `limit` entries from the available ring, and returns how many.
    fn take(&mut self, limit: u16) -> u16 {
        match self.queue.take(limit, &mut self.batch) {
            Ok(0) => 0,
            Ok(taken) => {
                self.observers.taken(&self.batch);
                if self.batch.refused > 0 {
                    self.disk.warn(Warned::Head, || {
                        "skipped a head that is not one, or is in flight; there may be more".into()
                    });
                }
                taken
            }
            Err(error) => {
                self.broken = true;
                self.disk.warn(Warned::Rings, || {
                    format!("{error}; the device needs a reset, and may again")
                });
                0
            }
        }
    }

    /// Serves the chain from `head`.
    ///
    /// # Errors
    /// The engine fails.
    fn serve(&mut self, head: u16) -> Result<(), DeviceError> {
        let mut descriptors = std::mem::take(&mut self.descriptors);
        let served = match self.queue.walk(&self.memory, head, &mut descriptors) {
            Ok(()) => self.request(head, &descriptors),
            Err(error) => {
                self.observers.refused(head, &error);
                self.disk.warn(Warned::Chain, || {
                    format!("refused a chain, and may refuse more: {error}")
                });
                self.disk.spend(0);
                self.settle()
                    .map(|()| self.complete(head, &Answer::default()))
            }
        };
        self.descriptors = descriptors;
        served
    }

    /// Serves the request in the chain of these `descriptors` from `head`. Where it is one for data, it
    /// goes on its way with its neighbours; whatever else it is, it waits for those before.
    ///
    /// # Errors
    /// The engine fails.
    fn request(&mut self, head: u16, descriptors: &[Descriptor]) -> Result<(), DeviceError> {
        let buffers = Buffers {
            memory: &self.memory,
            descriptors,
        };
        let parsed = self.disk.parse(self.hold.sectors(), &buffers);
        self.observers.submitted(head, descriptors, &parsed);
        let request = match parsed {
            Ok(request) => request,
            Err(error) => {
                self.settle()?;
                self.disk.spend(0);
                let answer = self.disk.refuse(&self.memory, &error);
                self.answered(head, &answer);
                return Ok(());
            }
        };
        let begun = self.disk.begin(head, &request);
        let data = Data::of(&request.operation);
        let continues = (data.as_ref()).is_some_and(|data| self.flight.continues(data));
        self.spend(&begun, continues);
        if !continues {
            self.send();
        }
        let outcome = match data {
            Some(data) => match self.flight.push(begun, &data) {
                Ok(()) => return Ok(()),
                Err(error) => Err(error.into()),
            },
            None => {
                self.settle()?;
                self.disk.execute(&self.memory, &begun, &request.operation)
            }
        };
        let answer = self.disk.end(&self.memory, &begun, outcome);
        self.answered(head, &answer);
        Ok(())
    }

    /// Counts a request that has begun. One that `continues` those before is flushed with them.
    fn spend(&mut self, request: &Begun, continues: bool) {
        self.disk.spend(request.moved);
        let flush = if request.flushes && !continues {
            FLUSH_BYTES
        } else {
            0
        };
        let clears = CLEAR_BYTES.saturating_mul(request.clears);
        let effort = request.moved.max(clears).saturating_add(flush);
        self.effort = self.effort.saturating_add(effort);
    }

    /// Sends the data on its way that waits for neighbours.
    fn send(&mut self) {
        let requests = self.flight.send();
        if requests > 1 {
            self.observers.merged(requests);
        }
        self.reap();
    }

    /// Returns the chains of the requests whose data has come to the end of its way.
    fn reap(&mut self) {
        while let Some((request, outcome)) = self.flight.pop(&**self.disk.backend()) {
            let answer = self.disk.end(&self.memory, &request, outcome);
            self.answered(request.head, &answer);
        }
    }

    /// Has the host know of all data that is on its way, without waiting for it.
    fn pass_on(&mut self) -> Result<(), DeviceError> {
        self.send();
        if !self.flight.is_empty() {
            self.flight.enter(false).map_err(DeviceError::Engine)?;
            self.reap();
        }
        Ok(())
    }

    /// Has all data come to the end of its way.
    fn settle(&mut self) -> Result<(), DeviceError> {
        self.send();
        while !self.flight.is_empty() {
            self.flight.enter(true).map_err(DeviceError::Engine)?;
            self.reap();
        }
        Ok(())
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
