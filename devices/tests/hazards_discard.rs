//! Discard and write-zeroes requests, right and wrong: what each does to the disk, how it ends, and
//! that a wrong one does nothing at all.

#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::clear::*;
use common::*;
use devices::virtio::block::{BlockBackend, CLEAR_SECTORS_MAX, CLEAR_SEG_MAX, TransferError};
use proptest::prelude::*;
use spec::Features;
use spec::block::request_type::{DISCARD, OUT, WRITE_ZEROES};
use spec::block::segment_flags::UNMAP;
use spec::block::{Segment, status};
use spec::queue::Descriptor;
use vm_memory::{Bytes, GuestAddress, VolatileSlice};

/// Sees that each of `requests` is answered with `expected` and changes nothing, whatever it is a
/// request for.
fn assert_refused(requests: &[Vec<Segment>], expected: (u32, u8)) {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, CLEARING);
        let before = disk_of(&driver);
        for (kind, segments) in [DISCARD, WRITE_ZEROES]
            .into_iter()
            .flat_map(|kind| requests.iter().map(move |segments| (kind, segments)))
        {
            let answer = clear(&mut driver, kind, segments);
            assert_eq!(answer, expected, "type {kind}: {segments:x?}");
            assert!(disk_of(&driver) == before, "type {kind}: {segments:x?}");
        }
        driver.assert_serves();
    });
}

// What is right

#[test]
fn the_sectors_of_every_segment_are_cleared_and_no_other() {
    in_every_mode(|mode| {
        for kind in [DISCARD, WRITE_ZEROES] {
            let mut driver = Driver::live(mode, CLEARING);
            let mut expected = disk_of(&driver);
            expected[9 * 512..11 * 512].fill(cleared(kind));
            expected[40 * 512..41 * 512].fill(cleared(kind));
            expected[63 * 512..].fill(cleared(kind));
            let segments = [
                segment(9, 2, 0),
                segment(40, 1, 0),
                segment(63, 1, 0),
                // As good as none.
                segment(64, 0, 0),
            ];
            assert_eq!(clear(&mut driver, kind, &segments), OK);
            assert!(disk_of(&driver) == expected);
            driver.assert_serves();
        }
    });
}

#[test]
fn zeros_are_zeros_whether_they_may_be_deallocated_or_not() {
    for flags in [0, UNMAP] {
        let mut driver = Driver::live(Mode::Trap, CLEARING);
        let answer = clear(&mut driver, WRITE_ZEROES, &[segment(3, 4, flags)]);
        assert_eq!(answer, OK);
        assert_eq!(driver.disk.bytes()[3 * 512..7 * 512], [0; 2048]);
    }
}

#[test]
fn segments_split_over_descriptors_are_served() {
    for kind in [DISCARD, WRITE_ZEROES] {
        let mut driver = Driver::live(Mode::Trap, CLEARING);
        let mut expected = disk_of(&driver);
        expected[7 * 512..8 * 512].fill(cleared(kind));
        expected[20 * 512..22 * 512].fill(cleared(kind));
        let bytes = bytes_of(&[segment(7, 1, 0), segment(20, 2, 0)]);
        // In pieces apart from one another, the last over the border of two regions of RAM.
        let cuts = [(DATA, 0..1), (DATA + 0x100, 1..19), (BORDER - 5, 19..32)];
        let mut data = Vec::new();
        for (addr, range) in cuts {
            driver.put(addr, &bytes[range.clone()]);
            data.push(readable(addr, range.len() as u32));
        }
        assert_eq!(driver.request(kind, 0, &data), OK);
        assert!(disk_of(&driver) == expected);
    }
}

#[test]
fn the_sector_of_the_header_has_no_meaning() {
    let mut driver = Driver::live(Mode::Trap, CLEARING);
    driver.put(DATA, &bytes_of(&[segment(7, 1, 0)]));
    let answer = driver.request(WRITE_ZEROES, u64::MAX, &[readable(DATA, 16)]);
    assert_eq!(answer, OK);
    assert_eq!(driver.disk.bytes()[7 * 512..8 * 512], [0; 512]);
}

