//! The device's end of a split virtqueue (section 2.7): it moves heads between the rings, and
//! trusts no index that the driver writes. It does not look into the buffers.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{Ordering, fence};

use spec::Features;
use spec::queue::{
    AVAIL_ALIGN, AVAIL_F_NO_INTERRUPT, DESC_ALIGN, Descriptor, RING_FLAGS, RING_IDX, USED_ALIGN,
    USED_F_NO_NOTIFY, avail_entry, avail_event, avail_ring_size, desc_table_size, need_event,
    used_entry, used_event, used_ring_size,
};
use vm_memory::{Bytes, GuestMemoryMmap, VolatileMemory};

use super::chain::{ChainError, Table, walk};
use super::ram::HeldRange;

/// Half of the values that a ring's index can have.
const HALF_TURN: u16 = 0x8000;

/// What the driver has written to the registers of a queue, as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueRegisters {
    /// QueueNum.
    pub num: u32,
    /// QueueDescLow and QueueDescHigh.
    pub desc: u64,
    /// QueueDriverLow and QueueDriverHigh.
    pub driver: u64,
    /// QueueDeviceLow and QueueDeviceHigh.
    pub device: u64,
}

/// The three areas of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// The descriptor table.
    Descriptor,
    /// The available ring.
    Driver,
    /// The used ring.
    Device,
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?} Area")
    }
}

/// Why a queue cannot be made ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The size is not a power of two from 1 to the largest size.
    #[error("the size is {num}, not a power of two up to {max}")]
    Size {
        /// What the driver wrote.
        num: u32,
        /// The largest size.
        max: u16,
    },
    /// An area is not aligned as section 2.7 asks.
    #[error("the {area} at {addr:#x} is not aligned to {align}")]
    Unaligned {
        /// Which area.
        area: Area,
        /// Where it is.
        addr: u64,
        /// What it must be aligned to, in bytes.
        align: u64,
    },
    /// An area is, in part at least, where there is no RAM; address 0 counts as none.
    #[error("the {area} at {addr:#x} is not in RAM")]
    OutsideRam {
        /// Which area.
        area: Area,
        /// Where it is.
        addr: u64,
    },
    /// Two areas share bytes.
    #[error("the {0} overlaps the {1}")]
    Overlap(Area, Area),
}

/// Where a queue is. Every value of this type has been checked: the size is valid, and each of
/// the areas is aligned, in RAM and apart from the others.
#[derive(Clone, Debug)]
pub struct QueueLayout {
    size: u16,
    desc: HeldRange,
    driver: HeldRange,
    device: HeldRange,
}

impl QueueLayout {
    /// The layout that `registers` describe, for a queue of at most `max` descriptors.
    ///
    /// # Errors
    /// The registers do not describe a queue.
    pub fn new(
        registers: &QueueRegisters,
        max: u16,
        memory: &GuestMemoryMmap,
    ) -> Result<Self, LayoutError> {
        let QueueRegisters {
            num,
            desc,
            driver,
            device,
        } = *registers;
        let size = u16::try_from(num).ok();
        let size = size.filter(|size| size.is_power_of_two() && *size <= max);
        let size = size.ok_or(LayoutError::Size { num, max })?;

        let areas = [
            (Area::Descriptor, desc, desc_table_size(size), DESC_ALIGN),
            (Area::Driver, driver, avail_ring_size(size), AVAIL_ALIGN),
            (Area::Device, device, used_ring_size(size), USED_ALIGN),
        ];
        let held = areas.map(|(area, addr, len, align)| {
            if !addr.is_multiple_of(align) {
                return Err(LayoutError::Unaligned { area, addr, align });
            }
            // 0 is what the registers hold that the driver has not written.
            let range = (addr != 0).then(|| HeldRange::new(memory, addr, len));
            range
                .flatten()
                .ok_or(LayoutError::OutsideRam { area, addr })
        });
        let [desc, driver, device] = held;
        let (desc, driver, device) = (desc?, driver?, device?);
        let [a, b, c] = areas;
        for (one, other) in [(a, b), (a, c), (b, c)] {
            // In RAM, so that no end overflows.
            if one.1 < other.1.saturating_add(other.2) && other.1 < one.1.saturating_add(one.2) {
                return Err(LayoutError::Overlap(one.0, other.0));
            }
        }
        Ok(Self {
            size,
            desc,
            driver,
            device,
        })
    }
}

