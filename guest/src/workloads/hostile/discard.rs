//! Discard and write-zeroes requests whose segments are not what they should be. Each is answered
//! by its status byte, and nothing is cleared, not even what a sound segment beside it names.

use spec::Features;
use spec::block::{SEGMENT_SIZE, Segment, config, request_type, segment_flags};

use super::KNOWN;
use super::case::{Case, DiskKind};
use super::scene::{SECTOR, Scene, readable, writable};
use super::seen::{Broken, IOERR, OK, Outcome, Seen, UNSUPP, read_of};
use super::yard::{UNTOUCHED, is_filled, is_same};
use crate::dma::Region;
use crate::virtio::put_segments;

/// How often a segment is rewritten while the device may look at it.
const REWRITES: u64 = 64;

pub(super) const CASES: [Case; 9] = [
    Case::new(
        "segments-part",
        "discard/write-zeroes: segment count 0, or a length not a multiple of 16",
        "used.len 1, IOERR",
        part,
    )
    .on(DiskKind::WritesZeroes),
    Case::new(
        "segments-over-limit",
        "discard/write-zeroes: segment count over the limit",
        "used.len 1, IOERR",
        over_limit,
    )
    .on(DiskKind::WritesZeroes),
    Case::new(
        "segment-out-of-range",
        "discard/write-zeroes: range overflow, past the end, or over the limit",
        "used.len 1, IOERR",
        out_of_range,
    )
    .on(DiskKind::WritesZeroes),
    Case::new(
        "segment-flags",
        "discard/write-zeroes: reserved flags",
        "used.len 1, UNSUPP",
        flags,
    )
    .on(DiskKind::WritesZeroes),
    Case::new(
        "segment-unmap",
        "discard: unmap flag",
        "used.len 1, UNSUPP",
        unmap,
    )
    .on(DiskKind::Discards),
    Case::new(
        "segments-split",
        "discard/write-zeroes: segments split over descriptors",
        "OK",
        split,
    )
    .on(DiskKind::WritesZeroes),
    Case::new(
        "segments-writable",
        "discard/write-zeroes: segments that are not device-readable",
        "used.len 1, IOERR",
        not_readable,
    )
    .on(DiskKind::WritesZeroes),
    Case::new(
        "segment-rewritten",
        "write-zeroes: a segment that changes after it was submitted",
        "what it was at one time: OK or IOERR",
        rewritten,
    )
    .on(DiskKind::WritesZeroes),
    Case::new(
        "clear-not-negotiated",
        "discard/write-zeroes that have not been negotiated",
        "used.len 1, UNSUPP",
        not_negotiated,
    )
    .on(DiskKind::WritesZeroes)
    .with_reset(),
];

/// A type of request, and what the device says that it may have.
#[derive(Clone, Copy)]
struct Kind {
    request_type: u32,
    max_seg: u32,
    max_sectors: u32,
}

/// The types of requests with segments that have been negotiated.
fn kinds(scene: &mut Scene<'_>) -> impl Iterator<Item = Kind> + use<> {
    let features = scene.features;
    let mut kind = |request_type, feature, max_seg, max_sectors| {
        features.contains(feature).then(|| Kind {
            request_type,
            max_seg: scene.driver.transport.read_config(max_seg),
            max_sectors: scene.driver.transport.read_config(max_sectors),
        })
    };
    let discard = kind(
        request_type::DISCARD,
        Features::VIRTIO_BLK_F_DISCARD,
        config::MAX_DISCARD_SEG,
        config::MAX_DISCARD_SECTORS,
    );
    let write_zeroes = kind(
        request_type::WRITE_ZEROES,
        Features::VIRTIO_BLK_F_WRITE_ZEROES,
        config::MAX_WRITE_ZEROES_SEG,
        config::MAX_WRITE_ZEROES_SECTORS,
    );
    discard.into_iter().chain(write_zeroes)
}

const fn segment(sector: u64, num_sectors: u32, flags: u32) -> Segment {
    Segment {
        sector,
        num_sectors,
        flags,
    }
}

/// A segment with which nothing is wrong.
const SOUND: Segment = segment(0, 1, 0);

/// Has the device answer a request with these segments, and sees that it does so as `expected`.
fn clear(
    scene: &mut Scene<'_>,
    kind: Kind,
    segments: &[Segment],
    of: u64,
    expected: Seen,
) -> Outcome {
    let data = put_segments(segments, scene.data).memory;
    let answer = scene.request(kind.request_type, 0, &[readable(data)])?;
    scene.check("the segments", of, answer, expected)
}