#[test]
fn zeros_are_stable_when_they_complete_where_the_driver_cannot_flush() {
    for (features, flushes) in [(CLEARING, 0), (CLEARING - Features::VIRTIO_BLK_F_FLUSH, 1)] {
        let (mut driver, hooks) = Driver::hooked(Mode::Trap);
        driver.initialize(features - Features::VIRTIO_BLK_F_DISCARD);
        assert_eq!(clear(&mut driver, WRITE_ZEROES, &[segment(0, 8, 0)]), OK);
        assert_eq!(hooks.lock().unwrap().flushes, flushes);
        assert_eq!(driver.disk.bytes()[..4096], [0; 4096]);
    }
}

// Segments

#[test]
fn no_segments_part_of_one_or_more_than_the_limit_end_with_ioerr() {
    let too_many = vec![segment(0, 1, 0); CLEAR_SEG_MAX as usize + 1];
    let far_too_many = vec![segment(0, 1, 0); 4096];
    assert_refused(&[vec![], too_many, far_too_many], IOERR);

    let mut driver = Driver::live(Mode::Trap, CLEARING);
    let before = disk_of(&driver);
    driver.put(DATA, &bytes_of(&[segment(0, 1, 0); 2]));
    for (kind, len) in [DISCARD, WRITE_ZEROES]
        .into_iter()
        .flat_map(|kind| [1, 8, 15, 17, 31].map(|len| (kind, len)))
    {
        let answer = driver.request(kind, 0, &[readable(DATA, len)]);
        assert_eq!(answer, IOERR, "type {kind}, {len} bytes");
    }
    assert!(disk_of(&driver) == before);
    driver.assert_serves();
}

#[test]
fn sectors_that_are_not_all_on_the_disk_end_with_ioerr_whichever_segment_names_them() {
    let beyond = [
        segment(SECTORS - 1, 2, 0),
        segment(SECTORS, 1, 0),
        segment(0, SECTORS as u32 + 1, 0),
        segment(SECTORS + 1, 0, 0),
        segment(1 << 40, 1, 0),
        // In bytes this is sector 0.
        segment(1 << 55, 1, 0),
        segment((1 << 55) + 1, 1, 0),
        segment(u64::MAX / 512, 1, 0),
        // The end is sector 0.
        segment(u64::MAX, 1, 0),
        segment(u64::MAX - 1, 3, 0),
    ];
    let sound = segment(1, 1, 0);
    let requests: Vec<_> = beyond
        .into_iter()
        .flat_map(|wrong| {
            [
                vec![wrong],
                vec![sound, wrong],
                vec![sound, wrong, sound, sound],
            ]
        })
        .collect();
    assert_refused(&requests, IOERR);
}

