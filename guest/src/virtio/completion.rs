//! The other end of a request: how the driver learns that the device has completed it, by looking or
//! asleep, and what else an interrupt may tell. How requests are made is in `block`.

use core::hint;

use spec::block::{RequestHeader, config, status};
use spec::mmio::{DeviceStatus, InterruptStatus};

use super::Error;
use super::block::{Block, Token};
use super::queue::Buffer;
use super::requests::RequestQueue;

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

impl<'m> Block<'_, 'm> {
    /// Takes a request that has completed, if there is one.
    ///
    /// # Errors
    /// A device that does not keep to the protocol.
    #[inline(always)] // as `VirtQueue::add_kept`
    pub fn poll(&mut self) -> Result<Option<Completion>, Error> {
        let Some(used) = self.requests.queue.pop_used()? else {
            return Ok(None);
        };
        if self.wait == Wait::Poll {
            self.requests.queue.suppress_interrupts();
        }
        let status = self.requests.frames.status(used.head);
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
            self.link.transport.take_events();
            // Before the device can see the request: it is no news whether it has used it.
            let _ = self.requests.queue.request_interrupt(1);
        }
        self.submit(header, data)?;
        self.notify();
        let mut told = self.wait == Wait::Poll;
        while !told {
            told = (self.link.transport.wait()?).contains(InterruptStatus::USED_BUFFER);
            self.check_alive()?;
        }
        self.wait()
    }

    /// Submits a request as [`Block::submit_kept`] does while none is in flight, notifies the
    /// device, whether it wants that or not, and waits halted for the interrupt. Returns how long
    /// that took from before the notification to the interrupt's handler, in ticks of the machine's
    /// clock. The request has completed then.
    ///
    /// # Errors
    /// [`Error::NoInterrupt`].
    pub fn time_kept(&mut self, token: Token, sector: u64) -> Result<u64, Error> {
        let RequestQueue {
            index,
            queue,
            frames,
        } = &mut self.requests;
        self.notifications += 1;
        self.link.transport.time_notify(*index, &mut || {
            frames.prepare_again(token, sector);
            // Before the device can see the request: it may look without having been notified.
            let _ = queue.request_interrupt(1);
            queue.add_kept(token);
        })
    }

    /// Sleeps until the device interrupts, which it is asked to do when `count` requests more have
    /// completed: from 1 to how many are in flight. Returns at once where they have, and may return
    /// before: it is for [`Block::poll`] to tell.
    ///
    /// # Errors
    /// [`Error::NeedsReset`], [`Error::NoInterrupt`].
    pub fn sleep(&mut self, count: u16) -> Result<(), Error> {
        let queue = &mut self.requests.queue;
        if queue.request_interrupt(count)
            && self
                .link
                .transport
                .wait_for(queue, count)?
                .contains(InterruptStatus::CONFIG_CHANGE)
        {
            self.config_changed()?;
        }
        Ok(())
    }

    /// Waits halted, with no request in flight, until the [capacity](super::Info::capacity) is not
    /// `capacity`.
    ///
    /// # Errors
    /// [`Error::Busy`] where requests are in flight; else as for [`Block::sleep`].
    pub fn wait_for_change(&mut self, capacity: u64) -> Result<(), Error> {
        if self.in_flight() != 0 {
            return Err(Error::Busy);
        }
        while self.info.capacity == capacity {
            if self
                .link
                .transport
                .wait()?
                .contains(InterruptStatus::CONFIG_CHANGE)
            {
                self.config_changed()?;
            }
        }
        Ok(())
    }

    /// Has the device tell the size of the disk again, in sectors.
    pub fn read_capacity(&mut self) -> u64 {
        self.info.capacity = self.link.transport.read_config_64(config::CAPACITY);
        self.info.capacity
    }

    /// A configuration change notification has come: the device cannot go on, or the disk has
    /// another size.
    fn config_changed(&mut self) -> Result<(), Error> {
        self.check_alive()?;
        self.read_capacity();
        Ok(())
    }

    /// Makes sure that the device can go on: one that cannot completes no request, and tells those
    /// who do not sleep nothing.
    ///
    /// # Errors
    /// [`Error::NeedsReset`].
    pub fn check_alive(&mut self) -> Result<(), Error> {
        if self
            .link
            .transport
            .status()
            .contains(DeviceStatus::DEVICE_NEEDS_RESET)
        {
            return Err(Error::NeedsReset);
        }
        Ok(())
    }
}
