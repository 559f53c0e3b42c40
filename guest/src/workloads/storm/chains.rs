//! The chains of a storm: what is wrong in every way, what is as large as can be, and what is sound.
//! They are written once, and made available again and again. None of them writes the disk.

use spec::block::{HEADER_SIZE, RequestHeader, SECTOR_SIZE, request_type};
use spec::board::HOLE_START;
use spec::queue::{self, DESC_SIZE, DescFlags, Descriptor};

use crate::dma::{Arena, OutOfMemory, Region};
use crate::virtio::raw::RawQueue;

/// Size of the queue, in descriptors, and length of the longest chain.
const QUEUE_SIZE: u16 = 512;
/// Room for each chain in the queue's table, in descriptors.
const ROOM: u16 = 4;
/// How many large or sound requests are in flight at once.
pub const IN_FLIGHT: u16 = 8;
/// The largest buffer of data, in bytes.
const DATA_SIZE: usize = 128 << 10;

const NEXT: DescFlags = DescFlags::NEXT;
const WRITE: DescFlags = DescFlags::WRITE;
const INDIRECT: DescFlags = DescFlags::INDIRECT;

/// The queue, and what is in its chains.
pub struct Chains<'m> {
    /// The queue.
    pub queue: RawQueue<'m>,
    /// A header that asks for the first sector, for one beyond the end, and for nothing known.
    headers: [Region<'m>; 3],
    data: Region<'m>,
    status: Region<'m>,
    /// As long a table as there can be.
    long: Region<'m>,
    /// One that goes in circles.
    endless: Region<'m>,
}

/// The head of the chain of this number.
pub const fn head(chain: u16) -> u16 {
    chain.wrapping_mul(ROOM)
}

impl<'m> Chains<'m> {
    /// With nothing in the queue.
    pub fn new(arena: &mut Arena<'m>) -> Result<Self, OutOfMemory> {
        let mut area = |size: u64| {
            let area = arena.alloc(size as usize, DESC_SIZE)?;
            area.fill(0);
            Ok(area)
        };
        let table = queue::desc_table_size(QUEUE_SIZE);
        let areas = [
            area(table)?,
            area(queue::avail_ring_size(QUEUE_SIZE))?,
            area(queue::used_ring_size(QUEUE_SIZE))?,
        ];
        let mut header = || area(HEADER_SIZE as u64);
        let headers = [header()?, header()?, header()?];
        for (header, (request_type, sector)) in headers.iter().zip([
            (request_type::IN, 0),
            (request_type::IN, u64::MAX >> 9),
            (u32::MAX, 0),
        ]) {
            let bytes = RequestHeader {
                request_type,
                sector,
            }
            .to_bytes();
            header.write(0, &bytes);
        }
        let chains = Self {
            queue: RawQueue::new(QUEUE_SIZE, areas),
            headers,
            data: area(DATA_SIZE as u64)?,
            status: area(1)?,
            long: area(table)?,
            endless: area(table)?,
        };
        for index in 0..QUEUE_SIZE {
            let link = descriptor(chains.data, 1, NEXT, (index + 1) % QUEUE_SIZE);
            write(chains.endless, index, link);
        }
        Ok(chains)
    }

    /// The status byte of whichever request was the last.
    pub fn status(&self) -> u8 {
        let mut status = [0];
        self.status.read(0, &mut status);
        status[0]
    }

    /// Writes chains that are wrong in every way, and returns how many.
    pub fn write_bad(&self) -> u16 {
        let [read, beyond, unknown] = self.headers;
        let whole = HEADER_SIZE as u32;
        let sector = SECTOR_SIZE as u32;
        let nowhere = Descriptor {
            addr: HOLE_START,
            len: sector,
            flags: WRITE | NEXT,
            next: 0,
        };
        self.write_long(sector);
        let header = |header| descriptor(header, whole, NEXT, 1);
        let data = |len| descriptor(self.data, len, WRITE | NEXT, 2);
        let status = descriptor(self.status, 1, WRITE, 0);
        let refers = |table, len, flags| [descriptor(table, len, INDIRECT | flags, 1)];
        let all = QUEUE_SIZE as u32 * DESC_SIZE as u32;
        let chains: [&[Descriptor]; 16] = [
            &[descriptor(read, whole, NEXT, 0)],
            &[header(read), descriptor(self.data, sector, WRITE | NEXT, 0)],
            &[descriptor(read, whole, NEXT, 2 * QUEUE_SIZE)],
            &refers(self.long, all, NEXT),
            &refers(self.long, 0, DescFlags::empty()),
            &refers(self.long, 2 * all, DescFlags::empty()),
            &refers(self.long, all, DescFlags::empty()),
            &refers(self.endless, all, DescFlags::empty()),
            &[header(read), nowhere, status],
            &[header(read), data(0), status],
            &[header(read), data(sector - 1), status],
            &[header(beyond), data(sector), status],
            &[header(unknown), status],
            &[descriptor(read, whole - 1, NEXT, 1), status],
            &[descriptor(read, whole, DescFlags::empty(), 0)],
            &[descriptor(self.status, 1, WRITE | NEXT, 1), header(read)],
        ];
        for (number, chain) in (0..).zip(chains) {
            self.write(number, chain);
        }
        chains.len() as u16
    }

    /// Writes requests for as much data as there can be, in buffers of `size_max` bytes that are one
    /// and the same.
    pub fn write_large(&self, size_max: u32) {
        self.write_long(size_max.min(DATA_SIZE as u32));
        let all = QUEUE_SIZE as u32 * DESC_SIZE as u32;
        for number in 0..IN_FLIGHT {
            self.write(number, &[descriptor(self.long, all, INDIRECT, 0)]);
        }
    }

    /// Writes reads of the first sector.
    pub fn write_small(&self) {
        for number in 0..IN_FLIGHT {
            let chain = [
                descriptor(self.headers[0], HEADER_SIZE as u32, NEXT, 1),
                descriptor(self.data, SECTOR_SIZE as u32, WRITE | NEXT, 2),
                descriptor(self.status, 1, WRITE, 0),
            ];
            self.write(number, &chain);
        }
    }

    /// Writes the long table: a read into buffers of `len` bytes.
    fn write_long(&self, len: u32) {
        let last = QUEUE_SIZE - 1;
        let header = descriptor(self.headers[0], HEADER_SIZE as u32, NEXT, 1);
        write(self.long, 0, header);
        for index in 1..last {
            let data = descriptor(self.data, len, WRITE | NEXT, index + 1);
            write(self.long, index, data);
        }
        write(self.long, last, descriptor(self.status, 1, WRITE, 0));
    }

    /// Writes a chain to the queue's table; `next` counts from its head.
    fn write(&self, number: u16, chain: &[Descriptor]) {
        for (index, descriptor) in (head(number)..).zip(chain) {
            let next = descriptor.next + head(number);
            self.queue.set_desc(
                index,
                Descriptor {
                    next,
                    ..*descriptor
                },
            );
        }
    }
}

fn descriptor(memory: Region<'_>, len: u32, flags: DescFlags, next: u16) -> Descriptor {
    Descriptor {
        addr: memory.addr(),
        len,
        flags,
        next,
    }
}

fn write(table: Region<'_>, index: u16, descriptor: Descriptor) {
    let offset = usize::from(index) * DESC_SIZE as usize;
    table.write(offset, &descriptor.to_bytes());
}