#[test]
fn a_segment_longer_than_the_limit_ends_with_ioerr_and_one_as_long_does_not() {
    /// A disk of which nothing is kept.
    struct Large;
    impl BlockBackend for Large {
        fn capacity(&self) -> u64 {
            1 << 40
        }
        fn read_at(&self, _: &[VolatileSlice<'_>], _: u64) -> Result<(), TransferError> {
            Ok(())
        }
        fn write_at(&self, _: &[VolatileSlice<'_>], _: u64) -> Result<(), TransferError> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
        fn discard_granularity(&self) -> Option<u32> {
            Some(4096)
        }
        fn discard(&self, _: u64, len: u64) -> io::Result<()> {
            assert!(len <= u64::from(CLEAR_SECTORS_MAX) * 512);
            Ok(())
        }
    }
    let mut driver = Driver::with_backend(Mode::Trap, false, default_disk(), Box::new(Large));
    driver.initialize(CLEARING);
    for kind in [DISCARD, WRITE_ZEROES] {
        let limit = segment(5, CLEAR_SECTORS_MAX, 0);
        let largest = [limit; CLEAR_SEG_MAX as usize];
        assert_eq!(clear(&mut driver, kind, &largest), OK, "type {kind}");
        for count in [CLEAR_SECTORS_MAX + 1, u32::MAX] {
            let answer = clear(&mut driver, kind, &[limit, segment(5, count, 0)]);
            assert_eq!(answer, IOERR, "type {kind}, {count} sectors");
        }
    }
}

#[test]
fn unknown_flags_end_with_unsupp_whichever_segment_has_them_and_whatever_else_is_wrong() {
    let sound = segment(1, 1, 0);
    let mut requests = Vec::new();
    for flags in [2, 4, 1 << 31, u32::MAX, u32::MAX - 1] {
        let wrong = segment(1, 1, flags);
        requests.push(vec![wrong]);
        requests.push(vec![sound, sound, sound, wrong]);
        requests.push(vec![segment(u64::MAX, u32::MAX, 0), wrong]);
        requests.push(vec![segment(SECTORS, 1, flags)]);
    }
    assert_refused(&requests, UNSUPP);
}

#[test]
fn unmap_ends_a_discard_with_unsupp() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, CLEARING);
        let before = disk_of(&driver);
        let sound = segment(1, 1, 0);
        for segments in [
            vec![segment(1, 1, UNMAP)],
            vec![sound, segment(2, 1, UNMAP)],
        ] {
            assert_eq!(clear(&mut driver, DISCARD, &segments), UNSUPP);
        }
        assert!(disk_of(&driver) == before);
        driver.assert_serves();
    });
}

// Framing

#[test]
fn segments_in_device_writable_memory_end_with_ioerr() {
    let mut driver = Driver::live(Mode::Trap, CLEARING);
    let before = disk_of(&driver);
    let bytes = bytes_of(&[segment(0, 1, 0)]);
    driver.put(DATA, &bytes);
    let readable_too = [readable(DATA, 16), writable(DATA + 16, 512)];
    for kind in [DISCARD, WRITE_ZEROES] {
        for data in [&[writable(DATA, 16)][..], &readable_too] {
            assert_eq!(driver.request(kind, 0, data), IOERR, "type {kind}");
        }
    }
    assert_eq!(driver.bytes(DATA, 16), bytes);
    assert!(disk_of(&driver) == before);
    driver.assert_serves();
}

#[test]
fn segments_that_are_not_in_ram_end_with_ioerr() {
    let mut driver = Driver::live(Mode::Trap, CLEARING);
    let before = disk_of(&driver);
    for (kind, addr) in [DISCARD, WRITE_ZEROES]
        .into_iter()
        .flat_map(|kind| [HOLE - 8, HOLE, END - 8, u64::MAX - 7].map(|addr| (kind, addr)))
    {
        let answer = driver.request(kind, 0, &[readable(addr, 16)]);
        assert_eq!(answer, IOERR, "type {kind} at {addr:#x}");
    }
    assert!(disk_of(&driver) == before);
    driver.assert_serves();
}

