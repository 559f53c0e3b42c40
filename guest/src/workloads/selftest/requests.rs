//! Each type of request, and each way in which one can end.

use spec::block::{ID_SIZE, request_type, status};

use super::{Bench, Case, DiskKind, Modes, SECTOR, promise, written};
use crate::virtio::queue::Buffer;
use crate::workloads::failure::Reason;

/// A request type that no version of the specification has.
const UNKNOWN_TYPE: u32 = 0x70;

const fn case(
    name: &'static str,
    disk: DiskKind,
    modes: Modes,
    run: fn(&mut Bench<'_, '_, '_>) -> Result<(), Reason>,
) -> Case {
    Case {
        name,
        disk,
        modes,
        queue_size: None,
        run,
    }
}

pub(super) const CASES: [Case; 11] = [
    case(
        "write, flush, read",
        DiskKind::Writable,
        Modes::All,
        write_flush_read,
    ),
    case(
        "data survives a reset",
        DiskKind::Writable,
        Modes::One,
        survives_reset,
    ),
    case(
        "write with and without a cache",
        DiskKind::Switches,
        Modes::All,
        switch_cache,
    ),
    case("get id", DiskKind::Any, Modes::Descriptors, get_id),
    case(
        "unknown request type",
        DiskKind::Any,
        Modes::One,
        unknown_type,
    ),
    case(
        "read past the end",
        DiskKind::Any,
        Modes::One,
        read_past_end,
    ),
    case(
        "write past the end",
        DiskKind::Writable,
        Modes::One,
        write_past_end,
    ),
    case(
        "length no multiple of a sector",
        DiskKind::Any,
        Modes::One,
        odd_length,
    ),
    case("last sector", DiskKind::Any, Modes::One, last_sector),
    case(
        "write to a read-only disk",
        DiskKind::ReadOnly,
        Modes::One,
        write_read_only,
    ),
    case(
        "flush of a read-only disk",
        DiskKind::ReadOnly,
        Modes::One,
        flush,
    ),
];

fn write_flush_read(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    for (seed, lba, sectors) in [(1, 0, 1), (2, 3, 7), (3, 0, 8)] {
        bench.write_pattern(seed, lba, sectors * SECTOR)?;
        flush(bench)?;
        bench.read_pattern(seed, lba, sectors * SECTOR)?;
    }
    Ok(())
}

fn survives_reset(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    // What `write_flush_read` left, several resets ago.
    bench.read_pattern(3, 0, 8 * SECTOR)
}

fn switch_cache(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let begins = bench.block.writeback();
    for (seed, writeback) in [(51, false), (52, true), (53, false)] {
        bench.block.set_writeback(writeback)?;
        promise(
            bench.block.writeback() == Some(writeback),
            "the cache was not switched",
        )?;
        bench.write_pattern(seed, 16, 4 * SECTOR)?;
        bench.read_pattern(seed, 16, 4 * SECTOR)?;
    }
    Ok(bench.block.set_writeback(begins == Some(true))?)
}

fn flush(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    Ok(bench.block.flush()?)
}

fn get_id(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let id = [Buffer::writable(bench.data.part(0, ID_SIZE))];
    let done = bench.execute("get id", (request_type::GET_ID, 0), &id, status::OK)?;
    written("get id", done, ID_SIZE as u32 + 1)
}

fn unknown_type(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let data = [Buffer::writable(bench.data.part(0, SECTOR))];
    bench.execute(
        "unknown request type",
        (UNKNOWN_TYPE, 0),
        &data,
        status::UNSUPP,
    )?;
    still_serves(bench)
}

fn read_past_end(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let capacity = bench.capacity();
    let data = [Buffer::writable(bench.data.part(0, 2 * SECTOR))];
    for lba in [capacity - 1, capacity, u64::MAX / SECTOR as u64, u64::MAX] {
        bench.execute(
            "read past the end",
            (request_type::IN, lba),
            &data,
            status::IOERR,
        )?;
    }
    still_serves(bench)
}

fn write_past_end(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let capacity = bench.capacity();
    bench.write_pattern(4, capacity - 1, SECTOR)?;
    let memory = bench.data.part(0, 2 * SECTOR);
    bench.fill(memory, 5, capacity - 1);
    for lba in [capacity - 1, capacity, u64::MAX / SECTOR as u64, u64::MAX] {
        let data = [Buffer::readable(memory)];
        bench.execute(
            "write past the end",
            (request_type::OUT, lba),
            &data,
            status::IOERR,
        )?;
    }
    // Not even the part that would fit.
    bench.read_pattern(4, capacity - 1, SECTOR)
}

fn odd_length(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    for len in [1, SECTOR - 1, SECTOR + 1] {
        let data = [Buffer::writable(bench.data.part(0, len))];
        bench.execute(
            "read of an odd length",
            (request_type::IN, 0),
            &data,
            status::IOERR,
        )?;
    }
    still_serves(bench)
}

fn last_sector(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let data = [Buffer::writable(bench.data.part(0, SECTOR))];
    let last = bench.capacity() - 1;
    let done = bench.execute("read", (request_type::IN, last), &data, status::OK)?;
    written("read", done, SECTOR as u32 + 1)
}

fn write_read_only(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let (before, after) = (bench.data.part(0, SECTOR), bench.data.part(SECTOR, SECTOR));
    bench.block.read(0, before)?;
    let mut bytes = [0; SECTOR];
    before.read(0, &mut bytes);
    for byte in &mut bytes {
        *byte = !*byte;
    }
    after.write(0, &bytes);
    let data = [Buffer::readable(after)];
    bench.execute("write", (request_type::OUT, 0), &data, status::IOERR)?;

    bench.block.read(0, after)?;
    let mut now = [0; SECTOR];
    after.read(0, &mut now);
    let unchanged = now
        .iter()
        .zip(&bytes)
        .all(|(now, inverted)| *now == !*inverted);
    promise(unchanged, "a read-only disk has changed")
}

/// After an error the device goes on with the next request.
pub(super) fn still_serves(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    Ok(bench.block.read(0, bench.data.part(0, SECTOR))?)
}
