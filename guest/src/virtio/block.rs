//! The virtio-blk driver (section 5.2), as one CPU drives one queue: turns requests into chains of
//! buffers. How the device is made ready is in `bring_up`, how completions are waited for in
//! `completion`; what is done with the data is the workloads' matter.

use spec::block::RequestHeader;

use super::bring_up::{Info, Options, bring_up};
pub use super::completion::{Completion, Wait};
use super::queue::{Buffer, VirtQueue};
use super::requests::{FRAME, RequestQueue};
use super::{Error, Transport};
use crate::dma::Arena;

/// A request in flight: the head of its chain. It is free to be used again once the request has
/// completed.
pub type Token = u16;

/// The way to a device.
pub(super) struct Link<'d> {
    pub(super) transport: &'d mut dyn Transport,
    /// Whether nobody else drives the device. Then it is reset when this is dropped.
    sole: bool,
}

impl Drop for Link<'_> {
    fn drop(&mut self) {
        if self.sole {
            // The memory of the queue is free for others now. If the device does not come to rest,
            // the next who brings it up will be told.
            let _ = self.transport.reset();
        }
    }
}

/// A queue of a block device that is ready for requests. Dropping it resets the device, unless it is
/// one [of several](super::Queues).
pub struct Block<'d, 'm> {
    pub(super) link: Link<'d>,
    pub(super) requests: RequestQueue<'m>,
    pub(super) wait: Wait,
    pub(super) info: Info,
    pub(super) notifications: u64,
}

impl<'d, 'm> Block<'d, 'm> {
    /// Brings up the device behind `transport` with one queue, whose memory comes from `arena`.
    ///
    /// # Errors
    /// Whatever makes the device one that cannot be driven; it is left FAILED or reset.
    pub fn new(
        transport: &'d mut dyn Transport,
        options: &Options,
        arena: &mut Arena<'m>,
    ) -> Result<Self, Error> {
        let mut queue = [None];
        let info = bring_up(transport, options, &mut queue, arena)?;
        let [queue] = queue;
        let requests = queue.ok_or(Error::NoQueue(0))?;
        let mut block = Self::one_of_several(transport, requests, &info, options.wait);
        block.link.sole = true;
        Ok(block)
    }

    /// The driver of `requests` alone, a queue of the device behind `transport`, which has been
    /// brought up.
    pub(super) fn one_of_several(
        transport: &'d mut dyn Transport,
        requests: RequestQueue<'m>,
        info: &Info,
        wait: Wait,
    ) -> Self {
        Self {
            link: Link {
                transport,
                sole: false,
            },
            requests,
            wait,
            info: *info,
            notifications: 0,
        }
    }

    /// Leaves the queue to another driver of [several](Self::one_of_several).
    pub(super) fn into_requests(self) -> RequestQueue<'m> {
        self.requests
    }

    /// What the device tells of itself.
    #[must_use]
    pub const fn info(&self) -> &Info {
        &self.info
    }

    /// Size of the request queue, in descriptors.
    #[must_use]
    pub const fn queue_size(&self) -> u16 {
        self.requests.queue.size()
    }

    /// The request queue, to be looked at.
    #[must_use]
    pub const fn queue(&self) -> &VirtQueue<'m> {
        &self.requests.queue
    }

    /// The device, for who wants to see what its registers read, or to notify it out of turn.
    pub fn transport(&mut self) -> &mut dyn Transport {
        self.link.transport
    }

    /// Has the driver wait in another way from now on.
    pub fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
        if wait == Wait::Poll {
            self.requests.queue.suppress_interrupts();
        }
    }

    /// How many requests of `segments` data segments can be in flight at once.
    #[must_use]
    pub fn capacity(&self, segments: u16) -> u16 {
        self.requests.capacity(segments)
    }

    /// How many requests are in flight.
    #[must_use]
    pub const fn in_flight(&self) -> u16 {
        self.requests.queue.in_flight()
    }

    /// Most data segments that a request may have: what the device takes (one, where it does not
    /// tell) and what fits into a chain.
    #[must_use]
    pub fn max_segments(&self) -> usize {
        let device = self.info.seg_max.unwrap_or(1).max(1) as usize;
        device.min(self.requests.queue.max_chain().saturating_sub(FRAME))
    }

    /// The token that the next request will have; none where the queue is full.
    #[must_use]
    pub fn next_token(&self) -> Option<Token> {
        self.requests.queue.next_head()
    }

    /// Puts a request into the queue, its data in as many segments as there are buffers. The
    /// device need not look at it before [`Block::notify`].
    ///
    /// # Errors
    /// [`Error::QueueFull`] where there is no room now; else what is wrong with the segments.
    pub fn submit(&mut self, header: RequestHeader, data: &[Buffer<'m>]) -> Result<Token, Error> {
        self.check_data(data)?;
        let token = self.next_token().ok_or(Error::QueueFull)?;
        let (header, status) = self.requests.frames.prepare(token, header);
        self.requests.queue.add(&[&[header], data, &[status]])
    }

    /// Makes a request that [`Block::submit_kept`] submits whenever it is wanted. Its token stays
    /// its own, and it takes its room in the queue for as long as the device is driven.
    ///
    /// # Errors
    /// As for [`Block::submit`].
    pub fn keep(&mut self, request_type: u32, data: &[Buffer<'m>]) -> Result<Token, Error> {
        self.check_data(data)?;
        let token = self.next_token().ok_or(Error::QueueFull)?;
        let header = RequestHeader {
            request_type,
            sector: 0,
        };
        let (header, status) = self.requests.frames.prepare(token, header);
        self.requests.queue.keep(&[&[header], data, &[status]])
    }

    /// Puts a request that [`Block::keep`] made, and that is not in flight, into the queue, from
    /// `sector` on.
    #[inline(always)] // as `VirtQueue::add_kept`
    pub fn submit_kept(&mut self, token: Token, sector: u64) {
        self.requests.frames.prepare_again(token, sector);
        self.requests.queue.add_kept(token);
    }

    /// Whether the device takes `data` as that of a request.
    fn check_data(&self, data: &[Buffer<'m>]) -> Result<(), Error> {
        if data.len() > self.max_segments() {
            return Err(Error::ChainLength(data.len()));
        }
        let size_max = self.info.size_max.unwrap_or(u32::MAX) as usize;
        if let Some(buffer) = data
            .iter()
            .find(|b| b.memory.is_empty() || b.memory.len() > size_max)
        {
            return Err(Error::SegmentLength(buffer.memory.len()));
        }
        Ok(())
    }

    /// Puts a chain into the queue as it is, header and status of whoever made it: for those who
    /// want to frame a request in their own way. The status of its completion means nothing.
    ///
    /// # Errors
    /// As for [`VirtQueue::add`].
    pub fn submit_chain(&mut self, chain: &[Buffer<'m>]) -> Result<Token, Error> {
        self.requests.queue.add(&[chain])
    }

    /// Notifies the device of what has been submitted, unless it has said that it needs no
    /// notification.
    pub fn notify(&mut self) {
        if self.requests.queue.needs_notification() {
            self.notifications += 1;
            self.link.transport.notify(self.requests.index);
        }
    }

    /// Whether the device wants to be notified of the next request, as far as it has said by now.
    #[must_use]
    pub fn wants_notification(&self) -> bool {
        self.requests.queue.will_need_notification()
    }

    /// How many notifications have been sent.
    #[must_use]
    pub const fn notifications(&self) -> u64 {
        self.notifications
    }

    /// How often the device has interrupted since the machine was started.
    #[must_use]
    pub fn interrupts(&self) -> u64 {
        self.link.transport.interrupts()
    }
}