#[test]
fn segments_that_change_after_they_were_submitted_are_what_they_were_at_one_time() {
    let mut driver = Driver::live(Mode::IoEventFd, CLEARING);
    let before = disk_of(&driver);
    let mut zeroed = before.clone();
    zeroed[8 * 512..9 * 512].fill(0);
    driver.put(DATA, &bytes_of(&[segment(8, 1, 0)]));

    // Makes the sector one that there is and one that there is not, as fast as it can.
    let stop = Arc::new(AtomicBool::new(false));
    let rewriting = thread::spawn({
        let (memory, stop) = (driver.memory.clone(), Arc::clone(&stop));
        move || {
            while !stop.load(Ordering::Relaxed) {
                for sector in [1_u64 << 60, 8] {
                    let addr = GuestAddress(DATA);
                    memory.store(sector, addr, Ordering::Relaxed).unwrap();
                }
            }
        }
    });
    let mut answers = [0; 2];
    for _ in 0..5000 {
        let answer = driver.request(WRITE_ZEROES, 0, &[readable(DATA, 16)]);
        let expected = match answer {
            OK => &zeroed,
            other => {
                assert_eq!(other, IOERR);
                &before
            }
        };
        answers[usize::from(answer == OK)] += 1;
        assert!(disk_of(&driver) == *expected, "{answer:?}");
        driver.disk.bytes().copy_from_slice(&before);
    }
    stop.store(true, Ordering::Relaxed);
    rewriting.join().unwrap();
    println!("IOERR, OK: {answers:?}");
    driver.assert_serves();
}

// All together

#[derive(Clone, Debug)]
enum Action {
    Write { sector: u64, count: u32, byte: u8 },
    Clear { kind: u32, segments: Vec<Segment> },
}

fn any_segment() -> impl Strategy<Value = Segment> {
    let sector = prop_oneof![8 => 0..SECTORS + 2, 1 => any::<u64>()];
    let count = prop_oneof![8 => 0..12_u32, 1 => any::<u32>()];
    let flags = prop_oneof![8 => Just(0), 4 => Just(UNMAP), 1 => any::<u32>()];
    (sector, count, flags).prop_map(|(sector, count, flags)| segment(sector, count, flags))
}

fn any_action() -> impl Strategy<Value = Action> {
    let write = (0..SECTORS - 8, 1..8_u32, any::<u8>());
    let segments = prop::collection::vec(any_segment(), 0..=CLEAR_SEG_MAX as usize + 1);
    let kind = prop::sample::select(vec![DISCARD, WRITE_ZEROES]);
    prop_oneof![
        write.prop_map(|(sector, count, byte)| Action::Write {
            sector,
            count,
            byte
        }),
        (kind, segments).prop_map(|(kind, segments)| Action::Clear { kind, segments }),
    ]
}

/// What is to come of clearing these segments of `disk`, which is left as it is then.
fn expected(disk: &mut [u8], kind: u32, segments: &[Segment]) -> u8 {
    if !(1..=CLEAR_SEG_MAX as usize).contains(&segments.len()) {
        return status::IOERR;
    }
    let known = if kind == WRITE_ZEROES { UNMAP } else { 0 };
    if segments.iter().any(|segment| segment.flags & !known != 0) {
        return status::UNSUPP;
    }
    let end = |segment: &Segment| u128::from(segment.sector) + u128::from(segment.num_sectors);
    if segments.iter().any(|segment| end(segment) > SECTORS.into()) {
        return status::IOERR;
    }
    for segment in segments {
        let start = segment.sector as usize * 512;
        disk[start..end(segment) as usize * 512].fill(cleared(kind));
    }
    status::OK
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_disk_is_like_its_model_whatever_is_written_and_cleared(
        actions in prop::collection::vec(any_action(), 1..20),
    ) {
        let mut driver = Driver::live(Mode::Trap, CLEARING);
        let mut model = disk_of(&driver);
        for action in actions {
            match action {
                Action::Write { sector, count, byte } => {
                    let len = count as usize * 512;
                    driver.fill(DATA, len, byte);
                    let data: [Descriptor; 1] = [readable(DATA, len as u32)];
                    prop_assert_eq!(driver.request(OUT, sector, &data), OK);
                    model[sector as usize * 512..][..len].fill(byte);
                }
                Action::Clear { kind, segments } => {
                    let status = expected(&mut model, kind, &segments);
                    let answer = clear(&mut driver, kind, &segments);
                    prop_assert_eq!(answer, (1, status), "type {}: {:x?}", kind, segments);
                }
            }
            prop_assert!(disk_of(&driver) == model);
        }
    }
}
