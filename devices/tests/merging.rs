//! Neighbouring requests of one drain: which of them become one call, and that nobody but the host can
//! tell.

#![allow(clippy::unwrap_used)]

mod common;

use std::num::NonZeroU64;

use common::crowd::crowd_data;
use common::engine::{Call, Remembering};
use common::*;
use devices::virtio::block::backend::MemoryBackend;
use devices::virtio::block::stats::RequestKind;
use devices::virtio::block::throttle::{BURST, Limits};
use spec::Features;
use spec::block::{request_type, status};
use spec::mmio::Register;

use Call::{Flush, Read, Write};

/// The most requests at a time.
const MANY: u16 = 64;
/// Size of the disk, in bytes.
const DISK: usize = 4 << 20;

/// A driver of a disk that remembers, brought up with `features`.
fn driver_with(features: Features, limits: Limits) -> (Driver, Remembering) {
    let bytes = (0..DISK).map(|at| (at / 512 * 3 + at % 251) as u8);
    let bytes = MemoryBackend::new(bytes.collect());
    let backend = Remembering::new(bytes.clone());
    let boxed = Box::new(backend.clone());
    let mut driver = Driver::with_block(Mode::Trap, false, bytes, boxed, |block| {
        block.with_limits(limits)
    });
    driver.size = MANY;
    driver.initialize(features);
    (driver, backend)
}

fn driver() -> (Driver, Remembering) {
    driver_with(INDIRECT, Limits::default())
}

/// Has the device serve these requests in one drain: type, sector and count of sectors. All of the
/// same data, in one segment, unless it is one for each.
fn serve(driver: &mut Driver, requests: &[(u32, u64, u32)]) -> Vec<Used> {
    for (index, &(request_type, sector, count)) in (0..).zip(requests) {
        let data = [(crowd_data(index), 512 * count)];
        let data = if count > 0 { &data[..] } else { &[] };
        driver.offer_one_of_many(index, request_type, sector, data);
    }
    driver.notify();
    driver.wait_for_many(requests.len())
}

fn assert_all_ok(driver: &Driver, count: u16) {
    for index in 0..count {
        assert_eq!(driver.status_of(index), status::OK, "request {index}");
    }
}

#[test]
fn neighbours_of_one_drain_are_one_call_and_are_counted_as_such() {
    let (mut driver, backend) = driver();
    let reads = [0, 1, 2, 3].map(|index| (request_type::IN, 8 + 2 * index, 2));
    let used = serve(&mut driver, &reads);
    assert_eq!(backend.take_calls(), [Read(8 * 512, 8 * 512)]);
    assert!(used.iter().all(|used| used.len == 1025));
    assert_all_ok(&driver, 4);
    for index in 0..4_u16 {
        let place = (8 + 2 * usize::from(index)) * 512;
        let expected = backend.disk.bytes()[place..place + 1024].to_vec();
        assert_eq!(driver.bytes(crowd_data(index), 1024), expected);
    }

    for index in 0..3 {
        driver.fill(crowd_data(index), 512, 0x40 + index as u8);
    }
    let writes = [0, 1, 2].map(|index| (request_type::OUT, 100 + index, 1));
    let used = serve(&mut driver, &writes);
    assert_eq!(backend.take_calls(), [Write(100 * 512, 3 * 512)]);
    assert!(used.iter().all(|used| used.len == 1));
    let disk = backend.disk.bytes()[100 * 512..103 * 512].to_vec();
    for (index, sector) in (0x40..).zip(disk.chunks(512)) {
        assert_eq!(sector, [index; 512]);
    }

    let stats = driver.stats.snapshot();
    assert_eq!((stats.merged, stats.merged_calls), (7, 2));
    assert_eq!(stats.requests(RequestKind::In).count(), 4);
    assert_eq!(stats.requests(RequestKind::Out).bytes, 3 * 512);
}

#[test]
fn what_does_not_follow_on_the_disk_or_goes_the_other_way_is_a_call_of_its_own() {
    let (mut driver, backend) = driver();
    let requests = [
        (request_type::IN, 10, 1),
        (request_type::IN, 12, 1),
        (request_type::IN, 11, 1),
        (request_type::OUT, 12, 1),
        (request_type::IN, 13, 1),
        (request_type::IN, 13, 1),
    ];
    serve(&mut driver, &requests);
    let at = |sector: u64| 512 * sector;
    assert_eq!(
        backend.take_calls(),
        [
            Read(at(10), 512),
            Read(at(12), 512),
            Read(at(11), 512),
            Write(at(12), 512),
            Read(at(13), 512),
            Read(at(13), 512),
        ]
    );
    assert_eq!(driver.stats.snapshot().merged_calls, 0);
}

#[test]
fn a_request_of_64_kib_is_a_call_of_its_own() {
    let (mut driver, backend) = driver();
    let kib = |kib: u64| kib << 10;
    let requests = [
        (request_type::OUT, 0, 127),
        (request_type::OUT, 127, 1),
        (request_type::OUT, 128, 128),
        (request_type::OUT, 256, 1),
        (request_type::OUT, 257, 1),
    ];
    serve(&mut driver, &requests);
    assert_eq!(
        backend.take_calls(),
        [
            Write(0, kib(64)),
            Write(kib(64), kib(64)),
            Write(kib(128), kib(1)),
        ]
    );
    assert_all_ok(&driver, 5);
}

