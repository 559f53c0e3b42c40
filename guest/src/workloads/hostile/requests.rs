//! Requests that are not what they should be, in chains that are. Each is answered by its status
//! byte, if it has one that can be written, and nothing is moved.

use spec::Features;
use spec::block::{ID_SIZE, SEGMENT_SIZE, Segment, request_type};

use super::case::{Case, DiskKind};
use super::scene::{SECTOR, Scene, readable, writable};
use super::seen::{IOERR, OK, Outcome, UNSUPP, read_of};
use super::yard::{UNTOUCHED, copy, is_filled, is_same};
use crate::virtio::put_segments;

/// What a discard or write-zeroes request is for: the first sector.
const FIRST_SECTOR: Segment = Segment {
    sector: 0,
    num_sectors: 1,
    flags: 0,
};

pub(super) const CASES: [Case; 10] = [
    Case::new(
        "partial-sector",
        "data length not a multiple of 512",
        "used.len 1, IOERR",
        partial_sector,
    ),
    Case::new(
        "sector-out-of-range",
        "`sector * 512` overflow, sector past the end, range across the end",
        "used.len 1, IOERR",
        sector_out_of_range,
    ),
    Case::new(
        "unknown-type",
        "unknown request type",
        "used.len 1, UNSUPP",
        unknown_type,
    ),
    Case::new(
        "type-not-offered",
        "a request type that goes with a feature that is not offered",
        "used.len 1, UNSUPP",
        type_not_offered,
    )
    .on(DiskKind::Writable),
    Case::new(
        "write-read-only",
        "write, discard or write-zeroes on a read-only disk",
        "used.len 1, IOERR",
        write_read_only,
    )
    .on(DiskKind::ReadOnly),
    Case::new(
        "flush-read-only",
        "FLUSH and GET_ID on a read-only disk",
        "OK",
        flush_read_only,
    )
    .on(DiskKind::ReadOnly),
    Case::new(
        "get-id-short",
        "GET_ID with a buffer of less than 20 bytes, or more",
        "what fits and OK",
        get_id_short,
    ),
    Case::new(
        "flush-with-data",
        "FLUSH, with data of either direction",
        "used.len 1, OK",
        flush_with_data,
    ),
    Case::new(
        "used-len-read",
        "used.len of a read",
        "data + 1",
        used_len_read,
    ),
    Case::new("used-len-write", "used.len of a write", "1", used_len_write).on(DiskKind::Writable),
];

fn partial_sector(scene: &mut Scene<'_>) -> Outcome {
    for len in [1, SECTOR - 1, SECTOR + 1, 2 * SECTOR - 1] {
        let data = scene.data.part(0, len);
        for (kind, data) in [
            (request_type::IN, writable(data)),
            (request_type::OUT, readable(data)),
        ] {
            let answer = scene.request(kind, 0, &[data])?;
            scene.check("length", len as u64, answer, IOERR)?;
        }
        scene.check_data_untouched(len as u64)?;
    }
    Ok(())
}

fn sector_out_of_range(scene: &mut Scene<'_>) -> Outcome {
    let capacity = scene.disk.capacity;
    let (before, after) = (scene.yard.alloc(SECTOR)?, scene.yard.alloc(SECTOR)?);
    let answer = scene.request(request_type::IN, capacity - 1, &[writable(before)])?;
    scene.check_also("the last sector", capacity - 1, answer, read_of(SECTOR))?;

    let data = scene.data.part(0, 2 * SECTOR);
    for sector in [
        capacity - 1,
        capacity,
        capacity + 1,
        1 << 40,
        (1 << 55) - 1,
        1 << 55,
        (1 << 55) + 1,
        1 << 63,
        u64::MAX / SECTOR as u64,
        u64::MAX - 1,
        u64::MAX,
    ] {
        for (kind, data) in [
            (request_type::IN, writable(data)),
            (request_type::OUT, readable(data)),
        ] {
            let answer = scene.request(kind, sector, &[data])?;
            scene.check("sector", sector, answer, IOERR)?;
        }
        scene.check_data_untouched(sector)?;
    }
    let answer = scene.request(request_type::IN, capacity - 1, &[writable(after)])?;
    scene.check_also("the last sector", capacity - 1, answer, read_of(SECTOR))?;
    let same = is_same(before, after);
    scene.check_words(
        "the last sector",
        capacity - 1,
        same,
        "unchanged",
        "changed",
    )
}

fn unknown_type(scene: &mut Scene<'_>) -> Outcome {
    let sector = scene.data.part(0, SECTOR);
    for kind in [2, 3, 5, 6, 7, 9, 12, 15, 0x100, 0x8000_0000, u32::MAX] {
        for data in [&[][..], &[writable(sector)], &[readable(sector)]] {
            let answer = scene.request(kind, 0, data)?;
            scene.check("type", kind.into(), answer, UNSUPP)?;
        }
        scene.check_data_untouched(kind.into())?;
    }
    Ok(())
}

