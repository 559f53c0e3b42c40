//! The driver's side of a split virtqueue (section 2.7). It makes chains of buffers available to
//! the device and takes them back when they are used; what is in them is not its matter, and when
//! either side is notified is in `notifications`.
//!
//! The device can write to the memory of the queue at any time. So nothing that the driver needs
//! is ever read back from the descriptor table or the available ring: what they hold is kept
//! here as well, and what comes from the used ring is checked.

mod notifications;

use core::marker::PhantomData;
use core::sync::atomic::Ordering;

use spec::queue::{self, DescFlags, Descriptor};

use super::Error;
use super::areas::{DescriptorArea, DeviceArea, DriverArea};
pub use super::buffer::Buffer;
use super::buffer::{descriptor, write_descriptor};
use crate::dma::{Arena, OutOfMemory, Region};

/// The largest queue that this driver sets up, in descriptors.
pub const MAX_QUEUE_SIZE: u16 = 256;
/// The longest chain that this driver makes, in buffers.
pub const MAX_CHAIN: usize = 128;
/// Size of an indirect table for the longest chain, in bytes.
const TABLE_SIZE: usize = MAX_CHAIN * queue::DESC_SIZE as usize;

/// A chain that the device has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// What [`VirtQueue::add`] returned for it.
    pub head: u16,
    /// How many bytes the device says that it wrote to its device-writable buffers.
    pub len: u32,
}

/// What the driver remembers of a descriptor.
#[derive(Clone, Copy)]
struct Shadow {
    /// The next descriptor of the chain, or of the free list.
    next: u16,
    /// On the head of a chain that has been written: how many descriptors it has. Otherwise 0.
    chain: u16,
    /// Whether it is the head of a chain that the device has not used yet.
    in_flight: bool,
    /// Whether it is the head of a chain that is not free once it has been used.
    kept: bool,
}

/// A split virtqueue.
pub struct VirtQueue<'m> {
    size: u16,
    event_idx: bool,
    /// One table for each descriptor that can point to it; none where INDIRECT is not negotiated.
    tables: Option<Region<'m>>,
    descriptor_area: Region<'m>,
    driver_area: Region<'m>,
    device_area: Region<'m>,
    /// What they hold, as a debugger shows it.
    areas: PhantomData<(DescriptorArea, DriverArea, DeviceArea)>,

    shadow: [Shadow; MAX_QUEUE_SIZE as usize],
    first_free: u16,
    free: u16,
    in_flight: u16,
    /// The index that `avail.idx` has: runs freely, wraps at 65536.
    avail_idx: u16,
    /// How many chains have been added since it was last considered to notify the device: 65535 for
    /// more, as a device that polls may take any number before it wants to be notified again.
    not_considered: u16,
    /// The index in the used ring that is looked at next: runs freely, wraps at 65536.
    used_idx: u16,
}

