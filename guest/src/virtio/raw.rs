//! A virtqueue by hand, and a driver around it that takes each step when it is told to: any
//! descriptor, any ring entry, any register, whether the specification allows it or not. Nothing is
//! checked, and nothing is kept in mind but how far the rings have come. Who wants requests served
//! uses `block`.

use core::sync::atomic::Ordering;

use spec::Features;
use spec::mmio::{DeviceStatus, InterruptStatus, Register};
use spec::queue::{self, DESC_SIZE, Descriptor, RING_FLAGS, RING_IDX, USED_ELEM_SIZE};

use super::{Error, Transport};
use crate::dma::Region;

/// How many moments the device has for what is waited for: half a minute, for a busy host may take
/// seconds to flush a disk.
const PATIENCE: u32 = 1_500_000;

/// How many moments without an interrupt mean that none is under way, and how often that is tried.
const QUIET: u32 = 200;
const QUIET_TRIES: u32 = 100;

/// An entry of the used ring, as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedElement {
    /// The head of the chain.
    pub id: u32,
    /// How many bytes the device says that it wrote.
    pub len: u32,
}

/// The memory of a split virtqueue.
#[derive(Clone, Copy, Debug)]
pub struct RawQueue<'m> {
    /// Size, in descriptors: a power of two.
    pub size: u16,
    /// The Descriptor Area.
    pub desc: Region<'m>,
    /// The Driver Area.
    pub driver: Region<'m>,
    /// The Device Area.
    pub device: Region<'m>,
    /// What [`RawQueue::offer`] has last written to `avail.idx`.
    pub avail_idx: u16,
    /// Index of the entry of the used ring that [`RawQueue::take_used`] looks at next.
    pub used_seen: u16,
}