fn part(scene: &mut Scene<'_>) -> Outcome {
    put_segments(&[SOUND; 4], scene.data);
    for kind in kinds(scene) {
        let answer = scene.request(kind.request_type, 0, &[])?;
        scene.check("length", 0, answer, IOERR)?;
        for len in [
            1,
            8,
            SEGMENT_SIZE - 1,
            SEGMENT_SIZE + 1,
            2 * SEGMENT_SIZE - 1,
        ] {
            let data = readable(scene.data.part(0, len));
            let answer = scene.request(kind.request_type, 0, &[data])?;
            scene.check("length", len as u64, answer, IOERR)?;
        }
    }
    Ok(())
}

fn over_limit(scene: &mut Scene<'_>) -> Outcome {
    let room = scene.data.len() / SEGMENT_SIZE;
    for kind in kinds(scene) {
        let nonzero = kind.max_seg > 0 && kind.max_sectors > 0;
        scene.check_words("the limits", 0, nonzero, "not 0", "0")?;
        let limit = kind.max_seg as usize;
        for count in [limit + 1, room] {
            if (limit + 1..=room).contains(&count) {
                for i in 0..count {
                    scene.data.write(i * SEGMENT_SIZE, &SOUND.to_bytes());
                }
                let data = readable(scene.data.part(0, count * SEGMENT_SIZE));
                let answer = scene.request(kind.request_type, 0, &[data])?;
                scene.check("segments", count as u64, answer, IOERR)?;
            }
        }
    }
    Ok(())
}

fn out_of_range(scene: &mut Scene<'_>) -> Outcome {
    let end = scene.disk.capacity;
    let (before, after) = (scene.yard.alloc(SECTOR)?, scene.yard.alloc(SECTOR)?);
    read(scene, end - 1, before)?;
    for kind in kinds(scene) {
        let more = kind.max_sectors.checked_add(1);
        let too_long = more.map(|more| segment(0, more, 0));
        for wrong in [
            segment(end - 1, 2, 0),
            segment(end, 1, 0),
            segment(end + 1, 0, 0),
            segment(1 << 40, 1, 0),
            // In bytes this is sector 0.
            segment(1 << 55, 1, 0),
            segment((1 << 55) + 1, 1, 0),
            segment(u64::MAX / SECTOR as u64, 1, 0),
            // The end is sector 0, or the one after it.
            segment(u64::MAX, 1, 0),
            segment(u64::MAX, 2, 0),
        ]
        .into_iter()
        .chain(too_long)
        {
            clear(scene, kind, &[wrong], wrong.sector, IOERR)?;
            if kind.max_seg > 1 {
                clear(scene, kind, &[SOUND, wrong], wrong.sector, IOERR)?;
            }
        }
    }
    read(scene, end - 1, after)?;
    let same = is_same(before, after);
    scene.check_words("the last sector", end - 1, same, "unchanged", "changed")
}

/// Reads a sector.
fn read(scene: &mut Scene<'_>, sector: u64, memory: Region<'_>) -> Outcome {
    let answer = scene.request(request_type::IN, sector, &[writable(memory)])?;
    scene.check("a read of sector", sector, answer, read_of(SECTOR))
}

fn flags(scene: &mut Scene<'_>) -> Outcome {
    for kind in kinds(scene) {
        for flags in [2, 3, 4, 1 << 16, 1 << 31, u32::MAX] {
            let of = u64::from(flags);
            clear(scene, kind, &[segment(0, 1, flags)], of, UNSUPP)?;
            // Whatever else is wrong.
            clear(
                scene,
                kind,
                &[segment(u64::MAX, u32::MAX, flags)],
                of,
                UNSUPP,
            )?;
            if kind.max_seg > 1 {
                clear(scene, kind, &[SOUND, segment(1, 1, flags)], of, UNSUPP)?;
                let beyond = segment(scene.disk.capacity, 1, 0);
                clear(scene, kind, &[beyond, segment(1, 1, flags)], of, UNSUPP)?;
            }
        }
    }
    Ok(())
}

