//! What several CPUs have in their hands at once: a queue, four requests in it, and the memory that
//! those are made of. All of it is accessed by atomics, for no two CPUs take turns. Whatever address
//! here is combined with whatever length there is, it leads to memory that is the device's to use.

use core::sync::atomic::Ordering;

use spec::block::{HEADER_SIZE, RequestHeader, SECTOR_SIZE, request_type};
use spec::queue::{self, DESC_SIZE, DescFlags, Descriptor};

use super::yard::Yard;
use crate::dma::{Arena, OutOfMemory, Region};
use crate::virtio::raw::RawQueue;

/// Size of the queue, in descriptors.
pub const QUEUE_SIZE: u16 = 16;
/// How many requests there are.
pub const REQUESTS: u16 = 4;
/// Descriptors in a chain.
const CHAIN: u16 = 3;
/// The first of the descriptors that refer to indirect tables.
pub const FIRST_INDIRECT: u16 = REQUESTS * CHAIN;
/// The most bytes that a buffer has, and what is given to each header, status, table and data: two
/// sectors.
pub const PLACE: usize = 2 * SECTOR_SIZE as usize;

/// What a byte of memory is that belongs to nobody; if it is on the disk, then by a request's doing.
pub const FREE: u8 = 0x6f;
/// What a byte is that request number 0 writes to the disk, number 2 by two more.
pub const NEW: u8 = 0x60;

/// The memory.
pub struct Ground<'m> {
    yard: Yard<'m>,
    /// The queue.
    pub queue: RawQueue<'m>,
    tables: Region<'m>,
    headers: Region<'m>,
    statuses: Region<'m>,
    data: Region<'m>,
}

impl<'m> Ground<'m> {
    /// The memory, with guards around each piece of it.
    pub fn new(arena: Arena<'m>) -> Result<Self, OutOfMemory> {
        let mut yard = Yard::new(arena);
        let areas = [
            yard.alloc(queue::desc_table_size(QUEUE_SIZE) as usize)?,
            yard.alloc(queue::avail_ring_size(QUEUE_SIZE) as usize)?,
            yard.alloc(queue::used_ring_size(QUEUE_SIZE) as usize)?,
        ];
        // One more, for what begins in the middle of the last.
        let mut places = || yard.alloc((usize::from(REQUESTS) + 1) * PLACE);
        let (tables, headers, statuses, data) = (places()?, places()?, places()?, places()?);
        let ground = Self {
            queue: RawQueue::new(QUEUE_SIZE, areas),
            tables,
            headers,
            statuses,
            data,
            yard,
        };
        for region in [areas[0], tables] {
            region.fill(0);
        }
        for region in [headers, statuses, data] {
            region.fill(FREE);
        }
        for request in (0..REQUESTS).filter(|request| !is_read(*request)) {
            ground.data(request).fill(NEW + request as u8);
        }
        Ok(ground)
    }

    /// Whether no guard has been touched.
    pub fn is_intact(&self) -> bool {
        self.yard.is_intact()
    }

    /// The data of a request.
    pub fn data(&self, request: u16) -> Region<'m> {
        place(self.data, request)
    }

    /// The indirect table of a request.
    pub fn table(&self, request: u16) -> Region<'m> {
        place(self.tables, request)
    }

    /// Where the header of a request is.
    pub fn header(&self, request: u16) -> Region<'m> {
        place(self.headers, request)
    }

    /// Where the status of a request is.
    pub fn status(&self, request: u16) -> Region<'m> {
        place(self.statuses, request)
    }

    /// Writes all requests as they should be, for the sectors from `sector` on, in the queue's own
    /// table or in others. What is written, and to where data is read, is left as it is.
    pub fn write_requests(&self, sector: u64, indirect: bool) {
        for request in 0..REQUESTS {
            let is_read = is_read(request);
            let header = RequestHeader {
                request_type: if is_read {
                    request_type::IN
                } else {
                    request_type::OUT
                },
                sector: sector + u64::from(request),
            };
            store(self.header(request), 0, header.to_bytes());
            self.status(request)
                .store64(0, u64::from_ne_bytes([FREE; 8]), Ordering::Relaxed);
            let (table, first) = if indirect {
                (self.table(request), 0)
            } else {
                (self.queue.desc, request * CHAIN)
            };
            let direction = if is_read {
                DescFlags::WRITE
            } else {
                DescFlags::empty()
            };
            let buffers = [
                (self.header(request), HEADER_SIZE, DescFlags::NEXT),
                (self.data(request), PLACE, DescFlags::NEXT | direction),
                (self.status(request), 1, DescFlags::WRITE),
            ];
            for (index, (memory, len, flags)) in (first..).zip(buffers) {
                let descriptor = Descriptor {
                    addr: memory.addr(),
                    len: len as u32,
                    flags,
                    next: index + 1,
                };
                set_desc(table, index, descriptor);
            }
            if indirect {
                let refers = Descriptor {
                    addr: table.addr(),
                    len: u32::from(CHAIN) * DESC_SIZE as u32,
                    flags: DescFlags::INDIRECT,
                    next: 0,
                };
                set_desc(self.queue.desc, head(request, true), refers);
            }
        }
    }
}

/// Whether a request reads; the others write.
pub const fn is_read(request: u16) -> bool {
    request % 2 == 1
}

/// The head of the chain of a request.
pub const fn head(request: u16, indirect: bool) -> u16 {
    if indirect {
        FIRST_INDIRECT + request
    } else {
        request * CHAIN
    }
}

/// Writes the descriptor `index` of `table`, in two halves.
pub fn set_desc(table: Region<'_>, index: u16, descriptor: Descriptor) {
    store(
        table,
        usize::from(index) * DESC_SIZE as usize,
        descriptor.to_bytes(),
    );
}

/// Writes 16 bytes, in two halves.
fn store(memory: Region<'_>, offset: usize, bytes: [u8; 16]) {
    let both = u128::from_le_bytes(bytes);
    memory.store64(offset, both as u64, Ordering::Relaxed);
    memory.store64(offset + 8, (both >> 64) as u64, Ordering::Relaxed);
}

fn place(places: Region<'_>, index: u16) -> Region<'_> {
    places.part(usize::from(index) * PLACE, PLACE)
}