impl<'m> RawQueue<'m> {
    /// A queue of `size` descriptors in these three areas, which are of the size that it takes.
    #[must_use]
    pub const fn new(size: u16, [desc, driver, device]: [Region<'m>; 3]) -> Self {
        Self {
            size,
            desc,
            driver,
            device,
            avail_idx: 0,
            used_seen: 0,
        }
    }

    /// Guest-physical addresses of the Descriptor, Driver and Device Areas.
    #[must_use]
    pub const fn areas(&self) -> [u64; 3] {
        [self.desc.addr(), self.driver.addr(), self.device.addr()]
    }

    /// Begins anew: flags and indices are 0; what the entries are is left.
    pub fn rewind(&mut self) {
        (self.avail_idx, self.used_seen) = (0, 0);
        for ring in [self.driver, self.device] {
            ring.store16(RING_FLAGS as usize, 0, Ordering::Relaxed);
            ring.store16(RING_IDX as usize, 0, Ordering::Release);
        }
        self.set_used_event(0);
    }

    /// Writes the descriptor `index`.
    pub fn set_desc(&self, index: u16, descriptor: Descriptor) {
        let offset = usize::from(index) * DESC_SIZE as usize;
        self.desc.write(offset, &descriptor.to_bytes());
    }

    /// The descriptor `index`, as it is there.
    #[must_use]
    pub fn desc(&self, index: u16) -> Descriptor {
        let mut bytes = [0; DESC_SIZE as usize];
        let offset = usize::from(index) * DESC_SIZE as usize;
        self.desc.read(offset, &mut bytes);
        Descriptor::from_bytes(bytes)
    }

    /// The entry of the available ring for the running index `idx`.
    #[must_use]
    pub fn avail_entry(&self, idx: u16) -> u16 {
        let offset = queue::avail_entry(idx, self.size) as usize;
        self.driver.load16(offset, Ordering::Relaxed)
    }

    /// `flags`, `idx` and `used_event` of the available ring.
    #[must_use]
    pub fn avail(&self) -> [u16; 3] {
        let offsets = [RING_FLAGS, RING_IDX, queue::used_event(self.size)];
        offsets.map(|offset| self.driver.load16(offset as usize, Ordering::Relaxed))
    }

    /// Writes `head` to the entry of the available ring for the running index `idx`.
    pub fn set_avail_entry(&self, idx: u16, head: u16) {
        let offset = queue::avail_entry(idx, self.size) as usize;
        self.driver.store16(offset, head, Ordering::Relaxed);
    }

    /// Writes `avail.idx`, after all that was written before.
    pub fn set_avail_idx(&self, idx: u16) {
        self.driver
            .store16(RING_IDX as usize, idx, Ordering::Release);
    }

    /// Writes `avail.flags`.
    pub fn set_avail_flags(&self, flags: u16) {
        self.driver
            .store16(RING_FLAGS as usize, flags, Ordering::SeqCst);
    }

    /// Writes `used_event`.
    pub fn set_used_event(&self, idx: u16) {
        let offset = queue::used_event(self.size) as usize;
        self.driver.store16(offset, idx, Ordering::SeqCst);
    }

    /// Makes the chain from `head` available.
    pub fn offer(&mut self, head: u16) {
        self.set_avail_entry(self.avail_idx, head);
        self.avail_idx = self.avail_idx.wrapping_add(1);
        self.set_avail_idx(self.avail_idx);
    }

    /// `used.idx`.
    #[must_use]
    pub fn used_idx(&self) -> u16 {
        self.device.load16(RING_IDX as usize, Ordering::Acquire)
    }

    /// `used.flags`.
    #[must_use]
    pub fn used_flags(&self) -> u16 {
        self.device.load16(RING_FLAGS as usize, Ordering::SeqCst)
    }

    /// `avail_event`.
    #[must_use]
    pub fn avail_event(&self) -> u16 {
        let offset = queue::avail_event(self.size) as usize;
        self.device.load16(offset, Ordering::SeqCst)
    }

    /// The entry of the used ring for the running index `idx`.
    #[must_use]
    pub fn used_entry(&self, idx: u16) -> UsedElement {
        let mut entry = [0; USED_ELEM_SIZE as usize];
        let offset = queue::used_entry(idx, self.size) as usize;
        self.device.read(offset, &mut entry);
        let entry = u64::from_le_bytes(entry);
        UsedElement {
            id: entry as u32,
            len: (entry >> 32) as u32,
        }
    }

    /// The next entry of the used ring, if the device has written it.
    pub fn take_used(&mut self) -> Option<UsedElement> {
        if self.used_idx() == self.used_seen {
            return None;
        }
        let entry = self.used_entry(self.used_seen);
        self.used_seen = self.used_seen.wrapping_add(1);
        Some(entry)
    }
}

/// A device with a queue by hand. Dropping it leaves the device as it is.
pub struct RawDriver<'d, 'm> {
    /// The device.
    pub transport: &'d mut dyn Transport,
    /// Queue 0.
    pub queue: RawQueue<'m>,
}

impl RawDriver<'_, '_> {
    /// Resets the device, and takes the steps up to FEATURES_OK. Returns the status then.
    ///
    /// # Errors
    /// [`Error::Reset`].
    pub fn negotiate(&mut self, features: Features) -> Result<DeviceStatus, Error> {
        self.transport.reset()?;
        self.transport.add_status(DeviceStatus::ACKNOWLEDGE);
        self.transport.add_status(DeviceStatus::DRIVER);
        self.transport.accept_features(features);
        self.transport.add_status(DeviceStatus::FEATURES_OK);
        Ok(self.transport.status())
    }

    /// Tells the device of a queue 0 of `num` descriptors at `areas`, but not that it is ready.
    pub fn describe(&mut self, num: u32, areas: [u64; 3]) {
        self.describe_queue(0, num, areas);
    }

