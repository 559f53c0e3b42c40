//! Chains that are none: descriptors that lead nowhere or in circles, and indirect tables that are
//! none. Each comes back with nothing written, whatever is in it.

use spec::block::request_type;
use spec::board::HOLE_START;
use spec::queue::{DESC_SIZE, DescFlags, Descriptor};

use super::case::{Case, DIRECT, INDIRECT};
use super::scene::{QUEUE_SIZE, Scene, indirect, readable, set_table, writable};
use super::seen::{Outcome, REFUSED, read_of};
use super::yard::UNTOUCHED;

/// Length of an indirect table that holds a read, in bytes.
const READ_LEN: u32 = 3 * DESC_SIZE as u32;

pub(super) const CASES: [Case; 8] = [
    Case::new(
        "chain-loops",
        "a descriptor chain that loops",
        "used.len 0",
        chain_loops,
    ),
    Case::new(
        "chain-too-long",
        "a descriptor chain that is longer than the queue",
        "used.len 0",
        chain_too_long,
    )
    .in_modes(INDIRECT),
    Case::new(
        "next-out-of-range",
        "`next` beyond the table that the descriptor is in",
        "used.len 0",
        next_out_of_range,
    ),
    Case::new(
        "indirect-not-negotiated",
        "INDIRECT without negotiation",
        "used.len 0",
        indirect_not_negotiated,
    )
    .in_modes(DIRECT),
    Case::new(
        "indirect-nested",
        "an indirect table that refers to another",
        "used.len 0",
        indirect_nested,
    )
    .in_modes(INDIRECT),
    Case::new(
        "indirect-with-next",
        "INDIRECT with NEXT",
        "used.len 0",
        indirect_with_next,
    )
    .in_modes(INDIRECT),
    Case::new(
        "indirect-length",
        "an indirect table of length 0, no multiple of 16, or longer than the queue",
        "used.len 0",
        indirect_length,
    )
    .in_modes(INDIRECT),
    Case::new(
        "indirect-outside-ram",
        "an indirect table that is not all RAM",
        "used.len 0",
        indirect_outside_ram,
    )
    .in_modes(INDIRECT),
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

/// As long as the queue, and one more, by a descriptor before the table.
fn chain_too_long(scene: &mut Scene<'_>) -> Outcome {
    let size = usize::from(QUEUE_SIZE);
    let mut chain = [writable(scene.status); QUEUE_SIZE as usize];
    for (i, descriptor) in chain[1..size - 1].iter_mut().enumerate() {
        *descriptor = writable(scene.data.part(128 * i, 128));
    }
    // All in all they are whole sectors.
    let last = 128 * (size - 3);
    chain[size - 2] = writable(scene.data.part(last, scene.data.len() - last));

    scene.set_header(request_type::IN, 0);
    let table = scene.table(1);
    set_table(table, &chain[1..]);
    let first = Descriptor {
        flags: DescFlags::NEXT,
        next: 1,
        ..readable(scene.header)
    };
    let refer = |len: usize| indirect(table.addr(), (len * DESC_SIZE as usize) as u32);
    let queue = scene.driver.queue;
    queue.set_desc(0, first);
    queue.set_desc(1, refer(size - 1));
    let answer = scene.submit_head(0)?;
    let served = read_of(scene.data.len());
    scene.check("as long as the queue", size as u64, answer, served)?;
    scene.data.fill(UNTOUCHED);

    let piece = scene.data.len() - last;
    chain[0] = writable(scene.data.part(0, 128));
    chain[size - 2] = writable(scene.data.part(last, piece - 128));
    set_table(table, &chain);
    queue.set_desc(1, refer(size));
    let answer = scene.submit_head(0)?;
    scene.check("longer than the queue", size as u64 + 1, answer, REFUSED)?;
    scene.check_data_untouched(0)
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
    scene.check_data_untouched(0)
}

/// Has the device refuse the chain of `refer` alone, with a read in the table of descriptor 0.
fn refuse(scene: &mut Scene<'_>, of: u64, refer: Descriptor) -> Outcome {
    scene.set_header(request_type::IN, 0);
    set_table(scene.table(0), &scene.read_chain());
    scene.driver.queue.set_desc(0, refer);
    let answer = scene.submit_head(0)?;
    scene.check("the table", of, answer, REFUSED)?;
    scene.check_data_untouched(of)
}

fn indirect_not_negotiated(scene: &mut Scene<'_>) -> Outcome {
    refuse(scene, 0, indirect(scene.table(0).addr(), READ_LEN))
}

/// To one that holds a sound chain, as the first descriptor and as a later one; and to itself.
fn indirect_nested(scene: &mut Scene<'_>) -> Outcome {
    scene.set_header(request_type::IN, 0);
    let (outer, inner) = (scene.table(0), scene.table(1));
    set_table(inner, &scene.read_chain());
    let header = readable(scene.header);
    let refer = indirect(inner.addr(), READ_LEN);
    let itself = indirect(outer.addr(), READ_LEN);
    for (of, chain) in (0..).zip([&[refer][..], &[header, refer], &[itself]]) {
        set_table(outer, chain);
        scene.driver.queue.set_desc(0, itself);
        let answer = scene.submit_head(0)?;
        scene.check("the chain", of, answer, REFUSED)?;
        scene.check_data_untouched(of)?;
    }
    Ok(())
}

/// To a sound descriptor, and to itself.
fn indirect_with_next(scene: &mut Scene<'_>) -> Outcome {
    scene.driver.queue.set_desc(1, writable(scene.status));
    for next in [1, 0] {
        let mut refer = indirect(scene.table(0).addr(), READ_LEN);
        refer.flags |= DescFlags::NEXT;
        refer.next = next;
        refuse(scene, next.into(), refer)?;
    }
    Ok(())
}

fn indirect_length(scene: &mut Scene<'_>) -> Outcome {
    let too_long = (u32::from(QUEUE_SIZE) + 1) * DESC_SIZE as u32;
    for len in [
        0,
        1,
        15,
        17,
        READ_LEN - 1,
        READ_LEN + 1,
        too_long,
        65536 * DESC_SIZE as u32,
        0xffff_fff0,
        u32::MAX,
    ] {
        refuse(scene, len.into(), indirect(scene.table(0).addr(), len))?;
    }
    Ok(())
}

fn indirect_outside_ram(scene: &mut Scene<'_>) -> Outcome {
    let end = scene.tail.addr() + scene.tail.len() as u64;
    let places = [
        end - DESC_SIZE,
        end,
        HOLE_START + 0x100_0000,
        scene.window.base,
        1 << 52,
        u64::MAX - 15,
        u64::MAX - u64::from(READ_LEN) + 1,
    ];
    // Without the tail it is not known where RAM ends.
    let known = if scene.tail.is_empty() { 2 } else { 0 };
    // What is there of a table is the beginning of a sound one.
    if !scene.tail.is_empty() {
        let last = scene.tail.len() - DESC_SIZE as usize;
        let mut first = readable(scene.header);
        first.flags |= DescFlags::NEXT;
        first.next = 1;
        scene.tail.write(last, &first.to_bytes());
    }
    for &addr in &places[known..] {
        refuse(scene, addr, indirect(addr, READ_LEN))?;
    }
    Ok(())
}
