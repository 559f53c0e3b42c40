//! What the contract promises to both sides: layouts of the specification, byte for byte, and the
//! arithmetic of indices that wrap.

use std::collections::HashSet;

use spec::Features;
use spec::bench::{BlockJob, Command, Kind, OUTCOME_OFFSET, Outcome, PAGE_SIZE, Positions};
use spec::block::RequestHeader;
use spec::journal::{Slots, Stamp};
use spec::mmio::Register;
use spec::queue::{
    DescFlags, Descriptor, avail_entry, avail_event, avail_ring_size, desc_table_size, need_event,
    used_entry, used_event, used_ring_size,
};

#[test]
fn need_event_is_whether_the_event_index_is_among_those_that_were_passed() {
    // By counting up from `old`, one by one, for every wrap that 16 bits can make.
    for old in [0_u16, 1, 100, 0x7fff, 0x8000, 65533, 65534, 65535] {
        for passed in [0_u16, 1, 2, 3, 256, 0x7fff, 0x8000, 65534, 65535] {
            let new = old.wrapping_add(passed);
            for distance in [0_u16, 1, 2, 3, 255, 256, 0x7fff, 0x8000, 65534, 65535] {
                let event = old.wrapping_add(distance);
                let expected = distance < passed;
                assert_eq!(need_event(event, new, old), expected, "{event} {new} {old}");
            }
        }
    }
}

#[test]
fn need_event_counts_across_the_wrap_at_65535() {
    assert!(need_event(65535, 0, 65535));
    assert!(need_event(0, 1, 0));
    assert!(need_event(0, 2, 65534));
    assert!(!need_event(0, 0, 65535));
    assert!(!need_event(65534, 0, 65535));
    assert!(!need_event(5, 5, 5));
}

#[test]
fn registers_are_sorted_unique_aligned_and_found_by_their_offset() {
    for pair in Register::ALL.windows(2) {
        assert!(pair[0].offset() < pair[1].offset(), "{pair:?}");
    }
    for register in Register::ALL {
        assert_eq!(register.offset() % 4, 0, "{register:?}");
        assert_eq!(Register::at(register.offset()), Some(register));
    }
}

#[test]
fn no_other_offset_has_a_register() {
    let offsets = Register::ALL.map(Register::offset);
    let others = (0..0x1000).chain([1 << 16, 1 << 32, u64::MAX]);
    for offset in others.filter(|offset| !offsets.contains(offset)) {
        assert_eq!(Register::at(offset), None, "{offset:#x}");
    }
}

#[test]
fn a_descriptor_is_its_16_bytes() {
    let descriptor = Descriptor {
        addr: 0x1122_3344_5566_7788,
        len: 0x99aa_bbcc,
        flags: DescFlags::NEXT | DescFlags::INDIRECT,
        next: 0xddee,
    };
    let bytes = [
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xcc, 0xbb, 0xaa, 0x99, 5, 0, 0xee, 0xdd,
    ];
    assert_eq!(descriptor.to_bytes(), bytes);
    assert_eq!(Descriptor::from_bytes(bytes), descriptor);
}

#[test]
fn flags_that_are_not_defined_are_kept() {
    let mut bytes = [0; 16];
    bytes[12..14].copy_from_slice(&[0xf2, 0xff]);
    let descriptor = Descriptor::from_bytes(bytes);
    assert_eq!(descriptor.flags.bits(), 0xfff2);
    assert_eq!(descriptor.to_bytes(), bytes);
}

#[test]
fn a_request_header_is_its_16_bytes_with_the_reserved_ones_0() {
    let header = RequestHeader {
        request_type: 0x0403_0201,
        sector: 0x1817_1615_1413_1211,
    };
    let bytes = [
        1, 2, 3, 4, 0, 0, 0, 0, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
    ];
    assert_eq!(header.to_bytes(), bytes);
    assert_eq!(RequestHeader::from_bytes(bytes), header);
    let mut reserved = bytes;
    reserved[4..8].fill(0xff);
    assert_eq!(RequestHeader::from_bytes(reserved), header);
}

#[test]
fn the_rings_are_as_long_as_the_specification_says() {
    for (size, desc, avail, used) in [
        (1, 16, 8, 14),
        (8, 128, 22, 70),
        (256, 4096, 518, 2054),
        (32768, 524_288, 65542, 262_150),
    ] {
        assert_eq!(desc_table_size(size), desc);
        assert_eq!(avail_ring_size(size), avail);
        assert_eq!(used_ring_size(size), used);
        assert_eq!(used_event(size), avail - 2);
        assert_eq!(avail_event(size), used - 2);
    }
}