/// The available ring can no longer be understood. Only a reset recovers from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("avail.idx is {ahead} ahead in a queue of {size}")]
pub struct RingError {
    /// How many entries the driver claims to have made available.
    pub ahead: u16,
    /// Size of the queue, in descriptors.
    pub size: u16,
}

/// The device's end of a live split virtqueue.
#[derive(Debug)]
pub struct SplitQueue {
    size: u16,
    desc: HeldRange,
    driver: Ring,
    device: Ring,
    event_idx: bool,
    indirect: bool,
    /// Index of the first entry of the available ring that has not been taken.
    next_avail: u16,
    /// `used.idx`.
    next_used: u16,
    /// `used.idx` when `wants_interrupt` was last asked.
    told: u16,
    /// By head: whether the chain has been taken and not yet used.
    in_flight: Vec<bool>,
}

/// The area of a ring. Offsets are those of the layout, of which the area has the size: what they
/// lead to is inside.
#[derive(Debug)]
struct Ring(HeldRange);

impl Ring {
    fn load(&self, offset: u64, order: Ordering) -> u16 {
        let slice = self.0.slice();
        u16::from_le(slice.load(offset as usize, order).unwrap_or_default())
    }

    fn store(&self, offset: u64, value: u16, order: Ordering) {
        let stored = self.0.slice().store(value.to_le(), offset as usize, order);
        debug_assert!(stored.is_ok(), "offset {offset} in {self:?}");
    }

    fn write(&self, offset: u64, entry: [u32; 2]) {
        let place = self
            .0
            .slice()
            .get_ref(offset as usize)
            .map(|place| place.store(entry));
        debug_assert!(place.is_ok(), "offset {offset} in {self:?}");
    }
}

/// Heads that the driver has made available, and how many of them were refused.
#[derive(Debug, Default)]
pub struct Batch {
    /// Heads of chains, each now in flight.
    pub heads: VecDeque<u16>,
    /// How many entries of the available ring held no head, or one that is in flight.
    pub refused: u16,
    /// `avail.idx` as it was found.
    pub avail_idx: u16,
}

impl SplitQueue {
    /// The queue at `layout`, with the ring features among `features`.
    #[must_use]
    pub fn new(layout: QueueLayout, features: Features) -> Self {
        let QueueLayout {
            size,
            desc,
            driver,
            device,
        } = layout;
        Self {
            size,
            desc,
            driver: Ring(driver),
            device: Ring(device),
            event_idx: features.contains(Features::VIRTIO_F_EVENT_IDX),
            indirect: features.contains(Features::VIRTIO_F_INDIRECT_DESC),
            next_avail: 0,
            next_used: 0,
            told: 0,
            in_flight: vec![false; usize::from(size)],
        }
    }

