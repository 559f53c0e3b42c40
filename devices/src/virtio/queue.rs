//! The device's end of a split virtqueue: virtio-queue's ring indices, with the checks that it
//! does not make. It moves heads between the rings; it does not look into the buffers.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::Ordering;

use spec::Features;
use spec::queue::{
    AVAIL_ALIGN, AVAIL_F_NO_INTERRUPT, DESC_ALIGN, Descriptor, RING_FLAGS, USED_ALIGN,
    avail_ring_size, desc_table_size, used_ring_size,
};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::chain::{ChainError, Table, walk};
use super::ram::is_ram;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLayout {
    size: u16,
    desc: u64,
    driver: u64,
    device: u64,
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
        for (area, addr, len, align) in areas {
            if !addr.is_multiple_of(align) {
                return Err(LayoutError::Unaligned { area, addr, align });
            }
            // virtio-queue takes an available ring at address 0 for one that has not been set.
            if addr == 0 || !is_ram(memory, addr, len) {
                return Err(LayoutError::OutsideRam { area, addr });
            }
        }
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

/// Why a ring can no longer be understood. Only a reset recovers from it.
#[derive(Debug, thiserror::Error)]
#[error("the rings cannot be understood: {0}")]
pub struct RingError(#[from] virtio_queue::Error);

/// The device's end of a live split virtqueue.
#[derive(Debug)]
pub struct SplitQueue {
    rings: Queue,
    table: Table,
    indirect: bool,
    /// Whether buffers have been used since `wants_interrupt` was last asked.
    untold: bool,
    /// By head: whether the chain has been taken and not yet used.
    in_flight: Vec<bool>,
}

/// Heads that the driver has made available, and how many of them were refused.
#[derive(Debug, Default)]
pub struct Batch {
    /// Heads of chains, each now in flight.
    pub heads: VecDeque<u16>,
    /// How many entries of the available ring held no head, or one that is in flight.
    pub refused: u16,
}

impl SplitQueue {
    /// The queue at `layout`, with the ring features among `features`.
    ///
    /// # Errors
    /// virtio-queue refuses the layout.
    pub fn new(layout: &QueueLayout, features: Features) -> Result<Self, RingError> {
        let mut rings = Queue::new(layout.size)?;
        rings.try_set_desc_table_address(GuestAddress(layout.desc))?;
        rings.try_set_avail_ring_address(GuestAddress(layout.driver))?;
        rings.try_set_used_ring_address(GuestAddress(layout.device))?;
        rings.set_event_idx(features.contains(Features::VIRTIO_F_EVENT_IDX));
        rings.set_ready(true);
        Ok(Self {
            rings,
            table: Table {
                base: layout.desc,
                size: layout.size,
            },
            indirect: features.contains(Features::VIRTIO_F_INDIRECT_DESC),
            untold: false,
            in_flight: vec![false; usize::from(layout.size)],
        })
    }

    /// The size of the queue, in descriptors.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.table.size
    }

    /// Takes at most `limit` entries from the available ring into `batch`, in place of what it
    /// held, and returns how many.
    /// An entry that is no head, or whose chain is in flight, is refused: there is nothing that
    /// could be used for it.
    ///
    /// # Errors
    /// `avail.idx` is ahead by more than the size of the queue.
    pub fn take(
        &mut self,
        memory: &GuestMemoryMmap,
        limit: u16,
        batch: &mut Batch,
    ) -> Result<u16, RingError> {
        batch.heads.clear();
        batch.refused = 0;
        let mut taken = 0;
        for chain in self.rings.iter(memory)?.take(usize::from(limit)) {
            taken += 1;
            let head = chain.head_index();
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
        walk(memory, self.table, head, self.indirect, chain)
    }

    /// Returns the chain from `head` to the driver, of whose device-writable bytes the first
    /// `written` have been written.
    ///
    /// # Errors
    /// The used ring cannot be written.
    pub fn add_used(
        &mut self,
        memory: &GuestMemoryMmap,
        head: u16,
        written: u32,
    ) -> Result<(), RingError> {
        self.rings.add_used(memory, head, written)?;
        self.untold = true;
        if let Some(in_flight) = self.in_flight.get_mut(usize::from(head)) {
            *in_flight = false;
        }
        Ok(())
    }

    /// Asks the driver not to notify.
    ///
    /// # Errors
    /// The used ring cannot be written.
    pub fn suppress_notifications(&mut self, memory: &GuestMemoryMmap) -> Result<(), RingError> {
        Ok(self.rings.disable_notification(memory)?)
    }

    /// Asks the driver to notify, and returns whether there is something in the available ring
    /// already, for which it may not have notified.
    ///
    /// # Errors
    /// The rings cannot be read or written.
    pub fn rearm_notifications(&mut self, memory: &GuestMemoryMmap) -> Result<bool, RingError> {
        Ok(self.rings.enable_notification(memory)?)
    }

    /// Whether the driver is to be told of the buffers that have been used since this was last
    /// asked. If its wishes cannot be read, it is.
    #[must_use]
    pub fn wants_interrupt(&mut self, memory: &GuestMemoryMmap) -> bool {
        if !std::mem::take(&mut self.untold) {
            return false;
        }
        // The fence in here orders the used ring before what is read of the driver's wishes.
        let passed_used_event = self.rings.needs_notification(memory).unwrap_or(true);
        if self.rings.event_idx_enabled() {
            return passed_used_event;
        }
        let flags = GuestAddress(self.rings.avail_ring().wrapping_add(RING_FLAGS));
        match memory.load::<u16>(flags, Ordering::Relaxed) {
            Ok(flags) => u16::from_le(flags) & AVAIL_F_NO_INTERRUPT == 0,
            Err(_) => true,
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
