//! Buffers that a chain must not have: empty, not in RAM, in the wrong order or of the wrong
//! direction. Where the status byte is sound the request ends with IOERR, and nothing is moved.

use spec::block::request_type;
use spec::board::{HOLE_END, HOLE_START};
use spec::queue::DescFlags;

use super::case::Case;
use super::scene::{SECTOR, Scene, descriptor, readable, writable};
use super::seen::{IOERR, Outcome, REFUSED};
use super::yard::{UNTOUCHED, is_filled};

pub(super) const CASES: [Case; 6] = [
    Case::new(
        "buffer-empty",
        "a descriptor of length 0",
        "used.len 1, IOERR; used.len 0 where it is the status",
        buffer_empty,
    ),
    Case::new(
        "buffer-outside-ram",
        "a buffer that wraps the address space, or is not all RAM",
        "used.len 1, IOERR",
        buffer_outside_ram,
    ),
    Case::new(
        "header-outside-ram",
        "a header that is not all RAM",
        "used.len 1, IOERR",
        header_outside_ram,
    ),
    Case::new(
        "status-outside-ram",
        "a status byte that is not RAM",
        "used.len 0",
        status_outside_ram,
    ),
    Case::new(
        "readable-after-writable",
        "a device-readable descriptor after a device-writable one",
        "used.len 1, IOERR",
        readable_after_writable,
    ),
    Case::new(
        "wrong-direction",
        "data of the wrong direction",
        "used.len 1, IOERR",
        wrong_direction,
    ),
];

fn buffer_empty(scene: &mut Scene<'_>) -> Outcome {
    let (data, none) = (scene.data.part(0, SECTOR), scene.data.part(0, 0));
    scene.set_header(request_type::IN, 0);
    let [header, sector, status] = scene.read_chain();
    for (of, chain) in [
        (0, [header, writable(none), sector, status]),
        (1, [header, sector, writable(none), status]),
        (2, [readable(none), header, sector, status]),
        (3, [header, readable(none), sector, status]),
    ] {
        let answer = scene.submit(&chain)?;
        scene.check("the place", of, answer, IOERR)?;
    }
    let answer = scene.submit(&[header, writable(data), writable(none)])?;
    scene.check("the status", 4, answer, REFUSED)?;
    scene.check_data_untouched(0)
}

/// Addresses from which `len` bytes are not all RAM: around the end of the RAM below the hole, in
/// the hole, where the device itself is, and at the end of all addresses.
fn outside_ram(scene: &Scene<'_>, len: u64) -> impl Iterator<Item = u64> + use<> {
    let tail = scene.tail;
    let end = tail.addr() + tail.len() as u64;
    let places = [
        end - 1,
        end - len / 2,
        end,
        HOLE_START + 0x100_0000,
        HOLE_END - len,
        scene.window.base,
        1 << 52,
        u64::MAX - len + 1,
        u64::MAX - len / 2,
        u64::MAX,
    ];
    // Without the tail it is not known where RAM ends. The last byte of RAM is one, alone.
    let known = match len {
        _ if tail.is_empty() => 3,
        1 => 2,
        _ => 0,
    };
    places.into_iter().skip(known)
}

fn buffer_outside_ram(scene: &mut Scene<'_>) -> Outcome {
    scene.tail.fill(UNTOUCHED);
    for addr in outside_ram(scene, SECTOR as u64) {
        for len in [SECTOR as u32, u32::MAX - 511] {
            let buffer = descriptor(addr, len, DescFlags::WRITE);
            let answer = scene.request(request_type::IN, 0, &[buffer])?;
            scene.check("the address", addr, answer, IOERR)?;
            // What comes first is not moved either.
            let first = writable(scene.data.part(0, SECTOR));
            let answer = scene.request(request_type::IN, 0, &[first, buffer])?;
            scene.check("the address", addr, answer, IOERR)?;
            let buffer = descriptor(addr, len, DescFlags::empty());
            let answer = scene.request(request_type::OUT, 0, &[buffer])?;
            scene.check("the address", addr, answer, IOERR)?;
        }
        let untouched = is_filled(scene.tail, UNTOUCHED);
        scene.check_words("the end of RAM", addr, untouched, "untouched", "written")?;
        scene.check_data_untouched(addr)?;
    }
    Ok(())
}

fn header_outside_ram(scene: &mut Scene<'_>) -> Outcome {
    let [header, data, status] = scene.read_chain();
    for addr in outside_ram(scene, header.len.into()) {
        let header = descriptor(addr, header.len, header.flags);
        let answer = scene.submit(&[header, data, status])?;
        scene.check("the address", addr, answer, IOERR)?;
        scene.check_data_untouched(addr)?;
    }
    Ok(())
}

fn status_outside_ram(scene: &mut Scene<'_>) -> Outcome {
    scene.set_header(request_type::IN, 0);
    let [header, data, status] = scene.read_chain();
    for addr in outside_ram(scene, 1) {
        let status = descriptor(addr, 1, status.flags);
        let answer = scene.submit(&[header, data, status])?;
        scene.check("the address", addr, answer, REFUSED)?;
        scene.check_data_untouched(addr)?;
    }
    Ok(())
}

fn readable_after_writable(scene: &mut Scene<'_>) -> Outcome {
    let (first, second) = (scene.data.part(0, SECTOR), scene.data.part(SECTOR, SECTOR));
    for kind in [request_type::IN, request_type::OUT, request_type::GET_ID] {
        let data = [writable(first), readable(second)];
        let answer = scene.request(kind, 0, &data)?;
        scene.check("type", kind.into(), answer, IOERR)?;
        scene.check_data_untouched(kind.into())?;
    }
    // The header itself.
    scene.set_header(request_type::IN, 0);
    let [header, data, status] = scene.read_chain();
    let answer = scene.submit(&[data, header, status])?;
    scene.check("the header", 1, answer, IOERR)?;
    scene.check_data_untouched(1)
}

fn wrong_direction(scene: &mut Scene<'_>) -> Outcome {
    let (first, second) = (scene.data.part(0, SECTOR), scene.data.part(SECTOR, SECTOR));
    for (kind, data) in [
        (request_type::IN, &[readable(first)][..]),
        (request_type::OUT, &[writable(first)]),
        (request_type::GET_ID, &[readable(first)]),
        (request_type::IN, &[readable(first), writable(second)]),
        (request_type::OUT, &[readable(first), writable(second)]),
    ] {
        let answer = scene.request(kind, 0, data)?;
        scene.check("type", kind.into(), answer, IOERR)?;
        scene.check_data_untouched(kind.into())?;
    }
    Ok(())
}
