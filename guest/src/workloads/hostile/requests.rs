//! Requests that are not what they should be, in chains that are. Each is answered by its status
//! byte, if it has one that can be written, and nothing is moved.

use spec::block::{request_type, status};

use super::scene::{SECTOR, Scene, readable, writable};
use super::seen::{self, Outcome};
use super::{CHAINS, Case, DiskKind, Run};

const fn case(
    name: &'static str,
    hazard: &'static str,
    required: &'static str,
    disk: DiskKind,
    run: fn(&mut Scene<'_>) -> Outcome,
) -> Case {
    Case {
        name,
        hazard,
        required,
        disk,
        modes: CHAINS,
        resets: false,
        run: Run::Device(run),
    }
}

pub(super) const CASES: [Case; 3] = [
    case(
        "partial-sector",
        "data length not a multiple of 512",
        "used.len 1, IOERR",
        DiskKind::Writable,
        partial_sector,
    ),
    case(
        "unknown-type",
        "unknown request type",
        "used.len 1, UNSUPP",
        DiskKind::Any,
        unknown_type,
    ),
    case(
        "write-read-only",
        "write, discard or write-zeroes on a read-only disk",
        "used.len 1, IOERR",
        DiskKind::ReadOnly,
        write_read_only,
    ),
];

fn partial_sector(scene: &mut Scene<'_>) -> Outcome {
    for len in [1, SECTOR - 1, SECTOR + 1, 2 * SECTOR - 1] {
        let data = scene.data.part(0, len);
        for (kind, data) in [
            (request_type::IN, writable(data)),
            (request_type::OUT, readable(data)),
        ] {
            let answer = scene.request(kind, 0, &[data])?;
            scene.check("length", len as u64, answer, seen::status(status::IOERR))?;
        }
        scene.check_data_untouched(len as u64)?;
    }
    Ok(())
}

fn unknown_type(scene: &mut Scene<'_>) -> Outcome {
    let sector = scene.data.part(0, SECTOR);
    for kind in [2, 3, 5, 6, 7, 9, 12, 15, 0x100, 0x8000_0000, u32::MAX] {
        for data in [&[][..], &[writable(sector)], &[readable(sector)]] {
            let answer = scene.request(kind, 0, data)?;
            scene.check("type", kind.into(), answer, seen::status(status::UNSUPP))?;
        }
        scene.check_data_untouched(kind.into())?;
    }
    Ok(())
}

fn write_read_only(scene: &mut Scene<'_>) -> Outcome {
    let data = [readable(scene.data.part(0, SECTOR))];
    for kind in [
        request_type::OUT,
        request_type::DISCARD,
        request_type::WRITE_ZEROES,
        request_type::SECURE_ERASE,
    ] {
        let answer = scene.request(kind, 0, &data)?;
        scene.check("type", kind.into(), answer, seen::status(status::IOERR))?;
    }
    Ok(())
}
