//! What is refused: by the driver, what it can tell is wrong; by the device, requests that are
//! none. How a device does that is its own choice, and it may even need a reset; what it must not
//! do is move data.

use spec::block::{HEADER_SIZE, RequestHeader, request_type, status};

use super::chains::Frame;
use super::requests::still_serves;
use super::{Bench, Case, DiskKind, Modes, SECTOR, promise, written};
use crate::virtio::Error;
use crate::virtio::block::Completion;
use crate::virtio::queue::{Buffer, MAX_CHAIN, MAX_QUEUE_SIZE};
use crate::workloads::failure::Reason;

/// Sizes that no queue for this driver can have: none, no power of two, too small for a request,
/// too large.
pub(super) const QUEUE_SIZES: [u16; 4] = [0, 12, 2, 2 * MAX_QUEUE_SIZE];

const fn case(
    name: &'static str,
    disk: DiskKind,
    run: fn(&mut Bench<'_, '_, '_>) -> Result<(), Reason>,
) -> Case {
    Case {
        name,
        disk,
        modes: Modes::Descriptors,
        queue_size: None,
        run,
    }
}

// One broken request in each: where it takes a reset to go on, the next case makes it.
pub(super) const CASES: [Case; 6] = [
    case("what the driver refuses", DiskKind::Any, driver_refuses),
    case("header too short", DiskKind::Any, short_header),
    case("read without a status byte", DiskKind::Any, read_no_status),
    case(
        "write without a status byte",
        DiskKind::Writable,
        write_no_status,
    ),
    case(
        "read into device-readable memory",
        DiskKind::Any,
        read_wrong_direction,
    ),
    case(
        "write from device-writable memory",
        DiskKind::Writable,
        write_wrong_direction,
    ),
];

fn driver_refuses(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let read = RequestHeader {
        request_type: request_type::IN,
        sector: 0,
    };
    let sector = [Buffer::writable(bench.data.part(0, SECTOR))];
    let many = [sector[0]; MAX_CHAIN + 1];
    let segments = bench.block.max_segments() + 1;
    promise(
        bench.block.submit(read, &many[..segments]) == Err(Error::ChainLength(segments)),
        "a request of too many segments was taken",
    )?;
    for chain in [&many[..], &[]] {
        promise(
            bench.block.submit_chain(chain) == Err(Error::ChainLength(chain.len())),
            "a chain of too many buffers, or of none, was taken",
        )?;
    }
    let size_max = bench.block.info().size_max.map(|size| size as usize);
    let too_long = size_max.map(|size| size.saturating_add(1));
    for len in too_long.into_iter().chain([0]) {
        if len > bench.data.len() {
            continue;
        }
        let segment = [Buffer::writable(bench.data.part(0, len))];
        promise(
            bench.block.submit(read, &segment) == Err(Error::SegmentLength(len)),
            "a segment that is too long, or empty, was taken",
        )?;
    }

    promise(
        bench.block.wait() == Err(Error::NothingInFlight),
        "a wait for nothing came to an end",
    )?;
    bench.block.submit(read, &sector)?;
    promise(
        bench.block.execute(read, &sector) == Err(Error::Busy),
        "a request that must be alone was not",
    )?;
    bench.block.notify();
    bench.block.wait()?.ok()?;
    still_serves(bench)
}

fn short_header(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let frame = Frame::new(bench, request_type::IN, 0);
    let chain = [
        Buffer::readable(frame.header.part(0, HEADER_SIZE - 1)),
        Buffer::writable(frame.data),
        Buffer::writable(frame.status),
    ];
    if submit(bench, &chain)?.is_some() {
        promise(
            frame.status() != status::OK && is_untouched(&frame),
            "a request with half a header was carried out",
        )?;
        still_serves(bench)?;
    }
    Ok(())
}

fn read_no_status(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let frame = Frame::new(bench, request_type::IN, 0);
    no_status(bench, &[Buffer::readable(frame.header)])
}

fn write_no_status(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let frame = Frame::new(bench, request_type::OUT, 0);
    let chain = [frame.header, frame.data].map(Buffer::readable);
    no_status(bench, &chain)
}

/// A request that the device cannot answer.
fn no_status<'m>(bench: &mut Bench<'_, '_, 'm>, chain: &[Buffer<'m>]) -> Result<(), Reason> {
    if let Some(done) = submit(bench, chain)? {
        written("request without a status byte", done, 0)?;
        still_serves(bench)?;
    }
    Ok(())
}

fn read_wrong_direction(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let frame = Frame::new(bench, request_type::IN, 0);
    let chain = [
        Buffer::readable(frame.header),
        Buffer::readable(frame.data),
        Buffer::writable(frame.status),
    ];
    if submit(bench, &chain)?.is_some() {
        promise(is_untouched(&frame), "device-readable memory was written")?;
        still_serves(bench)?;
    }
    Ok(())
}

fn write_wrong_direction(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let lba = 8;
    bench.write_pattern(31, lba, SECTOR)?;
    let frame = Frame::new(bench, request_type::OUT, lba);
    let chain = [
        Buffer::readable(frame.header),
        Buffer::writable(frame.data),
        Buffer::writable(frame.status),
    ];
    if submit(bench, &chain)?.is_some() {
        bench.read_pattern(31, lba, SECTOR)?;
    }
    Ok(())
}

/// Makes a request of the chain as it is. Returns how it was completed; none where the device
/// needs a reset instead.
fn submit<'m>(
    bench: &mut Bench<'_, '_, 'm>,
    chain: &[Buffer<'m>],
) -> Result<Option<Completion>, Reason> {
    bench.block.submit_chain(chain)?;
    bench.block.notify();
    match bench.block.wait() {
        Err(Error::NeedsReset) => Ok(None),
        result => Ok(Some(result?)),
    }
}

/// Whether the data of the frame is as it was made.
fn is_untouched(frame: &Frame<'_>) -> bool {
    let mut data = [0; SECTOR];
    frame.data.read(0, &mut data);
    data == [Frame::UNTOUCHED; SECTOR]
}