#[test]
fn no_call_is_of_more_than_1_mib() {
    let (mut driver, backend) = driver();
    // 60 KiB each.
    let requests: Vec<_> = (0..20)
        .map(|index| (request_type::OUT, 120 * index, 120))
        .collect();
    serve(&mut driver, &requests);
    let kib = |kib: u64| kib << 10;
    let calls = [Write(0, kib(17 * 60)), Write(kib(17 * 60), kib(3 * 60))];
    assert_eq!(backend.take_calls(), calls);
    assert_all_ok(&driver, 20);
}

#[test]
fn no_call_is_of_more_slices_than_the_host_takes() {
    let (mut driver, backend) = driver();
    // Each of 12 segments, twice as many slices at a border between regions of RAM.
    let segments: Vec<_> = (0..11)
        .map(|segment| (DATA + 64 * segment, 40))
        .chain([(DATA + 704, 512 - 440)])
        .collect();
    for round in 0..4 {
        for index in 0..MANY {
            let sector = u64::from(MANY * round + index);
            driver.offer_one_of_many(index, request_type::OUT, sector, &segments);
        }
        driver.notify();
        driver.wait_for_many(MANY.into());
        assert_all_ok(&driver, MANY);
    }
    assert!(backend.take_calls().len() < usize::from(MANY));
    let most = *backend.most_slices.lock().unwrap();
    assert!((512..=1024).contains(&most), "{most} slices");
}

#[test]
fn a_host_that_cuts_a_call_short_fails_the_request_that_is_cut_alone() {
    for bad in [511, 512, 513, 1023, 1024, 2047] {
        let (mut driver, backend) = driver();
        *backend.bad.lock().unwrap() = Some(bad);
        for (request_type, moves) in [(request_type::IN, 1), (request_type::OUT, 0)] {
            let requests = [0, 1, 2, 3].map(|sector| (request_type, sector, 1));
            let used = serve(&mut driver, &requests);
            for (index, used) in (0..4).zip(used) {
                let (start, end) = (512 * u64::from(index), 512 * u64::from(index + 1));
                let is_bad = (start..end).contains(&bad);
                let moved = if is_bad { bad - start } else { 512 };
                let code = if is_bad { status::IOERR } else { status::OK };
                assert_eq!(used.head, u32::from(index));
                assert_eq!(used.len, (moved * moves) as u32 + 1, "bad {bad}");
                assert_eq!(driver.status_of(index), code, "bad {bad}");
            }
        }
        // The whole, and what nothing has been moved of, each by itself.
        let alone = bad.div_ceil(512)..4;
        let calls = |call: fn(u64, u64) -> Call| {
            let alone = alone.clone().map(move |index| call(512 * index, 512));
            std::iter::once(call(0, 2048)).chain(alone)
        };
        let expected: Vec<_> = calls(Read).chain(calls(Write)).collect();
        assert_eq!(backend.take_calls(), expected, "bad {bad}");
    }
}

#[test]
fn writes_that_are_merged_are_stable_by_one_flush_before_any_of_them_completes() {
    let (mut driver, backend) = driver_with(
        Features::VIRTIO_F_VERSION_1 | Features::VIRTIO_F_INDIRECT_DESC,
        Limits::default(),
    );
    let writes = [0, 1, 2].map(|sector| (request_type::OUT, sector, 1));
    serve(&mut driver, &writes);
    assert_eq!(backend.take_calls(), [Write(0, 3 * 512), Flush]);
}

#[test]
fn whatever_is_no_transfer_comes_after_those_before_it_and_before_those_after_it() {
    let (mut driver, backend) = driver();
    let requests = [
        (request_type::OUT, 0, 1),
        (request_type::OUT, 1, 1),
        (request_type::FLUSH, 0, 0),
        (request_type::OUT, 2, 1),
        (0x77, 0, 0),
        (request_type::OUT, 3, 1),
    ];
    let used = serve(&mut driver, &requests);
    assert_eq!(
        backend.take_calls(),
        [Write(0, 1024), Flush, Write(1024, 512), Write(1536, 512),]
    );
    let heads: Vec<_> = used.iter().map(|used| used.head).collect();
    assert_eq!(heads, [0, 1, 2, 3, 4, 5]);
    assert_eq!(driver.status_of(4), status::UNSUPP);
}

#[test]
fn a_disk_that_must_wait_in_the_middle_of_a_drain_ends_what_it_has_begun_first() {
    let limits = Limits {
        iops: NonZeroU64::new(20),
        bps: None,
    };
    let (mut driver, backend) = driver_with(INDIRECT, limits);
    // 2 are saved up in this time, and one overdraws.
    std::thread::sleep(BURST);
    for index in 0..4 {
        let data = [(crowd_data(index), 512)];
        driver.offer_one_of_many(index, request_type::IN, index.into(), &data);
    }
    let response = driver.try_write(Register::QueueNotify, 0);
    assert!(
        matches!(response, devices::Response::Later(_)),
        "{response:?}"
    );
    let first = backend.take_calls();
    assert!(matches!(first[..], [Read(0, 1024..)]), "{first:?}");
    let Read(_, bytes) = first[0] else {
        unreachable!()
    };
    assert_eq!(u64::from(driver.used_idx()), bytes / 512);
    driver.write(Register::QueueNotify, 0);
    assert_eq!(driver.used_idx(), 4);
}
