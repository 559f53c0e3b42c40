//! Descriptor chains that a hostile guest makes: loops, strays, indirect tables, buffers that are
//! not in RAM. Each is refused, and the next well-formed request is served without a reset.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use spec::Features;
use spec::block::{request_type, status};
use spec::queue::{DescFlags, Descriptor};

// Chains

#[test]
fn a_chain_that_loops_is_refused_with_length_0() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, PLAIN);
        driver.header(request_type::IN, 0);
        driver.chain_at(0, &read_chain());
        let back = Descriptor {
            flags: DescFlags::WRITE | DescFlags::NEXT,
            next: 0,
            ..writable(STATUS, 1)
        };
        driver.descriptor(2, back);
        assert_eq!(driver.submit_head(0), 0);
        driver.assert_serves();
    });
}

#[test]
fn a_descriptor_that_is_its_own_next_is_refused_with_length_0() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    let own = Descriptor {
        flags: DescFlags::NEXT,
        next: 3,
        ..readable(HEADER, 16)
    };
    driver.descriptor(3, own);
    assert_eq!(driver.submit_head(3), 0);
    driver.assert_serves();
}

#[test]
fn a_chain_longer_than_the_queue_is_refused_with_length_0() {
    let mut driver = Driver::live(Mode::Trap, INDIRECT);
    driver.header(request_type::IN, 0);
    // As many descriptors in the indirect table as the queue has, and one before it.
    let mut chain = vec![writable(DATA, 512); usize::from(SIZE)];
    chain[usize::from(SIZE) - 1] = writable(STATUS, 1);
    driver.put(TABLE, &table(&chain));
    let len = driver.submit(&[readable(HEADER, 16), indirect(TABLE, u32::from(SIZE) * 16)]);
    assert_eq!((len, driver.status()), (0, UNTOUCHED));
    driver.assert_serves();
}

#[test]
fn a_chain_as_long_as_the_queue_is_served() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    let data: Vec<_> = (0..6).map(|i| writable(DATA + i * 512, 512)).collect();
    assert_eq!(data.len() + 2, usize::from(SIZE));
    let answer = driver.request(request_type::IN, 0, &data);
    assert_eq!(answer, (6 * 512 + 1, status::OK));
    assert_eq!(driver.bytes(DATA, 6 * 512), driver.disk.bytes()[..6 * 512]);
}

#[test]
fn a_next_index_beyond_the_queue_is_refused_with_length_0() {
    for next in [SIZE, SIZE + 1, u16::MAX] {
        let mut driver = Driver::live(Mode::Trap, PLAIN);
        let astray = Descriptor {
            flags: DescFlags::NEXT,
            next,
            ..readable(HEADER, 16)
        };
        driver.descriptor(0, astray);
        assert_eq!(driver.submit_head(0), 0, "next {next}");
        driver.assert_serves();
    }
}

#[test]
fn a_head_index_beyond_the_queue_is_skipped_and_not_tried_again() {
    in_every_mode(|mode| {
        for head in [SIZE, SIZE + 1, u16::MAX] {
            let mut driver = Driver::live(mode, PLAIN);
            driver.offer(head);
            driver.notify();
            // What is used next is what was offered next.
            driver.assert_serves();
            assert_eq!(driver.used_idx(), 1, "head {head}");
        }
    });
}

#[test]
fn the_same_head_twice_while_it_is_in_flight_completes_once() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, PLAIN);
        driver.header(request_type::IN, 0);
        driver.chain_at(0, &read_chain());
        driver.offer(0);
        driver.offer(0);
        driver.notify();
        assert_eq!(driver.wait_used(), Used { head: 0, len: 513 });
        driver.assert_serves();
        assert_eq!(
            driver.used_idx(),
            2,
            "one for the head, one for the next request"
        );
    });
}

#[test]
fn a_head_may_be_used_again_after_it_was_returned() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    for _ in 0..3 * SIZE {
        driver.assert_serves();
    }
    assert_eq!(driver.used_idx(), 3 * SIZE);
}

// Indirect tables

#[test]
fn an_indirect_table_is_served_where_it_was_negotiated() {
    let mut driver = Driver::live(Mode::Trap, INDIRECT);
    driver.header(request_type::IN, 3);
    driver.put(TABLE, &table(&read_chain()));
    let len = driver.submit(&[indirect(TABLE, 3 * 16)]);
    assert_eq!((len, driver.status()), (513, status::OK));
    assert_eq!(driver.bytes(DATA, 512), sector_content(3));
}

#[test]
fn direct_descriptors_may_come_before_an_indirect_table() {
    let mut driver = Driver::live(Mode::Trap, INDIRECT);
    driver.header(request_type::IN, 3);
    driver.put(TABLE, &table(&read_chain()[1..]));
    // WRITE on a descriptor that refers to a table has no meaning.
    let mut refer = indirect(TABLE, 2 * 16);
    refer.flags |= DescFlags::WRITE;
    let len = driver.submit(&[readable(HEADER, 16), refer]);
    assert_eq!((len, driver.status()), (513, status::OK));
}

/// Has the device refuse a chain of `first`, with the read in the indirect table at `TABLE`.
fn assert_indirect_refused(features: Features, first: Descriptor, what: &str) {
    let mut driver = Driver::live(Mode::Trap, features);
    driver.header(request_type::IN, 0);
    driver.put(TABLE, &table(&read_chain()));
    driver.fill(STATUS, 1, UNTOUCHED);
    driver.descriptor(0, first);
    assert_eq!(driver.submit_head(0), 0, "{what}");
    assert_eq!(driver.status(), UNTOUCHED, "{what}");
    driver.assert_serves();
}