#[test]
fn ring_entries_wrap_at_the_size_of_the_queue() {
    assert_eq!((avail_entry(0, 8), avail_entry(7, 8)), (4, 18));
    assert_eq!((avail_entry(8, 8), avail_entry(65535, 8)), (4, 18));
    assert_eq!((used_entry(0, 8), used_entry(7, 8)), (4, 60));
    assert_eq!((used_entry(8, 8), used_entry(65535, 8)), (4, 60));
}

#[test]
fn features_are_shown_32_at_a_time() {
    let features = Features::VIRTIO_F_VERSION_1 | Features::VIRTIO_BLK_F_FLUSH;
    assert_eq!(features.word(0), 1 << 9);
    assert_eq!(features.word(1), 1);
    assert_eq!(features.word(2), 0);
    assert_eq!(features.word(u32::MAX), 0);
}

#[test]
fn a_command_and_an_outcome_of_the_benchmark_come_back_as_they_were_written() {
    let command = Command {
        kind: Kind::Block as u64,
        iterations: 2,
        ticks: 3,
        block: BlockJob {
            write: 4,
            random: 5,
            block_size: 6,
            depth: 7,
            sectors: 8,
            seed: 9,
            poll: 10,
            more_queues: u64::MAX,
        },
    };
    assert_eq!(Command::from_bytes(&command.to_bytes()), command);
    let outcome = Outcome {
        status: 1,
        iterations: 2,
        ticks: 3,
        latencies: 4,
        latency_count: 5,
        interrupts: 6,
        notifications: u64::MAX,
    };
    assert_eq!(Outcome::from_bytes(&outcome.to_bytes()), outcome);
    const { assert!(Command::SIZE <= OUTCOME_OFFSET && OUTCOME_OFFSET + Outcome::SIZE <= PAGE_SIZE) }
    for (number, kind) in (0..).zip(Kind::ALL) {
        assert_eq!(Kind::from_number(number), Some(kind));
    }
}

#[test]
fn positions_in_order_go_round_and_round_through_the_whole_blocks() {
    let job = BlockJob {
        block_size: 1024,
        sectors: 7,
        ..Default::default()
    };
    let mut positions = Positions::new(&job).unwrap();
    let found: Vec<u64> = (0..7).map(|_| positions.next()).collect();
    assert_eq!(found, [0, 2, 4, 0, 2, 4, 0]);
}

#[test]
fn random_positions_are_whole_blocks_all_over_the_disk_and_depend_on_the_seed() {
    let positions = |seed| {
        let job = BlockJob {
            random: 1,
            block_size: 4096,
            sectors: 64 * 8 + 7,
            seed,
            ..Default::default()
        };
        let mut positions = Positions::new(&job).unwrap();
        (0..2000).map(|_| positions.next()).collect::<Vec<u64>>()
    };
    let one = positions(1);
    assert!(one.iter().all(|at| at % 8 == 0 && *at < 64 * 8));
    assert_eq!(one.iter().collect::<HashSet<_>>().len(), 64);
    assert_eq!(one, positions(1));
    assert_ne!(one, positions(2));
}

#[test]
fn there_are_no_positions_where_no_block_fits() {
    for (block_size, sectors) in [(1024, 1), (512, 0), (0, 8), (511, 8)] {
        let job = BlockJob {
            block_size,
            sectors,
            ..Default::default()
        };
        assert!(Positions::new(&job).is_none(), "{block_size} {sectors}");
    }
}

#[test]
fn a_journal_sector_tells_its_stamp_and_no_byte_of_it_can_be_of_another() {
    let stamp = Stamp {
        sequence: 7,
        lba: 3,
        seed: 1,
    };
    let sector = stamp.sector();
    assert_eq!(Stamp::of(&sector), stamp);
    let others = [
        Stamp {
            sequence: 8,
            ..stamp
        },
        Stamp { lba: 2, ..stamp },
        Stamp { seed: 2, ..stamp },
        Stamp {
            sequence: 3,
            lba: 7,
            ..stamp
        },
    ];
    for other in others {
        let other = other.sector();
        for cut in 1..512 {
            let mixed: Vec<u8> = [&sector[..cut], &other[cut..]].concat();
            let mixed: [u8; 512] = mixed.try_into().unwrap();
            let sound = Stamp::of(&mixed).sector() == mixed;
            assert_eq!(sound, mixed == sector || mixed == other, "{cut}");
        }
    }
}

#[test]
fn the_slots_of_a_journal_follow_from_its_seed_and_reach_all() {
    let slots = |seed| Slots::new(seed, 10).take(200).collect::<Vec<_>>();
    assert_eq!(slots(1), slots(1));
    assert_ne!(slots(1), slots(2));
    let reached: HashSet<u64> = slots(1).into_iter().collect();
    assert_eq!(reached, (0..10).collect());
}
