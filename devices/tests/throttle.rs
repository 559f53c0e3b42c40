//! A disk that may be used no faster than its limits: who waits for that, who does not, and how well
//! they hold. The buckets themselves are tested where they are, with a clock of the tests' own.

#![allow(clippy::unwrap_used)]

mod common;

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use common::*;
use devices::Response;
use devices::virtio::block::throttle::Limits;
use spec::Features;
use spec::block::{Segment, request_type, status};
use spec::mmio::Register;

fn iops(rate: u64) -> Limits {
    Limits {
        iops: NonZeroU64::new(rate),
        bps: None,
    }
}

/// A driver of the default disk with these limits, that has brought it up.
fn limited(mode: Mode, limits: Limits, features: Features) -> Driver {
    let disk = default_disk();
    let backend = Box::new(disk.clone());
    let mut driver = Driver::with_block(mode, false, disk, backend, |block| {
        block.with_limits(limits)
    });
    driver.initialize(features);
    driver
}

fn read(driver: &mut Driver) {
    let answer = driver.request(request_type::IN, 1, &[writable(DATA, 512)]);
    assert_eq!(answer, (513, status::OK));
}

/// A read that must wait, for about as long as `limits` have one wait.
fn begin_to_wait(driver: &mut Driver) {
    driver.header(request_type::IN, 1);
    let chain = [
        readable(HEADER, 16),
        writable(DATA, 512),
        writable(STATUS, 1),
    ];
    driver.chain_at(0, &chain);
    driver.offer(0);
}

#[test]
fn all_is_served_in_the_end_and_not_before_its_time() {
    in_every_mode(|mode| {
        let mut driver = limited(mode, iops(200), PLAIN);
        let start = Instant::now();
        (0..60).for_each(|_| read(&mut driver));
        // 20 have been saved up at most, and one overdraws.
        let least = Duration::from_millis(5) * (60 - 20 - 1);
        assert!(start.elapsed() >= least, "{mode:?}: {:?}", start.elapsed());
    });
}

/// A day must pass before the next request: whoever waits for that at all does not come to the end.
#[test]
fn a_reset_waits_for_no_limit_and_lifts_none() {
    let a_day = Limits {
        iops: None,
        bps: NonZeroU64::new(1),
    };
    for mode in THREADS {
        let mut driver = limited(mode, a_day, PLAIN);
        read(&mut driver);
        for _ in 0..3 {
            begin_to_wait(&mut driver);
            driver.notify();
            driver.initialize(PLAIN);
            begin_to_wait(&mut driver);
            driver.notify();
            driver.write(Register::QueueReady, 0);
            assert_eq!(driver.used_idx(), 0);
            driver.initialize(PLAIN);
        }
        // So does the end of the device.
        begin_to_wait(&mut driver);
        driver.notify();
    }
}

#[test]
fn by_trap_whoever_notifies_is_told_how_long_to_wait_and_can_do_something_else() {
    let mut driver = limited(Mode::Trap, iops(1), PLAIN);
    read(&mut driver);
    begin_to_wait(&mut driver);
    let Response::Later(wait) = driver.try_write(Register::QueueNotify, 0) else {
        panic!("served");
    };
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
    driver.reset();
}

#[test]
fn a_size_is_looked_at_while_requests_wait() {
    for mode in THREADS {
        let mut driver = limited(mode, iops(1), PLAIN);
        read(&mut driver);
        begin_to_wait(&mut driver);
        driver.notify();
        driver.disk.bytes().resize(8 * 512, 0);
        let start = Instant::now();
        devices::BusDevice::refresh(&mut driver.transport).unwrap();
        let edges = std::sync::Arc::clone(&driver.edges);
        edges.wait_until(|| driver.read(Register::ConfigGeneration) == 1);
        println!("{mode:?}: after {:?}", start.elapsed());
        driver.reset();
    }
}

/// 512 chains of four tiny segments would be 2,048 calls to the host in one drain.
#[test]
fn a_drain_ends_after_64_segments_to_clear_however_small_they_are() {
    let features = PLAIN | Features::VIRTIO_BLK_F_WRITE_ZEROES;
    let mut driver = Driver::new(Mode::Trap);
    driver.size = 64;
    driver.initialize(features);
    driver.header(request_type::WRITE_ZEROES, 0);
    let segment = Segment {
        sector: 1,
        num_sectors: 1,
        flags: 0,
    };
    driver.put(DATA, &segment.to_bytes().repeat(4));
    let chain = [
        readable(HEADER, 16),
        readable(DATA, 64),
        writable(STATUS, 1),
    ];
    for n in 0..20 {
        driver.chain_at(3 * n, &chain);
        driver.offer(3 * n);
    }
    let response = driver.try_write(Register::QueueNotify, 0);
    assert!(matches!(response, Response::Again), "{response:?}");
    assert_eq!(driver.used_idx(), 16);
    driver.write(Register::QueueNotify, 0);
    assert_eq!(driver.used_idx(), 20);
}

/// Reports how well a limit holds on this machine; `THROTTLE_SECONDS=10` for as long as is promised.
#[test]
fn measured_rates() {
    let seconds = std::env::var("THROTTLE_SECONDS").map_or(0.3, |text| text.parse().unwrap());
    in_every_mode(|mode| {
        for rate in [100, 1000, 5000] {
            let mut driver = limited(mode, iops(rate), PLAIN);
            let (start, mut done) = (Instant::now(), 0_u32);
            while start.elapsed().as_secs_f64() < seconds {
                read(&mut driver);
                done += 1;
            }
            let measured = f64::from(done) / start.elapsed().as_secs_f64();
            let off = (measured / rate as f64 - 1.0) * 100.0;
            println!("{mode:?}: {rate}/s allowed, {measured:.1}/s done ({off:+.1} %)");
        }
    });
}