    /// The size of the queue, in descriptors.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.size
    }

    /// The running index of the first entry of the available ring that has not been taken.
    #[must_use]
    pub fn next_avail(&self) -> u16 {
        self.next_avail
    }

    /// The running index of the next entry of the used ring.
    #[must_use]
    pub fn next_used(&self) -> u16 {
        self.next_used
    }

    /// Takes at most `limit` entries from the available ring into `batch`, in place of what it
    /// held, and returns how many.
    /// An entry that is no head, or whose chain is in flight, is refused: there is nothing that
    /// could be used for it.
    ///
    /// # Errors
    /// `avail.idx` is ahead by more than the size of the queue.
    pub fn take(&mut self, limit: u16, batch: &mut Batch) -> Result<u16, RingError> {
        batch.heads.clear();
        batch.refused = 0;
        // What the driver wrote before the index, entries and descriptors, is seen after it.
        let avail_idx = self.driver.load(RING_IDX, Ordering::Acquire);
        batch.avail_idx = avail_idx;
        let (ahead, size) = (avail_idx.wrapping_sub(self.next_avail), self.size);
        if ahead > size {
            return Err(RingError { ahead, size });
        }
        let taken = ahead.min(limit);
        for _ in 0..taken {
            let entry = avail_entry(self.next_avail, size);
            let head = self.driver.load(entry, Ordering::Relaxed);
            self.next_avail = self.next_avail.wrapping_add(1);
            match self.in_flight.get_mut(usize::from(head)) {
                Some(in_flight @ false) => {
                    *in_flight = true;
                    batch.heads.push_back(head);
                }
                _ => batch.refused += 1,
            }
        }
        Ok(taken)
    }

    /// Leaves the descriptors of the chain from `head` in `chain`.
    ///
    /// # Errors
    /// The chain is refused.
    pub fn walk(
        &self,
        memory: &GuestMemoryMmap,
        head: u16,
        chain: &mut Vec<Descriptor>,
    ) -> Result<(), ChainError> {
        let table = Table::new(self.desc.slice());
        walk(memory, table, head, self.indirect, chain)
    }

    /// Returns the chain from `head` to the driver, of whose device-writable bytes the first
    /// `written` have been written.
    pub fn add_used(&mut self, head: u16, written: u32) {
        let entry = [u32::from(head).to_le(), written.to_le()];
        self.device
            .write(used_entry(self.next_used, self.size), entry);
        self.next_used = self.next_used.wrapping_add(1);
        // The driver sees the entry, and what is in the buffers, before the index.
        self.device
            .store(RING_IDX, self.next_used, Ordering::Release);
        if let Some(in_flight) = self.in_flight.get_mut(usize::from(head)) {
            *in_flight = false;
        }
    }

    /// Asks the driver not to notify (section 2.7.10): by a flag, or by an event that is half a
    /// turn of the index away.
    pub fn suppress_notifications(&mut self) {
        if self.event_idx {
            self.set_avail_event(self.next_avail.wrapping_add(HALF_TURN));
        } else {
            self.device
                .store(RING_FLAGS, USED_F_NO_NOTIFY, Ordering::Relaxed);
        }
    }

    /// Asks the driver to notify, and returns whether there is something in the available ring
    /// already, for which it may not have notified.
    #[must_use]
    pub fn rearm_notifications(&mut self) -> bool {
        if self.event_idx {
            self.set_avail_event(self.next_avail);
        } else {
            self.device.store(RING_FLAGS, 0, Ordering::Relaxed);
        }
        // The driver stores `avail.idx` and then reads what was stored here, the device the other
        // way round. With a full fence on either side, one of them sees the other's.
        fence(Ordering::SeqCst);
        self.has_available()
    }

    /// Whether there is something in the available ring that has not been taken.
    #[must_use]
    pub fn has_available(&self) -> bool {
        self.driver.load(RING_IDX, Ordering::Relaxed) != self.next_avail
    }

    /// Whether the driver is to be told of the buffers that have been used since this was last
    /// asked.
    #[must_use]
    pub fn wants_interrupt(&mut self) -> bool {
        let (new, old) = (
            self.next_used,
            std::mem::replace(&mut self.told, self.next_used),
        );
        if new == old {
            return false;
        }
        // As in `rearm_notifications`, with `used.idx` and the driver's wishes.
        fence(Ordering::SeqCst);
        if self.event_idx {
            let event = self.driver.load(used_event(self.size), Ordering::Relaxed);
            return need_event(event, new, old);
        }
        self.driver.load(RING_FLAGS, Ordering::Relaxed) & AVAIL_F_NO_INTERRUPT == 0
    }

    fn set_avail_event(&mut self, event: u16) {
        self.device
            .store(avail_event(self.size), event, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
