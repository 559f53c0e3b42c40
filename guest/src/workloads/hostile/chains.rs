//! Chains that are none: descriptors that lead nowhere or in circles, indirect tables, buffers that
//! are not there. Each is refused, whatever is in it.

use spec::block::{request_type, status};
use spec::board::{HOLE_END, HOLE_START};
use spec::queue::{DESC_SIZE, DescFlags, Descriptor};

use super::scene::{QUEUE_SIZE, SECTOR, Scene, descriptor, indirect, readable};
use super::seen::{self, Outcome, REFUSED};
use super::yard::{UNTOUCHED, is_filled};
use super::{CHAINS, Case, DiskKind, INDIRECT, Mode, Run};

const fn case(
    name: &'static str,
    hazard: &'static str,
    required: &'static str,
    modes: &'static [Mode],
    run: fn(&mut Scene<'_>) -> Outcome,
) -> Case {
    Case {
        name,
        hazard,
        required,
        disk: DiskKind::Any,
        modes,
        resets: false,
        run: Run::Device(run),
    }
}

pub(super) const CASES: [Case; 4] = [
    case(
        "chain-loops",
        "a descriptor chain that loops",
        "used.len 0",
        CHAINS,
        chain_loops,
    ),
    case(
        "next-out-of-range",
        "`next` beyond the table that the descriptor is in",
        "used.len 0",
        CHAINS,
        next_out_of_range,
    ),
    case(
        "indirect-nested",
        "an indirect table that refers to another",
        "used.len 0",
        INDIRECT,
        indirect_nested,
    ),
    case(
        "buffer-outside-ram",
        "a buffer that wraps the address space, or is not all RAM",
        "used.len 1, IOERR",
        CHAINS,
        buffer_outside_ram,
    ),
];

/// From every descriptor of a read back to it, and to each one before it.
fn chain_loops(scene: &mut Scene<'_>) -> Outcome {
    scene.set_header(request_type::IN, 0);
    let chain = scene.read_chain();
    for (from, back) in [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)] {
        scene.set_chain(0, &chain);
        let last = chain[usize::from(from)];
        scene.set_desc(
            0,
            from,
            Descriptor {
                flags: last.flags | DescFlags::NEXT,
                next: scene.index(0, back),
                ..last
            },
        );
        let answer = scene.submit_head(0)?;
        scene.check("the loop from", from.into(), answer, REFUSED)?;
        scene.check_data_untouched(from.into())?;
    }
    Ok(())
}

fn next_out_of_range(scene: &mut Scene<'_>) -> Outcome {
    scene.set_header(request_type::IN, 0);
    for next in [QUEUE_SIZE, QUEUE_SIZE + 1, 0x8000, u16::MAX] {
        scene.set_chain(0, &scene.read_chain());
        let astray = Descriptor {
            flags: DescFlags::NEXT,
            next,
            ..readable(scene.header)
        };
        scene.set_desc(0, 0, astray);
        let answer = scene.submit_head(0)?;
        scene.check("next", next.into(), answer, REFUSED)?;
    }
    Ok(())
}

/// To itself, and to one that holds a sound chain.
fn indirect_nested(scene: &mut Scene<'_>) -> Outcome {
    scene.set_header(request_type::IN, 0);
    scene.set_chain(1, &scene.read_chain());
    let len = 3 * DESC_SIZE as u32;
    for table in [0, 1] {
        let refer = indirect(scene.table(table).addr(), len);
        scene.set_chain(0, &[refer]);
        let answer = scene.submit_head(0)?;
        scene.check("the inner table", table.into(), answer, REFUSED)?;
        scene.check_data_untouched(table.into())?;
    }
    Ok(())
}

/// Around the end of the RAM below the hole, in the hole, where the device itself is, and at the
/// end of all addresses.
fn buffer_outside_ram(scene: &mut Scene<'_>) -> Outcome {
    let tail = scene.tail;
    tail.fill(UNTOUCHED);
    let end = tail.addr() + tail.len() as u64;
    let places = [
        end - 1,
        end - SECTOR as u64 / 2,
        end,
        HOLE_START + 0x100_0000,
        HOLE_END - SECTOR as u64,
        scene.window.base,
        1 << 52,
        u64::MAX - SECTOR as u64 + 1,
        u64::MAX - 100,
        u64::MAX,
    ];
    // Without the tail it is not known where RAM ends.
    let known = if tail.is_empty() { 3 } else { 0 };
    for &addr in &places[known..] {
        for len in [SECTOR as u32, u32::MAX - 511] {
            let buffer = descriptor(addr, len, DescFlags::WRITE);
            let answer = scene.request(request_type::IN, 0, &[buffer])?;
            scene.check("the address", addr, answer, seen::status(status::IOERR))?;
        }
        let untouched = is_filled(tail, UNTOUCHED);
        scene.check_words("the end of RAM", addr, untouched, "untouched", "written")?;
    }
    Ok(())
}
