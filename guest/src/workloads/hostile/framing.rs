//! How a request is framed: its header and its status byte, where they are and how they are cut into
//! descriptors. What is legal is served, whatever it looks like; the rest is refused.

use spec::block::{HEADER_SIZE, request_type};

use super::case::Case;
use super::scene::{SECTOR, Scene, readable, writable};
use super::seen::{IOERR, OK, Outcome, REFUSED, Seen, read_of};
use super::yard::{UNTOUCHED, is_filled, is_same};
use crate::dma::Region;

pub(super) const CASES: [Case; 6] = [
    Case::new(
        "header-short",
        "a header shorter than 16 bytes, or none",
        "used.len 1, IOERR",
        header_short,
    ),
    Case::new(
        "header-split",
        "a header split over descriptors",
        "the data and OK",
        header_split,
    ),
    Case::new(
        "header-writable",
        "a header that is not device-readable",
        "used.len 1, IOERR",
        header_writable,
    ),
    Case::new(
        "header-overwritten",
        "a header that its own read overwrites after the check",
        "the data and OK",
        header_overwritten,
    ),
    Case::new(
        "status-missing",
        "no status byte, a read-only one, or one in the middle",
        "used.len 0",
        status_missing,
    ),
    Case::new(
        "status-wide",
        "a status descriptor of several bytes, or one with data before the status",
        "one byte written, the last",
        status_wide,
    ),
];

fn header_short(scene: &mut Scene<'_>) -> Outcome {
    scene.set_header(request_type::IN, 0);
    let [_, data, status] = scene.read_chain();
    for len in [1, 8, HEADER_SIZE - 1] {
        let header = readable(scene.header.part(0, len));
        let answer = scene.submit(&[header, data, status])?;
        scene.check("length", len as u64, answer, IOERR)?;
        let halves = [(0, len.div_ceil(2)), (len.div_ceil(2), len / 2)];
        let [first, second] = halves.map(|(from, len)| readable(scene.header.part(from, len)));
        if len > 1 {
            let answer = scene.submit(&[first, second, data, status])?;
            scene.check("length in two", len as u64, answer, IOERR)?;
        }
    }
    for chain in [&[data, status][..], &[status]] {
        let answer = scene.submit(chain)?;
        scene.check("length", 0, answer, IOERR)?;
    }
    scene.check_data_untouched(0)
}

fn header_split(scene: &mut Scene<'_>) -> Outcome {
    scene.set_header(request_type::IN, 1);
    let [_, data, status] = scene.read_chain();
    for (first, second) in [(1, 8), (4, 4), (8, 7)] {
        let pieces = [
            (0, first),
            (first, second),
            (first + second, HEADER_SIZE - first - second),
        ];
        let [a, b, c] = pieces.map(|(from, len)| readable(scene.header.part(from, len)));
        let answer = scene.submit(&[a, b, c, data, status])?;
        scene.check("the first piece", first as u64, answer, read_of(SECTOR))?;
        check_sector(scene, 1)?;
    }
    Ok(())
}

/// Sees that the data begin with what is in `sector`.
fn check_sector(scene: &mut Scene<'_>, sector: usize) -> Outcome {
    let expected = scene.disk.contents.part(sector * SECTOR, SECTOR);
    let same = is_same(scene.data.part(0, SECTOR), expected);
    scene.check_words("the data", sector as u64, same, "right", "wrong")
}

fn header_writable(scene: &mut Scene<'_>) -> Outcome {
    scene.set_header(request_type::IN, 0);
    let [_, data, status] = scene.read_chain();
    let answer = scene.submit(&[writable(scene.header), data, status])?;
    scene.check("the header", 0, answer, IOERR)?;
    scene.check_data_untouched(0)
}

fn header_overwritten(scene: &mut Scene<'_>) -> Outcome {
    let rest = scene.data.part(0, SECTOR - HEADER_SIZE);
    for sector in [0, 5] {
        let data = [writable(scene.header), writable(rest)];
        let answer = scene.request(request_type::IN, sector, &data)?;
        scene.check("sector", sector, answer, read_of(SECTOR))?;
        let expected = scene.disk.contents.part(sector as usize * SECTOR, SECTOR);
        let same = is_same(scene.header, expected.part(0, HEADER_SIZE))
            && is_same(rest, expected.part(HEADER_SIZE, rest.len()));
        scene.check_words("the data", sector, same, "right", "wrong")?;
    }
    Ok(())
}

fn status_missing(scene: &mut Scene<'_>) -> Outcome {
    let data = scene.data.part(0, SECTOR);
    for kind in [request_type::IN, request_type::OUT, request_type::FLUSH] {
        scene.set_header(kind, 0);
        let header = readable(scene.header);
        for (of, chain) in [
            (0, &[header][..]),
            (1, &[header, readable(data)]),
            (2, &[header, writable(data), readable(scene.status)]),
            (3, &[header, readable(data), readable(scene.status)]),
            (4, &[header, writable(scene.status), readable(data)]),
        ] {
            let answer = scene.submit(chain)?;
            scene.check("the chain", of, answer, REFUSED)?;
        }
    }
    scene.check_data_untouched(0)
}

fn status_wide(scene: &mut Scene<'_>) -> Outcome {
    let (before, last) = (scene.data.part(0, 6), scene.data.part(6, 1));
    scene.set_header(request_type::FLUSH, 0);
    let header = readable(scene.header);
    let answer = scene.submit(&[header, writable(scene.data.part(0, 7))])?;
    scene.check("a status of 7 bytes", 7, status_at(answer, last), OK)?;
    let untouched = is_filled(before, UNTOUCHED);
    scene.check_words("what is before it", 7, untouched, "untouched", "written")?;
    let rest = scene.data.part(7, scene.data.len() - 7);
    let untouched = is_filled(rest, UNTOUCHED);
    scene.check_words("the rest", 7, untouched, "untouched", "written")?;

    scene.set_header(request_type::IN, 1);
    let header = readable(scene.header);
    scene.data.fill(UNTOUCHED);
    let both = scene.data.part(0, SECTOR + 1);
    let answer = scene.submit(&[header, writable(both)])?;
    let answer = status_at(answer, both.part(SECTOR, 1));
    scene.check("data and status in one", 1, answer, read_of(SECTOR))?;
    check_sector(scene, 1)
}

/// `answer` with the status that is in `place`.
fn status_at(answer: Seen, place: Region<'_>) -> Seen {
    let mut status = [0];
    place.read(0, &mut status);
    match answer {
        Seen::Answer { len, .. } => Seen::Answer {
            len,
            status: status[0],
        },
        other => other,
    }
}