#[test]
fn an_indirect_table_without_negotiation_is_refused() {
    assert_indirect_refused(PLAIN, indirect(TABLE, 3 * 16), "not negotiated");
}

#[test]
fn an_indirect_table_with_next_is_refused() {
    let mut refer = indirect(TABLE, 3 * 16);
    refer.flags |= DescFlags::NEXT;
    refer.next = 1;
    assert_indirect_refused(INDIRECT, refer, "INDIRECT with NEXT");
}

#[test]
fn a_nested_indirect_table_is_refused() {
    let mut driver = Driver::live(Mode::Trap, INDIRECT);
    driver.put(TABLE, &table(&[indirect(TABLE, 16)]));
    driver.descriptor(0, indirect(TABLE, 16));
    assert_eq!(driver.submit_head(0), 0);
    driver.assert_serves();
}

#[test]
fn an_indirect_table_of_an_impossible_length_is_refused() {
    let too_long = (u32::from(SIZE) + 1) * 16;
    for len in [
        0,
        1,
        15,
        17,
        3 * 16 + 1,
        too_long,
        65536 * 16,
        u32::MAX,
        0xffff_fff0,
    ] {
        assert_indirect_refused(INDIRECT, indirect(TABLE, len), &format!("length {len}"));
    }
}

#[test]
fn an_indirect_table_outside_ram_is_refused() {
    for addr in [HOLE, HOLE - 16, END, END - 32, u64::MAX - 15, u64::MAX - 47] {
        let what = format!("table at {addr:#x}");
        assert_indirect_refused(INDIRECT, indirect(addr, 3 * 16), &what);
    }
}

#[test]
fn a_next_index_beyond_an_indirect_table_is_refused() {
    let mut driver = Driver::live(Mode::Trap, INDIRECT);
    driver.put(TABLE, &table(&read_chain()));
    driver.descriptor(0, indirect(TABLE, 2 * 16));
    assert_eq!(driver.submit_head(0), 0);
    driver.assert_serves();
}

// Buffers

#[test]
fn a_device_readable_descriptor_after_a_device_writable_one_is_refused() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.header(request_type::IN, 0);
    driver.fill(DATA, 1024, 0x11);
    let [header, data, status_byte] = read_chain();
    let len = driver.submit(&[header, data, readable(DATA + 512, 512), status_byte]);
    assert_eq!((len, driver.status()), (1, status::IOERR));
    assert_eq!(driver.bytes(DATA, 1024), [0x11; 1024]);
    driver.assert_serves();
}

#[test]
fn a_buffer_of_length_0_is_refused() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    let data = [writable(DATA, 512), writable(DATA, 0)];
    let answer = driver.request(request_type::IN, 0, &data);
    assert_eq!(answer, (1, status::IOERR));
    driver.assert_serves();
}

#[test]
fn a_buffer_that_wraps_the_address_space_or_leaves_ram_is_refused_whole() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, PLAIN);
        for addr in [
            u64::MAX - 511,
            u64::MAX,
            u64::MAX - 100,
            HOLE - 256,
            HOLE,
            END - 511,
            END,
        ] {
            driver.fill(HOLE - 512, 512, 0x55);
            driver.fill(END - 512, 512, 0x55);
            let answer = driver.request(request_type::IN, 0, &[writable(addr, 512)]);
            assert_eq!(answer, (1, status::IOERR), "buffer at {addr:#x}");
            assert_eq!(driver.bytes(HOLE - 512, 512), [0x55; 512], "{addr:#x}");
            assert_eq!(driver.bytes(END - 512, 512), [0x55; 512], "{addr:#x}");
        }
        // From RAM over the hole to RAM.
        let over = writable(HOLE - 512, (END - HOLE) as u32);
        assert_eq!(
            driver.request(request_type::IN, 0, &[over]),
            (1, status::IOERR)
        );
        driver.assert_serves();
    });
}

#[test]
fn a_buffer_over_two_adjacent_regions_of_ram_is_served() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    let data = [writable(BORDER - 100, 1024)];
    assert_eq!(
        driver.request(request_type::IN, 7, &data),
        (1025, status::OK)
    );
    assert_eq!(
        driver.bytes(BORDER - 100, 1024),
        driver.disk.bytes()[7 * 512..9 * 512]
    );
    let data = [readable(BORDER - 100, 1024)];
    assert_eq!(
        driver.request(request_type::OUT, 20, &data),
        (1, status::OK)
    );
    let disk = driver.disk.bytes();
    assert_eq!(disk[20 * 512..22 * 512], disk[7 * 512..9 * 512]);
}

#[test]
fn a_buffer_over_the_rings_harms_nobody_but_the_guest() {
    in_every_mode(|mode| {
        for area in [DESC, AVAIL, USED] {
            let mut driver = Driver::live(mode, PLAIN);
            driver.header(request_type::IN, 0);
            driver.chain_at(
                0,
                &[
                    readable(HEADER, 16),
                    writable(area, 512),
                    writable(STATUS, 1),
                ],
            );
            driver.offer(0);
            driver.notify();
            driver.edges.wait_for(1);
            // The rings are rubbish now; the device is not.
            driver.initialize(PLAIN);
            driver.assert_serves();
        }
    });
}
