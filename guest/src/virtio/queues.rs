//! A block device that several CPUs drive at once, each by a queue of its own; where it has fewer
//! queues than there are CPUs, those of one queue take turns. Each queue is one CPU's at a time, with
//! all its state: nothing of a request is shared.

use core::sync::atomic::{AtomicU32, Ordering};

use spinning_top::Spinlock;

use super::block::Block;
use super::bring_up::{Info, Options, bring_up};
use super::requests::RequestQueue;
use super::{Error, Transport};
use crate::dma::Arena;

/// How many queues of a device can be driven.
pub const MAX_QUEUES: usize = 8;

/// The queues of a device, which is live.
pub struct Queues<'m> {
    options: Options,
    info: Info,
    places: [Place<'m>; MAX_QUEUES],
    count: usize,
    size: u16,
}

/// A queue, and whose turn it is. A lock alone would do, but the CPU that has just left it would
/// mostly be the first to have it again.
struct Place<'m> {
    /// What the next CPU that comes draws.
    next: AtomicU32,
    /// The one that has been drawn by the CPU whose turn it is.
    now: AtomicU32,
    /// The queue, while no CPU has it.
    queue: Spinlock<Option<RequestQueue<'m>>>,
}

impl<'m> Queues<'m> {
    /// Brings up the device behind `transport` with `count` queues, 1 to [`MAX_QUEUES`], or as many
    /// as it has where these are fewer. Their memory comes from `arena`, and the device has it until
    /// whoever has brought it up resets it.
    ///
    /// # Errors
    /// Whatever makes the device one that cannot be driven; it is left FAILED or reset.
    pub fn new(
        transport: &mut dyn Transport,
        options: &Options,
        count: usize,
        arena: &mut Arena<'m>,
    ) -> Result<Self, Error> {
        let mut queues = [const { None }; MAX_QUEUES];
        let count = count.clamp(1, MAX_QUEUES);
        let info = bring_up(transport, options, &mut queues[..count], arena)?;
        Ok(Self {
            options: *options,
            info,
            count: queues.iter().flatten().count(),
            size: queues
                .iter()
                .flatten()
                .map(|queue| queue.queue.size())
                .next()
                .unwrap_or(0),
            places: queues.map(|queue| Place {
                next: AtomicU32::new(0),
                now: AtomicU32::new(0),
                queue: Spinlock::new(queue),
            }),
        })
    }

    /// What the device tells of itself.
    #[must_use]
    pub const fn info(&self) -> &Info {
        &self.info
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Which one is that of CPU number `cpu`.
    #[must_use]
    pub const fn of(&self, cpu: usize) -> usize {
        cpu % self.count
    }

    /// Size of each, in descriptors.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size as usize
    }

    /// How many requests of `segments` data segments can be in flight in each at once.
    #[must_use]
    pub fn capacity(&self, segments: u16) -> u16 {
        let queue = self.places[0].queue.lock();
        queue.as_ref().map_or(0, |queue| queue.capacity(segments))
    }

    /// Has CPU number `cpu`, whose way to the device is `transport`, do `work` with its queue, once
    /// nobody else has it. Whoever leaves it with an error, or with requests in flight, leaves it to
    /// nobody: to those that come later there is no queue.
    pub fn with_queue<T, E>(
        &self,
        cpu: usize,
        transport: &mut dyn Transport,
        work: impl FnOnce(&mut Block<'_, 'm>) -> Result<T, E>,
    ) -> Option<Result<T, E>> {
        let place = &self.places[self.of(cpu)];
        let drawn = place.next.fetch_add(1, Ordering::Relaxed);
        // Acquire: all that the CPU did that had the queue before is seen.
        transport.wait_for_others(&|| place.now.load(Ordering::Acquire) == drawn);
        let taken = place.queue.lock().take();
        let result = taken.map(|queue| {
            let mut block = Block::one_of_several(transport, queue, &self.info, self.options.wait);
            let result = work(&mut block);
            if result.is_ok() && block.in_flight() == 0 {
                *place.queue.lock() = Some(block.into_requests());
            }
            result
        });
        place.now.fetch_add(1, Ordering::Release);
        transport.wake_others();
        result
    }
}
