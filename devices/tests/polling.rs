//! Notify mode `poll`: that the driver need not notify while the device watches the queue, and
//! that what must reach the thread reaches it.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::*;
use spec::Features;
use spec::block::request_type;
use spec::mmio::Register;

/// Watches the queue for as long as the test takes.
const FOR_EVER: Mode = Mode::Poll(Duration::MAX);

/// A driver of a device that polls, and has served a request.
fn polled(features: Features) -> Driver {
    let mut driver = Driver::live(FOR_EVER, features);
    driver.assert_serves();
    driver
}

#[test]
fn a_driver_that_is_polled_is_served_for_ever_without_one_notification() {
    for features in [PLAIN, EVENT_IDX] {
        let mut driver = polled(features);
        driver.header(request_type::FLUSH, 0);
        driver.chain_at(0, &[readable(HEADER, 16), writable(STATUS, 1)]);
        // A whole turn of the index and more.
        for request in 0..0x1_0000 + 100 {
            let old = driver.avail_idx;
            driver.offer(0);
            let wanted = driver.wants_notification(features, old);
            assert!(!wanted, "{features:?}, request {request}");
            assert_eq!(driver.wait_used(), Used { head: 0, len: 1 });
        }
    }
}

#[test]
fn a_reset_in_the_middle_of_polling_comes_through() {
    for features in [PLAIN, EVENT_IDX] {
        let mut driver = polled(features);
        driver.reset();
        driver.initialize(features);
        driver.assert_serves();
    }
}

#[test]
fn a_queue_that_is_stopped_in_the_middle_of_polling_is_not_watched_any_more() {
    let mut driver = polled(PLAIN);
    driver.header(request_type::FLUSH, 0);
    driver.chain_at(0, &[readable(HEADER, 16), writable(STATUS, 1)]);
    driver.write(Register::QueueReady, 0);
    driver.offer(0);
    driver.reset();
    assert_eq!(driver.used_idx(), 1);
}
