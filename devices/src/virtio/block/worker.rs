//! `QueueWorker::process_queue`, the one place that drains the request queue: it takes chains, has
//! them answered, returns them and interrupts. Who calls it, and when, is not its business.

use std::sync::Arc;

use log::warn;
use spec::Features;
use spec::queue::Descriptor;
use vm_memory::GuestMemoryMmap;

use super::disk::Disk;
use super::request::Chain;
use crate::bus::DeviceError;
use crate::virtio::queue::{Batch, RingError, SplitQueue};
use crate::virtio::{Drain, InterruptState};
use crate::warn_once::WarnOnce;

/// What the log tells of, once each.
enum Warned {
    Head,
    Chain,
}

/// The request queue and all that serving it needs, in the hands of one thread.
pub struct QueueWorker {
    disk: Disk,
    memory: GuestMemoryMmap,
    queue: SplitQueue,
    interrupt: Arc<InterruptState>,
    /// The rings could not be understood: the queue is not touched until it is set up anew.
    broken: bool,
    batch: Batch,
    descriptors: Vec<Descriptor>,
    warned: WarnOnce,
}

impl QueueWorker {
    /// A worker that serves `queue` from `disk`, for a driver that has accepted `features`.
    #[must_use]
    pub fn new(
        mut disk: Disk,
        memory: GuestMemoryMmap,
        queue: SplitQueue,
        features: Features,
        interrupt: Arc<InterruptState>,
    ) -> Self {
        disk.set_write_through(!features.contains(Features::VIRTIO_BLK_F_FLUSH));
        Self {
            disk,
            memory,
            queue,
            interrupt,
            broken: false,
            batch: Batch::default(),
            descriptors: Vec::new(),
            warned: WarnOnce::default(),
        }
    }

    /// The disk, which the queue has no use for any more.
    #[must_use]
    pub fn into_disk(self) -> Disk {
        self.disk
    }

    /// Serves what is in the queue, at most as many chains as the queue is long, and sends one
    /// used buffer notification if the driver wants it.
    ///
    /// # Errors
    /// An interrupt could not be raised.
    pub fn process_queue(&mut self) -> Result<Drain, DeviceError> {
        if self.broken {
            return Ok(Drain::Complete);
        }
        let drained = self.drain();
        if self.queue.wants_interrupt(&self.memory) {
            self.interrupt.used_buffer()?;
        }
        drained.or_else(|error| {
            warn!("block: {error}; the device needs a reset");
            self.broken = true;
            self.interrupt.needs_reset()?;
            Ok(Drain::Complete)
        })
    }

    /// The driver is asked not to notify while this goes on, and again to do so only when the
    /// queue has been seen empty.
    fn drain(&mut self) -> Result<Drain, RingError> {
        let memory = &self.memory;
        let mut slices = Vec::new();
        let mut allowed = self.queue.size();

        self.queue.suppress_notifications(memory)?;
        while allowed > 0 {
            let taken = self.queue.take(memory, allowed, &mut self.batch)?;
            if taken == 0 {
                break;
            }
            allowed = allowed.saturating_sub(taken);
            if self.batch.refused > 0 && self.warned.first(Warned::Head as u32) {
                warn!("block: skipped a head that is not one, or is in flight; there may be more");
            }
            for &head in &self.batch.heads {
                let descriptors = &mut self.descriptors;
                let written = match self.queue.walk(memory, head, descriptors) {
                    Ok(()) => {
                        let chain = Chain {
                            memory,
                            descriptors,
                        };
                        self.disk.answer(memory, &chain, &mut slices)
                    }
                    Err(error) => {
                        if self.warned.first(Warned::Chain as u32) {
                            warn!("block: refused a chain, and may refuse more: {error}");
                        }
                        0
                    }
                };
                self.queue.add_used(memory, head, written)?;
            }
        }
        if allowed == 0 || self.queue.rearm_notifications(memory)? {
            return Ok(Drain::More);
        }
        Ok(Drain::Complete)
    }
}