fn type_not_offered(scene: &mut Scene<'_>) -> Outcome {
    let segment = put_segments(&[FIRST_SECTOR], scene.yard.alloc(SEGMENT_SIZE)?).memory;
    for (kind, feature) in [
        (request_type::GET_LIFETIME, Features::VIRTIO_BLK_F_LIFETIME),
        (request_type::DISCARD, Features::VIRTIO_BLK_F_DISCARD),
        (
            request_type::WRITE_ZEROES,
            Features::VIRTIO_BLK_F_WRITE_ZEROES,
        ),
        (
            request_type::SECURE_ERASE,
            Features::VIRTIO_BLK_F_SECURE_ERASE,
        ),
    ] {
        if scene.disk.offered.contains(feature) {
            continue;
        }
        let answer = scene.request(kind, 0, &[readable(segment)])?;
        scene.check("type", kind.into(), answer, UNSUPP)?;
    }
    Ok(())
}

/// Requests with which nothing else is wrong.
fn write_read_only(scene: &mut Scene<'_>) -> Outcome {
    let sector = scene.data.part(0, SECTOR);
    let segment = put_segments(&[FIRST_SECTOR], scene.yard.alloc(SEGMENT_SIZE)?).memory;
    for (kind, data) in [
        (request_type::OUT, sector),
        (request_type::DISCARD, segment),
        (request_type::WRITE_ZEROES, segment),
        (request_type::SECURE_ERASE, segment),
    ] {
        let answer = scene.request(kind, 0, &[readable(data)])?;
        scene.check("type", kind.into(), answer, IOERR)?;
    }
    Ok(())
}

fn flush_read_only(scene: &mut Scene<'_>) -> Outcome {
    let answer = scene.request(request_type::FLUSH, 0, &[])?;
    scene.check("FLUSH", 0, answer, OK)?;
    let id = writable(scene.data.part(0, ID_SIZE));
    let answer = scene.request(request_type::GET_ID, 0, &[id])?;
    scene.check("GET_ID", 0, answer, read_of(ID_SIZE))
}

/// What is written is the beginning of the whole identity, and never past its buffer.
fn get_id_short(scene: &mut Scene<'_>) -> Outcome {
    let whole = scene.yard.alloc(ID_SIZE)?;
    let answer = scene.request(request_type::GET_ID, 0, &[writable(whole)])?;
    scene.check("length", ID_SIZE as u64, answer, read_of(ID_SIZE))?;
    for len in [1, 4, ID_SIZE - 1, ID_SIZE + 1, SECTOR] {
        scene.data.fill(UNTOUCHED);
        let buffer = writable(scene.data.part(0, len));
        let answer = scene.request(request_type::GET_ID, 0, &[buffer])?;
        let fits = len.min(ID_SIZE);
        scene.check("length", len as u64, answer, read_of(fits))?;
        let rest = scene.data.part(fits, scene.data.len() - fits);
        let right =
            is_same(scene.data.part(0, fits), whole.part(0, fits)) && is_filled(rest, UNTOUCHED);
        scene.check_words(
            "the identity",
            len as u64,
            right,
            "what fits",
            "more, or less",
        )?;
    }
    let answer = scene.request(request_type::GET_ID, 0, &[])?;
    scene.check("length", 0, answer, OK)
}

fn flush_with_data(scene: &mut Scene<'_>) -> Outcome {
    let sector = scene.data.part(0, SECTOR);
    for data in [&[][..], &[writable(sector)], &[readable(sector)]] {
        let answer = scene.request(request_type::FLUSH, 0, data)?;
        scene.check("buffers", data.len() as u64, answer, OK)?;
    }
    scene.check_data_untouched(0)
}

fn used_len_read(scene: &mut Scene<'_>) -> Outcome {
    for sectors in 0..=4 {
        let data = writable(scene.data.part(0, sectors * SECTOR));
        let data = if sectors == 0 { &[][..] } else { &[data] };
        let answer = scene.request(request_type::IN, 0, data)?;
        let expected = read_of(sectors * SECTOR);
        scene.check("sectors", sectors as u64, answer, expected)?;
    }
    Ok(())
}

/// Of what is there already.
fn used_len_write(scene: &mut Scene<'_>) -> Outcome {
    copy(scene.disk.contents.part(0, scene.data.len()), scene.data);
    for sectors in 0..=4 {
        let data = readable(scene.data.part(0, sectors * SECTOR));
        let data = if sectors == 0 { &[][..] } else { &[data] };
        let answer = scene.request(request_type::OUT, 0, data)?;
        scene.check("sectors", sectors as u64, answer, OK)?;
    }
    Ok(())
}