fn unmap(scene: &mut Scene<'_>) -> Outcome {
    let discards = |kind: &Kind| kind.request_type == request_type::DISCARD;
    for kind in kinds(scene).filter(discards) {
        let wrong = segment(1, 1, segment_flags::UNMAP);
        clear(scene, kind, &[wrong], 1, UNSUPP)?;
        if kind.max_seg > 1 {
            clear(scene, kind, &[SOUND, wrong], 2, UNSUPP)?;
        }
    }
    Ok(())
}

/// What is discarded may read as anything, zeros are zeros.
fn split(scene: &mut Scene<'_>) -> Outcome {
    let sector = KNOWN as u64 - 1;
    put_segments(&[segment(sector, 1, 0)], scene.data);
    let (first, rest) = (scene.yard.alloc(SECTOR)?, scene.yard.alloc(SECTOR)?);
    for kind in kinds(scene) {
        for (a, b) in [(1, 7), (8, 4), (12, 3)] {
            put_segments(&[segment(sector, 1, 0)], scene.data);
            let pieces = [(0, a), (a, b), (a + b, SEGMENT_SIZE - a - b)];
            let pieces = pieces.map(|(from, len)| readable(scene.data.part(from, len)));
            let answer = scene.request(kind.request_type, 0, &pieces)?;
            scene.check("the first piece", a as u64, answer, OK)?;
        }
        read(scene, sector, first)?;
        read(scene, sector - 1, rest)?;
        let zeros = kind.request_type == request_type::DISCARD || is_filled(first, 0);
        scene.check_words("the sector", sector, zeros, "cleared", "not cleared")?;
        let expected = scene.disk.contents.part((KNOWN - 2) * SECTOR, SECTOR);
        let same = is_same(rest, expected);
        scene.check_words(
            "the one before it",
            sector - 1,
            same,
            "unchanged",
            "changed",
        )?;
        scene.restore()?;
    }
    Ok(())
}

fn not_readable(scene: &mut Scene<'_>) -> Outcome {
    put_segments(&[SOUND; 2], scene.data);
    let (whole, half) = (scene.data.part(0, 16), scene.data.part(16, 16));
    for kind in kinds(scene) {
        for (of, data) in [
            (0, &[writable(whole)][..]),
            (1, &[readable(whole), writable(half)]),
            (2, &[readable(whole.part(0, 8)), writable(whole.part(8, 8))]),
        ] {
            let answer = scene.request(kind.request_type, 0, data)?;
            scene.check("the buffers", of, answer, IOERR)?;
        }
    }
    Ok(())
}

/// The sector becomes one that there is not as soon as the device has been told of the request. The
/// device sees the one or the other, and does what it has checked.
fn rewritten(scene: &mut Scene<'_>) -> Outcome {
    let sector = 3;
    let memory = scene.yard.alloc(SECTOR)?;
    for of in 0..REWRITES {
        let data = put_segments(&[segment(sector, 1, 0)], scene.data).memory;
        let answer = rewrite_during(scene, data)?;
        scene.check_words(
            "the answer",
            of,
            [OK, IOERR].contains(&answer),
            "OK or IOERR",
            "another",
        )?;
        read(scene, sector, memory)?;
        let expected = scene.disk.contents.part(sector as usize * SECTOR, SECTOR);
        let right = if answer == OK {
            is_filled(memory, 0)
        } else {
            is_same(memory, expected)
        };
        scene.check_words("the sector", of, right, "as the answer says", "otherwise")?;
        scene.restore()?;
    }
    Ok(())
}

/// Has the device answer a write-zeroes request, whose segment in `data` changes meanwhile.
fn rewrite_during(scene: &mut Scene<'_>, data: Region<'_>) -> Result<Seen, Broken> {
    scene.set_header(request_type::WRITE_ZEROES, 0);
    scene.set_chain(
        0,
        &[
            readable(scene.header),
            readable(data),
            writable(scene.status),
        ],
    );
    scene.status.fill(UNTOUCHED);
    scene.driver.queue.offer(0);
    scene.driver.kick(0);
    // One byte of the sector, so that there is nothing between the two.
    data.write(7, &[0x10]);
    scene.answer(0)
}

fn not_negotiated(scene: &mut Scene<'_>) -> Outcome {
    let clears = Features::VIRTIO_BLK_F_DISCARD | Features::VIRTIO_BLK_F_WRITE_ZEROES;
    let negotiated = kinds(scene);
    scene.features -= clears;
    scene.bring_up()?;
    for kind in negotiated {
        clear(scene, kind, &[SOUND], kind.request_type.into(), UNSUPP)?;
    }
    Ok(())
}