    /// The same of the queue `index`.
    pub fn describe_queue(&mut self, index: u32, num: u32, [desc, driver, device]: [u64; 3]) {
        self.transport.write(Register::QueueSel, index);
        self.transport.write(Register::QueueNum, num);
        for (low, high, address) in [
            (Register::QueueDescLow, Register::QueueDescHigh, desc),
            (Register::QueueDriverLow, Register::QueueDriverHigh, driver),
            (Register::QueueDeviceLow, Register::QueueDeviceHigh, device),
        ] {
            self.transport.write(low, address as u32);
            self.transport.write(high, (address >> 32) as u32);
        }
    }

    /// Writes `value` to QueueReady, and returns what it reads then.
    pub fn set_ready(&mut self, value: u32) -> u32 {
        self.transport.write(Register::QueueReady, value);
        self.transport.read(Register::QueueReady)
    }

    /// Sets DRIVER_OK. Returns the status then.
    pub fn start(&mut self) -> DeviceStatus {
        self.transport.add_status(DeviceStatus::DRIVER_OK);
        self.transport.status()
    }

    /// All steps from the reset to DRIVER_OK, with `features` and the queue rewound.
    ///
    /// # Errors
    /// The device does not go along.
    pub fn bring_up(&mut self, features: Features) -> Result<(), Error> {
        let status = self.negotiate(features)?;
        if !status.contains(DeviceStatus::FEATURES_OK) {
            return Err(Error::FeaturesRefused(features));
        }
        self.queue.rewind();
        self.describe(self.queue.size.into(), self.queue.areas());
        if self.set_ready(1) != 1 {
            return Err(Error::QueueRefused(0));
        }
        // What the last user of the device has left.
        self.transport.take_events();
        self.start();
        Ok(())
    }

    /// Sends an available buffer notification for `queue`, whether the device wants it or not.
    pub fn kick(&mut self, queue: u32) {
        self.transport.write(Register::QueueNotify, queue);
    }

    /// Waits until the device has done what `is_done` looks for.
    ///
    /// # Errors
    /// [`Error::NotUsed`] where it does not come to it.
    pub fn wait_for(
        &mut self,
        mut is_done: impl FnMut(&RawQueue<'_>) -> bool,
    ) -> Result<(), Error> {
        for _ in 0..PATIENCE {
            if is_done(&self.queue) {
                return Ok(());
            }
            self.transport.pause();
        }
        Err(Error::NotUsed)
    }

    /// Waits for the next entry of the used ring.
    ///
    /// # Errors
    /// [`Error::NeedsReset`]; [`Error::NotUsed`] where none comes.
    pub fn wait_used(&mut self) -> Result<UsedElement, Error> {
        for _ in 0..PATIENCE {
            if let Some(used) = self.queue.take_used() {
                return Ok(used);
            }
            if self
                .transport
                .status()
                .contains(DeviceStatus::DEVICE_NEEDS_RESET)
            {
                return Err(Error::NeedsReset);
            }
            self.transport.pause();
        }
        Err(Error::NotUsed)
    }

    /// Waits until the device has interrupted for all of `events`, and returns for what it has.
    ///
    /// # Errors
    /// [`Error::NoInterrupt`] where it does not.
    pub fn wait_events(&mut self, events: InterruptStatus) -> Result<InterruptStatus, Error> {
        let mut seen = InterruptStatus::empty();
        for _ in 0..PATIENCE {
            seen |= self.transport.take_events();
            if seen.contains(events) {
                return Ok(seen);
            }
            self.transport.pause();
        }
        Err(Error::NoInterrupt)
    }

    /// Takes the interrupts that are under way, until none has come for a while, and returns how many
    /// there have been in all: a busy host may deliver one long after the device has raised it.
    pub fn settle_interrupts(&mut self) -> u64 {
        for _ in 0..QUIET_TRIES {
            let before = self.transport.interrupts();
            for _ in 0..QUIET {
                self.transport.take_events();
                self.transport.pause();
            }
            if self.transport.interrupts() == before {
                break;
            }
        }
        self.transport.interrupts()
    }
}
