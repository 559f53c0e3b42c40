//! The virtio-blk driver (section 5.2): turns requests into chains of buffers and waits for their
//! completion. How the device is made ready is in `bring_up`; what is done with the data is the
//! workloads' matter.

use core::hint;

use spec::Features;
use spec::block::{REQUEST_QUEUE, RequestHeader, config, status};
use spec::mmio::{DEVICE_ID_BLOCK, DeviceStatus, InterruptStatus};

use super::bring_up::{Info, Options, bring_up};
use super::frames::Frames;
use super::queue::{Buffer, VirtQueue};
use super::{Error, Transport};
use crate::dma::Arena;

/// The chain around the data of a request: its header and its status.
const FRAME: usize = 2;
/// The smallest queue that holds a request with data, in descriptors.
pub(super) const MIN_QUEUE_SIZE: u16 = (FRAME as u16 + 1).next_power_of_two();
/// How many times the used ring is looked at, when polling, before the device status is.
const POLLS_PER_STATUS: u32 = 4096;

/// How the driver waits for the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Sleeps until the device interrupts.
    #[default]
    Irq,
    /// Looks at the used ring again and again, and asks for no interrupts.
    Poll,
}

/// A request in flight: the head of its chain. It is free to be used again once the request has
/// completed.
pub type Token = u16;

/// A request that the device has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What submitting it returned.
    pub token: Token,
    /// How many bytes the device says that it wrote, the status among them.
    pub written: u32,
    /// The status that the device wrote.
    pub status: u8,
}

impl Completion {
    /// The completion itself if its status is OK.
    ///
    /// # Errors
    /// [`Error::Status`] for any other.
    pub const fn ok(self) -> Result<Self, Error> {
        match self.status {
            status::OK => Ok(self),
            status => Err(Error::Status(status)),
        }
    }
}

/// A block device that is ready for requests. Dropping it resets the device.
pub struct Block<'d, 'm> {
    transport: &'d mut dyn Transport,
    queue: VirtQueue<'m>,
    wait: Wait,
    info: Info,
    frames: Frames<'m>,
    notifications: u64,
}

impl<'d, 'm> Block<'d, 'm> {
    /// Brings up the device behind `transport`, in the order of section 3.1.1. The memory for
    /// the queue comes from `arena`.
    ///
    /// # Errors
    /// Whatever makes the device one that cannot be driven; it is left FAILED or reset.
    pub fn new(
        transport: &'d mut dyn Transport,
        options: &Options,
        arena: &mut Arena<'m>,
    ) -> Result<Self, Error> {
        // (Not in the list: is there such a device at all?)
        transport.check(DEVICE_ID_BLOCK)?;
        // 1. Reset the device.
        transport.reset()?;
        let (mut queue, frames, info) = match bring_up(transport, options, arena) {
            Ok(parts) => parts,
            Err(error) => {
                // If any of these steps goes wrong, give up on the device.
                transport.add_status(DeviceStatus::FAILED);
                return Err(error);
            }
        };
        if options.wait == Wait::Poll {
            queue.suppress_interrupts();
        }
        // 8. Tell the device that the driver is ready: it is live.
        transport.add_status(DeviceStatus::DRIVER_OK);
        Ok(Self {
            transport,
            queue,
            wait: options.wait,
            info,
            frames,
            notifications: 0,
        })
    }

    /// What the device tells of itself.
    #[must_use]
    pub const fn info(&self) -> &Info {
        &self.info
    }

    /// Whether what is written is volatile until a flush, where the device tells.
    pub fn writeback(&mut self) -> Option<bool> {
        let accepted = self.info.accepted;
        accepted
            .contains(Features::VIRTIO_BLK_F_CONFIG_WCE)
            .then(|| self.transport.read_config_byte(config::WRITEBACK) != 0)
    }

