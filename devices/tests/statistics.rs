//! The statistics of a request queue tell exactly what the driver has had done.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use devices::virtio::block::stats::{DrainCause, QueueStats, RequestKind};
use spec::Features;
use spec::block::{Segment, request_type, status};
use spec::queue::AVAIL_F_NO_INTERRUPT;

/// What the queue has done when the driver has reset the device: nothing is under way then.
fn final_stats(driver: &mut Driver) -> QueueStats {
    driver.reset();
    driver.stats.snapshot()
}

fn counts(stats: &QueueStats) -> [(u64, u64, u64); 8] {
    RequestKind::ALL.map(|kind| {
        let requests = stats.requests(kind);
        (requests.count(), requests.failed, requests.bytes)
    })
}

#[test]
fn requests_are_counted_by_type_and_by_what_became_of_them() {
    in_every_mode(|mode| {
        let (mut driver, hooks) = Driver::hooked(mode);
        driver.initialize(PLAIN | Features::VIRTIO_BLK_F_WRITE_ZEROES);
        let (inward, outward) = ([writable(DATA, 1024)], [readable(DATA, 512)]);
        let ok = |(_, status)| assert_eq!(status, status::OK);
        ok(driver.request(request_type::IN, 0, &inward));
        ok(driver.request(request_type::IN, 2, &inward));
        ok(driver.request(request_type::OUT, 0, &outward));
        ok(driver.request(request_type::FLUSH, 0, &[]));
        ok(driver.request(request_type::GET_ID, 0, &[writable(DATA, 20)]));
        let zeroes = Segment {
            num_sectors: 3,
            ..Segment::default()
        };
        driver.put(DATA, &zeroes.to_bytes());
        ok(driver.request(request_type::WRITE_ZEROES, 0, &[readable(DATA, 16)]));
        hooks.lock().unwrap().fail_transfer = Some((0, std::io::ErrorKind::Other));
        let (_, failed) = driver.request(request_type::IN, 0, &inward);
        assert_eq!(failed, status::IOERR);
        let (_, unknown) = driver.request(99, 0, &[]);
        assert_eq!(unknown, status::UNSUPP);
        let flagged = Segment { flags: 2, ..zeroes };
        driver.put(DATA, &flagged.to_bytes());
        let data = [readable(DATA, 16)];
        let (_, flagged) = driver.request(request_type::WRITE_ZEROES, 0, &data);
        assert_eq!(flagged, status::UNSUPP);
        let (_, refused) = driver.request(request_type::IN, SECTORS, &inward);
        assert_eq!(refused, status::IOERR);
        // A chain that is no request at all.
        assert_eq!(driver.submit(&[readable(HEADER, 16)]), 0);

        let stats = final_stats(&mut driver);
        assert_eq!(
            counts(&stats),
            [
                (3, 1, 2048),
                (1, 0, 512),
                (1, 0, 0),
                (1, 0, 0),
                (0, 0, 0),
                (1, 0, 1536),
                (2, 0, 0),
                (2, 0, 0)
            ]
        );
        // A thread may find the next request in the drain of the last: one interrupt for both.
        assert_eq!(stats.interrupts, stats.batch.count());
        assert_eq!(stats.interrupts, driver.edges.count());
        assert!(stats.interrupts == 11 || !mode.is_trap());
    });
}

#[test]
fn each_notification_by_trap_is_a_drain_and_activation_is_one_of_its_own() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    for _ in 0..3 {
        driver.assert_serves();
    }
    driver.notify();
    let stats = final_stats(&mut driver);
    let drains = DrainCause::ALL.map(|cause| stats.drains(cause));
    assert_eq!(drains, [4, 0, 0, 1, 0, 0]);
    assert_eq!(stats.empty_drains(), 2);
    assert_eq!((stats.batch.count(), stats.batch.max()), (3, 1));
}

#[test]
fn notifications_by_eventfd_are_told_from_those_by_trap() {
    let mut driver = Driver::live(Mode::IoEventFd, PLAIN);
    for _ in 0..3 {
        driver.assert_serves();
    }
    let stats = final_stats(&mut driver);
    assert_eq!(stats.drains(DrainCause::Trap), 0);
    assert_eq!(stats.drains(DrainCause::Activation), 1);
    // The transport kicks too, at activation; kicks that come together wake the thread once, and
    // a drain may find the request of a kick that is still to come.
    assert!(stats.drains(DrainCause::EventFd) <= 4);
    assert_eq!(stats.request_count(), 3);
}

#[test]
fn requests_that_are_served_together_are_one_batch_with_one_interrupt() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.header(request_type::FLUSH, 0);
    for head in [0, 2, 4] {
        driver.chain_at(head, &[readable(HEADER, 16), writable(STATUS, 1)]);
        driver.offer(head);
    }
    driver.notify();
    let stats = final_stats(&mut driver);
    assert_eq!(stats.requests(RequestKind::Flush).count(), 3);
    assert_eq!((stats.batch.count(), stats.batch.max()), (1, 3));
    assert_eq!((stats.interrupts, stats.suppressed), (1, 0));
}

#[test]
fn interrupts_that_the_driver_does_not_want_are_counted_as_suppressed() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.store_u16(AVAIL, AVAIL_F_NO_INTERRUPT);
    driver.chain_at(0, &read_chain());
    driver.header(request_type::IN, 0);
    driver.offer(0);
    driver.notify();
    let stats = final_stats(&mut driver);
    assert_eq!((stats.interrupts, stats.suppressed), (0, 1));
    assert_eq!(driver.edges.count(), 0);
}

#[test]
fn heads_that_are_none_are_counted_as_skipped() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, PLAIN);
        driver.offer(SIZE);
        driver.offer(u16::MAX);
        driver.assert_serves();
        let stats = final_stats(&mut driver);
        assert_eq!((stats.skipped, stats.request_count()), (2, 1));
    });
}

#[test]
fn statistics_go_on_across_resets() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, PLAIN);
        driver.assert_serves();
        driver.reset();
        driver.initialize(PLAIN);
        driver.assert_serves();
        let stats = final_stats(&mut driver);
        assert_eq!(stats.requests(RequestKind::In).bytes, 1024);
        assert_eq!(stats.drains(DrainCause::Activation), 2);
    });
}
