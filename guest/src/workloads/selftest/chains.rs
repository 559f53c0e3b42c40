//! The shapes that a descriptor chain can have: the framing of a request is the driver's choice
//! (section 2.7.4.1).

use spec::block::{HEADER_SIZE, RequestHeader, request_type, status};

use super::{Bench, Case, DiskKind, Modes, SECTOR, promise, written};
use crate::dma::Region;
use crate::rng::pattern;
use crate::virtio::queue::Buffer;
use crate::workloads::failure::Reason;

/// How many data segments are tried, from 1 on.
const MAX_SEGMENTS: usize = 64;
/// Distance from one scattered piece of data to the next, in bytes: more than a sector, and odd.
const STRIDE: usize = 1031;
/// How many bytes of the data come in pieces of one byte.
const ONE_BYTE_PIECES: usize = 16;

pub(super) const CASES: [Case; 4] = [
    Case {
        name: "1 to 64 data segments",
        disk: DiskKind::Writable,
        modes: Modes::Descriptors,
        queue_size: None,
        run: segments,
    },
    Case {
        name: "header and data in pieces of one byte",
        disk: DiskKind::Writable,
        modes: Modes::Descriptors,
        queue_size: None,
        run: one_byte_pieces,
    },
    Case {
        name: "header and data in one buffer",
        disk: DiskKind::Writable,
        modes: Modes::Descriptors,
        queue_size: None,
        run: header_with_data,
    },
    Case {
        name: "data and status in one buffer",
        disk: DiskKind::Writable,
        modes: Modes::Descriptors,
        queue_size: None,
        run: data_with_status,
    },
];

/// A sector, in 1, 2, 3 ... pieces that lie far apart: written, and read back.
fn segments(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    for count in 1..=MAX_SEGMENTS.min(bench.block.max_segments()) {
        let (seed, lba) = (count as u64, count as u64);
        let piece = |i: usize| {
            let start = i * (SECTOR / count);
            let end = if i + 1 == count {
                SECTOR
            } else {
                start + SECTOR / count
            };
            (start..end, bench.data.part(i * STRIDE, end - start))
        };
        let (mut sector, mut found) = ([0; SECTOR], [0; SECTOR]);
        pattern(seed, lba, &mut sector);

        let mut data = [Buffer::readable(bench.data); MAX_SEGMENTS];
        for (i, buffer) in data[..count].iter_mut().enumerate() {
            let (range, memory) = piece(i);
            memory.write(0, &sector[range]);
            *buffer = Buffer::readable(memory);
        }
        let written_back = data.map(|buffer| Buffer::writable(buffer.memory));
        let data = &data[..count];
        let done = bench.execute("write", (request_type::OUT, lba), data, status::OK)?;
        written("write", done, 1)?;

        bench.data.part(0, count * STRIDE).fill(0);
        let data = &written_back[..count];
        let done = bench.execute("read", (request_type::IN, lba), data, status::OK)?;
        written("read", done, SECTOR as u32 + 1)?;
        for (i, buffer) in data.iter().enumerate() {
            let start = i * (SECTOR / count);
            buffer
                .memory
                .read(0, &mut found[start..start + buffer.memory.len()]);
        }
        promise(sector == found, "scattered data did not come back")?;
    }
    Ok(())
}

/// A request whose parts lie one behind the other in memory: header, a sector of data, status.
pub(super) struct Frame<'m> {
    pub(super) header: Region<'m>,
    pub(super) data: Region<'m>,
    pub(super) status: Region<'m>,
    memory: Region<'m>,
}

impl<'m> Frame<'m> {
    /// What data and status hold before the device writes them.
    pub(super) const UNTOUCHED: u8 = 0xff;

    pub(super) fn new(bench: &Bench<'_, '_, 'm>, request_type: u32, sector: u64) -> Self {
        let memory = bench.data.part(0, HEADER_SIZE + SECTOR + 1);
        let frame = Self {
            header: memory.part(0, HEADER_SIZE),
            data: memory.part(HEADER_SIZE, SECTOR),
            status: memory.part(HEADER_SIZE + SECTOR, 1),
            memory,
        };
        memory.fill(Self::UNTOUCHED);
        frame.header.write(
            0,
            &RequestHeader {
                request_type,
                sector,
            }
            .to_bytes(),
        );
        frame
    }

    /// The status byte.
    pub(super) fn status(&self) -> u8 {
        let mut status = [0];
        self.status.read(0, &mut status);
        status[0]
    }

    /// Makes the request as the chain of `buffers`, and sees that it succeeds.
    fn execute(
        &self,
        bench: &mut Bench<'_, '_, 'm>,
        what: &'static str,
        buffers: &[Buffer<'m>],
    ) -> Result<(), Reason> {
        bench.block.submit_chain(buffers)?;
        bench.block.notify();
        bench.block.wait()?;
        match self.status() {
            status::OK => Ok(()),
            found => Err(Reason::Status {
                what,
                expected: status::OK,
                found,
            }),
        }
    }
}

fn one_byte_pieces(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let lba = 5;
    let frame = Frame::new(bench, request_type::OUT, lba);
    bench.fill(frame.data, 21, lba);
    let chain = split(&frame, Buffer::readable);
    frame.execute(bench, "write", &chain)?;

    let frame = Frame::new(bench, request_type::IN, lba);
    let chain = split(&frame, Buffer::writable);
    frame.execute(bench, "read", &chain)?;
    promise(
        bench.matches(frame.data, 21, lba),
        "data in pieces did not come back",
    )
}

/// The request of `frame`: its header and the first bytes of its data byte by byte, then the rest
/// of the data, then the status.
fn split<'m>(
    frame: &Frame<'m>,
    data: fn(Region<'m>) -> Buffer<'m>,
) -> [Buffer<'m>; HEADER_SIZE + ONE_BYTE_PIECES + 2] {
    core::array::from_fn(|i| match i.checked_sub(HEADER_SIZE) {
        None => Buffer::readable(frame.header.part(i, 1)),
        Some(i @ 0..ONE_BYTE_PIECES) => data(frame.data.part(i, 1)),
        Some(ONE_BYTE_PIECES) => data(frame.data.part(ONE_BYTE_PIECES, SECTOR - ONE_BYTE_PIECES)),
        Some(_) => Buffer::writable(frame.status),
    })
}

fn header_with_data(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let lba = 6;
    let frame = Frame::new(bench, request_type::OUT, lba);
    bench.fill(frame.data, 22, lba);
    let both = frame.memory.part(0, HEADER_SIZE + SECTOR);
    frame.execute(
        bench,
        "write",
        &[Buffer::readable(both), Buffer::writable(frame.status)],
    )?;
    bench.read_pattern(22, lba, SECTOR)
}

fn data_with_status(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let lba = 7;
    bench.write_pattern(23, lba, SECTOR)?;
    let frame = Frame::new(bench, request_type::IN, lba);
    let half = HEADER_SIZE / 2;
    let chain = [
        Buffer::readable(frame.header.part(0, half)),
        Buffer::readable(frame.header.part(half, half)),
        Buffer::writable(frame.memory.part(HEADER_SIZE, SECTOR + 1)),
    ];
    frame.execute(bench, "read", &chain)?;
    promise(
        bench.matches(frame.data, 23, lba),
        "data before a status did not come back",
    )
}