    /// Has the device keep writes in its cache until a flush, or not.
    ///
    /// # Errors
    /// [`Error::MissingFeatures`] where it cannot be told to; [`Error::Busy`] where requests are in
    /// flight, which may be done the one way or the other.
    pub fn set_writeback(&mut self, writeback: bool) -> Result<(), Error> {
        let feature = Features::VIRTIO_BLK_F_CONFIG_WCE;
        if !self.info.accepted.contains(feature) {
            return Err(Error::MissingFeatures(feature));
        }
        if self.in_flight() != 0 {
            return Err(Error::Busy);
        }
        self.transport
            .write_config_byte(config::WRITEBACK, writeback.into());
        Ok(())
    }

    /// Size of the request queue, in descriptors.
    #[must_use]
    pub const fn queue_size(&self) -> u16 {
        self.queue.size()
    }

    /// The request queue, to be looked at.
    #[must_use]
    pub const fn queue(&self) -> &VirtQueue<'m> {
        &self.queue
    }

    /// The device, for who wants to see what its registers read, or to notify it out of turn.
    pub fn transport(&mut self) -> &mut dyn Transport {
        self.transport
    }

    /// Has the driver wait in another way from now on.
    pub fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
        if wait == Wait::Poll {
            self.queue.suppress_interrupts();
        }
    }

    /// How many requests of `segments` data segments can be in flight at once.
    #[must_use]
    pub fn capacity(&self, segments: u16) -> u16 {
        self.queue.capacity(segments.saturating_add(FRAME as u16))
    }

    /// How many requests are in flight.
    #[must_use]
    pub const fn in_flight(&self) -> u16 {
        self.queue.in_flight()
    }

    /// Most data segments that a request may have: what the device takes (one, where it does not
    /// tell) and what fits into a chain.
    #[must_use]
    pub fn max_segments(&self) -> usize {
        let device = self.info.seg_max.unwrap_or(1).max(1) as usize;
        device.min(self.queue.max_chain().saturating_sub(FRAME))
    }

    /// The token that the next request will have; none where the queue is full.
    #[must_use]
    pub fn next_token(&self) -> Option<Token> {
        self.queue.next_head()
    }

    /// Puts a request into the queue, its data in as many segments as there are buffers. The
    /// device need not look at it before [`Block::notify`].
    ///
    /// # Errors
    /// [`Error::QueueFull`] where there is no room now; else what is wrong with the segments.
    pub fn submit(&mut self, header: RequestHeader, data: &[Buffer<'m>]) -> Result<Token, Error> {
        self.check_data(data)?;
        let token = self.next_token().ok_or(Error::QueueFull)?;
        let (header, status) = self.frames.prepare(token, header);
        self.queue.add(&[&[header], data, &[status]])
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
        let (header, status) = self.frames.prepare(token, header);
        self.queue.keep(&[&[header], data, &[status]])
    }

    /// Puts a request that [`Block::keep`] made, and that is not in flight, into the queue, from
    /// `sector` on.
    #[inline(always)] // as `VirtQueue::add_kept`
    pub fn submit_kept(&mut self, token: Token, sector: u64) {
        self.frames.prepare_again(token, sector);
        self.queue.add_kept(token);
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
        self.queue.add(&[chain])
    }

    /// Notifies the device of what has been submitted, unless it has said that it needs no
    /// notification.
    pub fn notify(&mut self) {
        if self.queue.needs_notification() {
            self.notifications += 1;
            self.transport.notify(REQUEST_QUEUE);
        }
    }

    /// Whether the device wants to be notified of the next request, as far as it has said by now.
    #[must_use]
    pub fn wants_notification(&self) -> bool {
        self.queue.will_need_notification()
    }

    /// Submits a request as [`Block::submit_kept`] does while none is in flight, notifies the
    /// device, whether it wants that or not, and waits halted for the interrupt. Returns how long
    /// that took from before the notification to the interrupt's handler, in ticks of the machine's
    /// clock. The request has completed then.
    ///
    /// # Errors
    /// [`Error::NoInterrupt`].
    pub fn time_kept(&mut self, token: Token, sector: u64) -> Result<u64, Error> {
        let Self {
            transport,
            queue,
            frames,
            ..
        } = self;
        self.notifications += 1;
        transport.time_notify(REQUEST_QUEUE, &mut || {
            frames.prepare_again(token, sector);
            // Before the device can see the request: it may look without having been notified.
            let _ = queue.request_interrupt(1);
            queue.add_kept(token);
        })
    }

    /// How many notifications have been sent.
    #[must_use]
    pub const fn notifications(&self) -> u64 {
        self.notifications
    }

    /// How often the device has interrupted since the machine was started.
    #[must_use]
    pub fn interrupts(&self) -> u64 {
        self.transport.interrupts()
    }

    /// Takes a request that has completed, if there is one.
    ///
    /// # Errors
    /// A device that does not keep to the protocol.
    #[inline(always)] // as `VirtQueue::add_kept`
    pub fn poll(&mut self) -> Result<Option<Completion>, Error> {
        let Some(used) = self.queue.pop_used()? else {
            return Ok(None);
        };
        if self.wait == Wait::Poll {
            self.queue.suppress_interrupts();
        }
        let status = self.frames.status(used.head);
        Ok(Some(Completion {
            token: used.head,
            written: used.len,
            status,
        }))
    }

    /// Waits for a request to complete.
    ///
    /// # Errors
    /// [`Error::NothingInFlight`], [`Error::NeedsReset`], or as for [`Block::poll`].
    pub fn wait(&mut self) -> Result<Completion, Error> {
        if self.in_flight() == 0 {
            return Err(Error::NothingInFlight);
        }
        let mut polls = 0u32;
        loop {
            if let Some(completion) = self.poll()? {
                return Ok(completion);
            }
            match self.wait {
                Wait::Irq => {
                    self.sleep(1)?;
                }
                Wait::Poll => {
                    polls = polls.wrapping_add(1);
                    if polls.is_multiple_of(POLLS_PER_STATUS) {
                        self.check_alive()?;
                    }
                    hint::spin_loop();
                }
            }
        }
    }

    /// Makes a request while none is in flight, and sleeps until the device interrupts, even where the
    /// request has completed before: who has the request drawn out like that sees every step of it.
    /// When polling, it is waited for as any other.
    ///
    /// # Errors
    /// As for [`Block::submit`] and [`Block::wait`].
    pub fn execute_asleep(
        &mut self,
        header: RequestHeader,
        data: &[Buffer<'m>],
    ) -> Result<Completion, Error> {
        if self.in_flight() != 0 {
            return Err(Error::Busy);
        }
        if self.wait == Wait::Irq {
            self.transport.take_events();
            // Before the device can see the request: it is no news whether it has used it.
            let _ = self.queue.request_interrupt(1);
        }
        self.submit(header, data)?;
        self.notify();
        let mut told = self.wait == Wait::Poll;
        while !told {
            told = (self.transport.wait()?).contains(InterruptStatus::USED_BUFFER);
            self.check_alive()?;
        }
        self.wait()
    }

    /// Sleeps until the device interrupts, which it is asked to do when `count` requests more have
    /// completed: from 1 to how many are in flight. Returns at once where they have, and may return
    /// before: it is for [`Block::poll`] to tell.
    ///
    /// # Errors
    /// [`Error::NeedsReset`], [`Error::NoInterrupt`].
    pub fn sleep(&mut self, count: u16) -> Result<(), Error> {
        if self.queue.request_interrupt(count)
            && self
                .transport
                .wait()?
                .contains(InterruptStatus::CONFIG_CHANGE)
        {
            self.check_alive()?;
        }
        Ok(())
    }

    /// Makes sure that the device can go on: one that cannot completes no request, and tells those
    /// who do not sleep nothing.
    ///
    /// # Errors
    /// [`Error::NeedsReset`].
    pub fn check_alive(&mut self) -> Result<(), Error> {
        if self
            .transport
            .status()
            .contains(DeviceStatus::DEVICE_NEEDS_RESET)
        {
            return Err(Error::NeedsReset);
        }
        Ok(())
    }
}

impl Drop for Block<'_, '_> {
    fn drop(&mut self) {
        // The memory of the queue is free for others now. If the device does not come to rest,
        // the next who brings it up will be told.
        let _ = self.transport.reset();
    }
}
