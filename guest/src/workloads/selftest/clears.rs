//! Requests that clear sectors: discards and write-zeroes, and each way in which one can end. What
//! is discarded may read as anything, so that only what is around it is looked at.

use core::array;

use spec::block::{Segment, request_type, segment_flags, status};

use super::{Bench, Case, DiskKind, Modes, SECTOR, promise, written};
use crate::virtio::{ClearLimits, Error, put_segments};
use crate::workloads::failure::Reason;

/// Where the cases work: so many sectors from this one on, in which each clears some.
const LBA: u64 = 32;
const SECTORS: usize = 24;
const SEED: u64 = 41;

pub(super) const CASES: [Case; 8] = [
    Case {
        name: "write zeroes, read",
        disk: DiskKind::WritesZeroes,
        modes: Modes::All,
        queue_size: None,
        run: write_zeroes_read,
    },
    Case {
        name: "discard, write, read",
        disk: DiskKind::Discards,
        modes: Modes::All,
        queue_size: None,
        run: discard_write_read,
    },
    case(
        "write zeroes to the last sector",
        DiskKind::WritesZeroes,
        last_sector,
    ),
    case(
        "write zeroes past the end",
        DiskKind::WritesZeroes,
        |bench| past_end(bench, request_type::WRITE_ZEROES),
    ),
    case("discard past the end", DiskKind::Discards, |bench| {
        past_end(bench, request_type::DISCARD)
    }),
    case(
        "write zeroes with unknown flags",
        DiskKind::WritesZeroes,
        |bench| unknown_flags(bench, request_type::WRITE_ZEROES, segment_flags::UNMAP),
    ),
    case("discard with flags", DiskKind::Discards, |bench| {
        unknown_flags(bench, request_type::DISCARD, 0)
    }),
    case(
        "what the driver refuses to clear",
        DiskKind::Discards,
        driver_refuses,
    ),
];

const fn case(
    name: &'static str,
    disk: DiskKind,
    run: fn(&mut Bench<'_, '_, '_>) -> Result<(), Reason>,
) -> Case {
    Case {
        name,
        disk,
        modes: Modes::One,
        queue_size: None,
        run,
    }
}

/// `count` sectors from the `first` of those that the cases work with.
fn segment(first: u64, count: u32, flags: u32) -> Segment {
    Segment {
        sector: LBA + first,
        num_sectors: count,
        flags,
    }
}

/// Segments of two sectors that do not touch, as many as the device takes in a request or there is
/// room for here: the segments, and how many of them.
fn scattered(limits: Option<ClearLimits>, flags: u32) -> ([Segment; 5], usize) {
    let segments = array::from_fn(|i| segment(4 * i as u64 + 1, 2, flags));
    let max_seg = limits.map_or(0, |limits| limits.max_seg as usize);
    (segments, max_seg.min(segments.len()))
}

fn write_zeroes_read(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    for flags in [0, segment_flags::UNMAP] {
        let (segments, count) = scattered(bench.block.info().write_zeroes, flags);
        let segments = &segments[..count];
        bench.write_pattern(SEED, LBA, SECTORS * SECTOR)?;
        bench
            .block
            .write_zeroes(segments, bench.data.part(0, SECTOR))?;
        surroundings(bench, segments)?;
        for segment in segments {
            promise(is_zero(bench, segment)?, "what was made zeros is not")?;
        }
    }
    Ok(())
}

fn discard_write_read(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let (segments, count) = scattered(bench.block.info().discard, 0);
    let segments = &segments[..count];
    bench.write_pattern(SEED, LBA, SECTORS * SECTOR)?;
    bench.block.discard(segments, bench.data.part(0, SECTOR))?;
    surroundings(bench, segments)?;
    for &Segment { sector, .. } in segments {
        bench.write_pattern(SEED + 1, sector, 2 * SECTOR)?;
        bench.read_pattern(SEED + 1, sector, 2 * SECTOR)?;
    }
    Ok(())
}

fn last_sector(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let last = Segment {
        sector: bench.capacity() - 1,
        num_sectors: 1,
        flags: 0,
    };
    bench.write_pattern(SEED, last.sector, SECTOR)?;
    let data = [put_segments(&[last], bench.data.part(0, SECTOR))];
    let request = (request_type::WRITE_ZEROES, 0);
    let done = bench.execute("write zeroes", request, &data, status::OK)?;
    written("write zeroes", done, 1)?;
    promise(is_zero(bench, &last)?, "what was made zeros is not")
}

fn past_end(bench: &mut Bench<'_, '_, '_>, request_type: u32) -> Result<(), Reason> {
    let last = bench.capacity() - 1;
    bench.write_pattern(SEED, last, SECTOR)?;
    for sector in [last, last + 1, u64::MAX / SECTOR as u64, u64::MAX] {
        let beyond = Segment {
            sector,
            num_sectors: 2,
            flags: 0,
        };
        refused(bench, request_type, beyond, status::IOERR)?;
    }
    // Not even the part that would fit.
    bench.read_pattern(SEED, last, SECTOR)
}

fn unknown_flags(
    bench: &mut Bench<'_, '_, '_>,
    request_type: u32,
    known: u32,
) -> Result<(), Reason> {
    bench.write_pattern(SEED, LBA, SECTORS * SECTOR)?;
    for flag in (0..u32::BITS)
        .map(|bit| 1 << bit)
        .filter(|flag| known & flag == 0)
    {
        refused(bench, request_type, segment(3, 8, flag), status::UNSUPP)?;
    }
    bench.read_pattern(SEED, LBA, SECTORS * SECTOR)
}

fn driver_refuses(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let memory = bench.data.part(0, SECTOR);
    promise(
        bench.block.discard(&[], memory) == Err(Error::Segments(0)),
        "a request of no segments was taken",
    )?;
    let max = bench
        .block
        .info()
        .discard
        .map_or(0, |limits| limits.max_sectors);
    let Some(more) = max.checked_add(1) else {
        return Ok(());
    };
    promise(
        bench.block.discard(&[segment(0, more, 0)], memory) == Err(Error::SegmentSectors(more)),
        "a segment of too many sectors was taken",
    )
}

/// Makes a request of one segment that the device is to answer like this.
fn refused(
    bench: &mut Bench<'_, '_, '_>,
    request_type: u32,
    segment: Segment,
    expected: u8,
) -> Result<(), Reason> {
    let data = [put_segments(&[segment], bench.data.part(0, SECTOR))];
    let done = bench.execute("clear", (request_type, 0), &data, expected)?;
    written("clear", done, 1)
}

/// Sees that the sectors between the cleared ones are as they were.
fn surroundings(bench: &mut Bench<'_, '_, '_>, cleared: &[Segment]) -> Result<(), Reason> {
    for sector in LBA..LBA + SECTORS as u64 {
        let mut extents = cleared
            .iter()
            .map(|s| s.sector..s.sector + u64::from(s.num_sectors));
        if !extents.any(|extent| extent.contains(&sector)) {
            bench.read_pattern(SEED, sector, SECTOR)?;
        }
    }
    Ok(())
}

fn is_zero(bench: &mut Bench<'_, '_, '_>, segment: &Segment) -> Result<bool, Reason> {
    let memory = bench.data.part(0, SECTOR);
    let mut bytes = [0; SECTOR];
    for sector in segment.sector..segment.sector + u64::from(segment.num_sectors) {
        bench.block.read(sector, memory)?;
        memory.read(0, &mut bytes);
        if bytes != [0; SECTOR] {
            return Ok(false);
        }
    }
    Ok(true)
}