impl<'m> VirtQueue<'m> {
    /// A queue of `size` descriptors, its memory taken from `arena`. With `event_idx` the event
    /// indices are used, with `indirect` the descriptors of a chain are put into a table of
    /// their own: as negotiated.
    ///
    /// # Errors
    /// A size that is no power of two or above [`MAX_QUEUE_SIZE`], or no memory.
    pub fn new(
        size: u16,
        event_idx: bool,
        indirect: bool,
        arena: &mut Arena<'m>,
    ) -> Result<Self, Error> {
        if !size.is_power_of_two() || size > MAX_QUEUE_SIZE {
            return Err(Error::QueueSize {
                size,
                min: 1,
                max: MAX_QUEUE_SIZE,
            });
        }
        let mut area = |len: u64, align| -> Result<Region<'m>, OutOfMemory> {
            let area = arena.alloc(len as usize, align)?;
            area.fill(0);
            Ok(area)
        };
        // (The tables need not be zeroed: what is used of them is written first.)
        Ok(Self {
            size,
            event_idx,
            descriptor_area: area(queue::desc_table_size(size), queue::DESC_ALIGN)?,
            driver_area: area(queue::avail_ring_size(size), queue::AVAIL_ALIGN)?,
            device_area: area(queue::used_ring_size(size), queue::USED_ALIGN)?,
            areas: PhantomData,
            tables: match indirect {
                true => Some(arena.alloc(usize::from(size) * TABLE_SIZE, queue::DESC_ALIGN)?),
                false => None,
            },
            shadow: core::array::from_fn(|i| Shadow {
                next: i as u16 + 1,
                chain: 0,
                in_flight: false,
                kept: false,
            }),
            first_free: 0,
            free: size,
            in_flight: 0,
            avail_idx: 0,
            not_considered: 0,
            used_idx: 0,
        })
    }

    /// Size, in descriptors.
    #[must_use]
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// The Descriptor, Driver and Device Areas.
    #[must_use]
    pub const fn areas(&self) -> [Region<'m>; 3] {
        [self.descriptor_area, self.driver_area, self.device_area]
    }

    /// The memory of all indirect tables, where there are any.
    #[must_use]
    pub const fn tables(&self) -> Option<Region<'m>> {
        self.tables
    }

    /// How many chains are in flight: added, and not yet popped.
    #[must_use]
    pub const fn in_flight(&self) -> u16 {
        self.in_flight
    }

    /// How many chains of `buffers` buffers can be in flight at once: none where one is too long.
    #[must_use]
    pub fn capacity(&self, buffers: u16) -> u16 {
        if usize::from(buffers) > self.max_chain() {
            0
        } else if self.is_indirect(buffers.into()) {
            self.size
        } else {
            self.size / buffers.max(1)
        }
    }

    /// The longest chain that there can be, in buffers. It is never longer than the queue, not even
    /// where it is indirect (section 2.7.5.3.1).
    #[must_use]
    pub fn max_chain(&self) -> usize {
        MAX_CHAIN.min(self.size.into())
    }

    /// The head that the next chain will have; none where the queue is full.
    #[must_use]
    pub fn next_head(&self) -> Option<u16> {
        (self.free > 0).then_some(self.first_free)
    }

    /// Makes a chain of the buffers in `parts`, one part after the other and device-readable
    /// buffers first, available to the device, and returns its head, by which it comes back. The
    /// device need not look before it is notified: see [`VirtQueue::needs_notification`].
    ///
    /// # Errors
    /// [`Error::QueueFull`] where it does not fit in now; [`Error::ChainLength`] where it never
    /// will.
    pub fn add(&mut self, parts: &[&[Buffer<'m>]]) -> Result<u16, Error> {
        let head = self.write_chain(parts)?;
        self.make_available(head);
        Ok(head)
    }

    /// Makes a chain as [`VirtQueue::add`] does, but one that is kept: it is available to the
    /// device whenever [`VirtQueue::add_kept`] makes it so, and keeps its descriptors for as long
    /// as the queue is there.
    ///
    /// # Errors
    /// As for [`VirtQueue::add`].
    pub fn keep(&mut self, parts: &[&[Buffer<'m>]]) -> Result<u16, Error> {
        let head = self.write_chain(parts)?;
        self.shadow[usize::from(head)].kept = true;
        Ok(head)
    }

    /// Makes a chain that [`VirtQueue::keep`] returned available to the device. One that is in
    /// flight, or was never kept, is a mistake in this program and panics.
    #[inline(always)] // where it is called again and again: instructions are dear
    pub fn add_kept(&mut self, head: u16) {
        let shadow = &self.shadow[usize::from(head)];
        assert!(shadow.kept && !shadow.in_flight);
        self.make_available(head);
    }

    /// Writes a chain to free descriptors, and returns its head.
    fn write_chain(&mut self, parts: &[&[Buffer<'m>]]) -> Result<u16, Error> {
        let len = parts.iter().map(|part| part.len()).sum();
        if len == 0 || len > self.max_chain() {
            return Err(Error::ChainLength(len));
        }
        let indirect = self.is_indirect(len);
        let taken = if indirect { 1 } else { len as u16 };
        if taken > self.free {
            return Err(Error::QueueFull);
        }

        let head = self.first_free;
        let buffers = parts.iter().copied().flatten();
        match self.tables {
            Some(tables) if indirect => self.write_indirect(head, tables, buffers, len),
            _ => self.write_direct(head, buffers, len),
        }
        self.shadow[usize::from(head)].chain = taken;
        self.free -= taken;
        Ok(head)
    }

    /// Puts a chain into the available ring.
    #[inline(always)] // as `add_kept`
    fn make_available(&mut self, head: u16) {
        self.in_flight += 1;
        self.shadow[usize::from(head)].in_flight = true;
        let entry = queue::avail_entry(self.avail_idx, self.size);
        self.driver_area
            .store16(entry as usize, head, Ordering::Relaxed);
        self.avail_idx = self.avail_idx.wrapping_add(1);
        self.not_considered = self.not_considered.saturating_add(1);
        // Release: whoever sees this index also sees the ring entry, the descriptors and the
        // buffers that were written before it (section 2.7.13.3).
        self.driver_area
            .store16(queue::RING_IDX as usize, self.avail_idx, Ordering::Release);
    }

    /// Takes back a chain that the device has used, if there is one.
    ///
    /// # Errors
    /// [`Error::UsedIndex`], [`Error::UsedId`]: the device does not keep to the protocol, and
    /// what is in flight can no longer be told.
    #[inline(always)] // as `add_kept`
    pub fn pop_used(&mut self) -> Result<Option<Used>, Error> {
        // Acquire: the used ring's entry, the buffers and the status that the device wrote before
        // it moved this index are seen after it.
        let idx = self
            .device_area
            .load16(queue::RING_IDX as usize, Ordering::Acquire);
        if idx == self.used_idx {
            return Ok(None);
        }
        if idx.wrapping_sub(self.used_idx) > self.in_flight {
            return Err(Error::UsedIndex {
                idx,
                seen: self.used_idx,
            });
        }

        let mut entry = [0; queue::USED_ELEM_SIZE as usize];
        self.device_area.read(
            queue::used_entry(self.used_idx, self.size) as usize,
            &mut entry,
        );
        let entry = u64::from_le_bytes(entry);
        let (id, len) = (entry as u32, (entry >> 32) as u32);
        let head = u16::try_from(id)
            .ok()
            .filter(|&head| self.is_in_flight(head));
        let head = head.ok_or(Error::UsedId(id))?;

        self.in_flight -= 1;
        let shadow = &mut self.shadow[usize::from(head)];
        shadow.in_flight = false;
        if !shadow.kept {
            self.free_chain(head);
        }
        self.used_idx = self.used_idx.wrapping_add(1);
        Ok(Some(Used { head, len }))
    }

    /// Whether a chain of `len` buffers goes into a table: there is nothing to gain for one.
    fn is_indirect(&self, len: usize) -> bool {
        self.tables.is_some() && len > 1
    }

    fn is_in_flight(&self, head: u16) -> bool {
        head < self.size && self.shadow[usize::from(head)].in_flight
    }

    /// Writes `len` buffers to the free descriptors from `head` on, in the order of the free list.
    fn write_direct<'b>(
        &mut self,
        head: u16,
        buffers: impl Iterator<Item = &'b Buffer<'m>>,
        len: usize,
    ) where
        'm: 'b,
    {
        let mut index = head;
        for (i, buffer) in (1..).zip(buffers) {
            let next = self.shadow[usize::from(index)].next;
            let descriptor = descriptor(buffer, (i < len).then_some(next));
            write_descriptor(self.descriptor_area, index, &descriptor);
            index = next;
        }
        self.first_free = index;
    }

    /// Writes `len` buffers to the table that belongs to the descriptor `head`, and a descriptor
    /// that points to the table.
    fn write_indirect<'b>(
        &mut self,
        head: u16,
        tables: Region<'m>,
        buffers: impl Iterator<Item = &'b Buffer<'m>>,
        len: usize,
    ) where
        'm: 'b,
    {
        let table_len = len * queue::DESC_SIZE as usize;
        let table = tables.part(usize::from(head) * TABLE_SIZE, table_len);
        for (next, buffer) in (1..).zip(buffers) {
            let more = (usize::from(next) < len).then_some(next);
            write_descriptor(table, next - 1, &descriptor(buffer, more));
        }
        let descriptor = Descriptor {
            addr: table.addr(),
            len: table_len as u32,
            flags: DescFlags::INDIRECT,
            next: 0,
        };
        write_descriptor(self.descriptor_area, head, &descriptor);
        self.first_free = self.shadow[usize::from(head)].next;
    }

    /// Puts the descriptors of a chain before those that are free.
    fn free_chain(&mut self, head: u16) {
        let chain = core::mem::take(&mut self.shadow[usize::from(head)].chain);
        let mut last = head;
        for _ in 1..chain {
            last = self.shadow[usize::from(last)].next;
        }
        self.shadow[usize::from(last)].next = self.first_free;
        self.first_free = head;
        self.free += chain;
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
