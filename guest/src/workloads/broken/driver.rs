//! A driver that can be told to make a mistake: one request or four at a time, on a queue by hand.
//! What is asked of the disk is the workload's matter. `docs/src/broken.md` has its mistakes found
//! from outside, with gdb and a trace: who wants to find them reads no further.

use spec::Features;
use spec::block::{HEADER_SIZE, REQUEST_QUEUE, RequestHeader, SECTOR_SIZE, request_type, status};
use spec::mmio::{DeviceStatus, InterruptStatus};
use spec::queue;

use crate::dma::{Arena, Region};
use crate::virtio::queue::Buffer;
use crate::virtio::raw::{RawDriver, RawQueue};
use crate::virtio::{Error, Transport, descriptor};

/// Most requests in flight.
pub const DEPTH: u16 = 4;
/// Size of a sector, in bytes.
pub const SECTOR: usize = SECTOR_SIZE as usize;
/// Size of the queue, in descriptors.
const QUEUE_SIZE: u16 = 16;
/// Descriptors in a chain: header, data and status.
const CHAIN: u16 = 3;
/// What a status byte holds before the device has written it: none of the values it may write.
const STATUS_NOT_WRITTEN: u8 = 0xff;
/// How many moments the device has for each completion: about a second, in which the guest runs.
const PATIENCE: u32 = 50_000;

/// A disk, and a request in each of its slots.
pub struct Driver<'d, 'm> {
    device: RawDriver<'d, 'm>,
    /// Which mistake it makes, by the number of the exercise: 0 for none.
    bug: u64,
    headers: Region<'m>,
    data: Region<'m>,
    statuses: Region<'m>,
    /// By slot: whether its request is in flight.
    in_flight: [bool; DEPTH as usize],
    /// How many requests have been submitted.
    pub submitted: u32,
    /// How many of them have completed.
    pub completed: u32,
}

impl<'d, 'm> Driver<'d, 'm> {
    /// Brings up the device behind `transport`.
    ///
    /// # Errors
    /// The device does not go along, or there is no memory.
    pub fn new(
        transport: &'d mut dyn Transport,
        bug: u64,
        arena: &mut Arena<'m>,
    ) -> Result<Self, Error> {
        let areas = [
            arena.alloc(
                queue::desc_table_size(QUEUE_SIZE) as usize,
                queue::DESC_ALIGN,
            )?,
            arena.alloc(
                queue::avail_ring_size(QUEUE_SIZE) as usize,
                queue::AVAIL_ALIGN,
            )?,
            arena.alloc(
                queue::used_ring_size(QUEUE_SIZE) as usize,
                queue::USED_ALIGN,
            )?,
        ];
        // No entry of a ring is what another user of the memory has left.
        areas.iter().for_each(|area| area.fill(0));
        // For a driver that could flush, a write need not be stable when it completes.
        let features = transport.offered_features()
            & (Features::VIRTIO_F_VERSION_1 | Features::VIRTIO_BLK_F_FLUSH);
        let slots = usize::from(DEPTH);
        let mut driver = Self {
            device: RawDriver {
                transport,
                queue: RawQueue::new(QUEUE_SIZE, areas),
            },
            bug,
            headers: arena.alloc(slots * HEADER_SIZE, HEADER_SIZE as u64)?,
            data: arena.alloc(slots * SECTOR, SECTOR_SIZE)?,
            statuses: arena.alloc(slots, 1)?,
            in_flight: [false; DEPTH as usize],
            submitted: 0,
            completed: 0,
        };
        driver.device.bring_up(features)?;
        Ok(driver)
    }

    /// The buffer for the data of the request in `slot`: one sector.
    pub fn data(&self, slot: u16) -> Region<'m> {
        self.data.part(usize::from(slot) * SECTOR, SECTOR)
    }

    /// Makes `count` requests at once, each for one sector, from `sector` on, and waits until all
    /// have completed. Their data is in the slots from 0 on.
    ///
    /// # Errors
    /// The slot of the first request that has not succeeded, and why.
    pub fn transfer(
        &mut self,
        request_type: u32,
        sector: u64,
        count: u16,
    ) -> Result<(), (u16, Error)> {
        for slot in 0..count {
            let header = RequestHeader {
                request_type,
                sector: sector + u64::from(slot),
            };
            self.prepare(slot, header);
        }
        self.publish(count);
        self.device.kick(REQUEST_QUEUE.into());
        while let Some(slot) = (0..count).find(|&slot| self.in_flight[usize::from(slot)]) {
            self.wait()
                .and_then(|()| self.take_completed())
                .map_err(|error| (slot, error))?;
        }
        (0..count).try_for_each(|slot| self.check(slot).map_err(|error| (slot, error)))
    }

    /// Writes the buffers and the descriptors of the request in `slot`.
    #[inline(never)] // a step that a debugger can stop at
    fn prepare(&self, slot: u16, header: RequestHeader) {
        let place = if self.bug == 5 { 0 } else { slot };
        let header_memory = self
            .headers
            .part(usize::from(place) * HEADER_SIZE, HEADER_SIZE);
        header_memory.write(0, &header.to_bytes());
        let status_memory = self.statuses.part(slot.into(), 1);
        status_memory.fill(STATUS_NOT_WRITTEN);

        let data = Buffer {
            memory: self.data(slot),
            device_writable: header.request_type == request_type::IN,
        };
        let status = Buffer {
            memory: status_memory,
            device_writable: self.bug != 1,
        };
        let chain = [Buffer::readable(header_memory), data, status];
        for (index, buffer) in (slot * CHAIN..).zip(&chain) {
            let is_last = index % CHAIN == CHAIN - 1;
            let next = (!is_last).then_some(index + 1);
            self.device.queue.set_desc(index, descriptor(buffer, next));
        }
    }

    /// Makes the chains of the first `count` slots available, all at once.
    #[inline(never)] // as `prepare`
    fn publish(&mut self, count: u16) {
        let queue = &mut self.device.queue;
        for slot in 0..count {
            let idx = queue.avail_idx.wrapping_add(slot);
            queue.set_avail_entry(idx, slot * CHAIN);
            self.in_flight[usize::from(slot)] = true;
        }
        let next = queue.avail_idx.wrapping_add(count);
        queue.avail_idx = if self.bug == 4 {
            next % queue.size
        } else {
            next
        };
        let last = next.wrapping_sub(1);
        queue.set_avail_idx(if self.bug == 2 { last } else { queue.avail_idx });
        self.submitted += u32::from(count);
    }

    /// Waits for an interrupt.
    #[inline(never)] // as `prepare`
    fn wait(&mut self) -> Result<(), Error> {
        let transport = &mut *self.device.transport;
        for _ in 0..PATIENCE {
            let events = transport.take_events();
            if events.contains(InterruptStatus::CONFIG_CHANGE)
                && transport
                    .status()
                    .contains(DeviceStatus::DEVICE_NEEDS_RESET)
            {
                return Err(Error::NeedsReset);
            }
            if !events.is_empty() {
                return Ok(());
            }
            transport.pause();
        }
        Err(Error::NotUsed)
    }

    /// Takes the requests that have completed.
    #[inline(never)] // as `prepare`
    fn take_completed(&mut self) -> Result<(), Error> {
        while let Some(used) = self.device.queue.take_used() {
            let mut slots = (0..DEPTH).filter(|&slot| self.in_flight[usize::from(slot)]);
            let slot = slots.find(|slot| u32::from(slot * CHAIN) == used.id);
            let slot = slot.ok_or(Error::UsedId(used.id))?;
            self.in_flight[usize::from(slot)] = false;
            self.completed += 1;
            if self.bug == 3 {
                break;
            }
        }
        Ok(())
    }

    /// Whether the request in `slot`, which has completed, has succeeded.
    #[inline(never)] // as `prepare`
    fn check(&self, slot: u16) -> Result<(), Error> {
        let mut byte = [0];
        self.statuses.read(slot.into(), &mut byte);
        match byte {
            [status::OK] => Ok(()),
            [status] => Err(Error::Status(status)),
        }
    }
}
