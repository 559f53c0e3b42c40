//! The buckets with a clock of the tests' own.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn limits(iops: u64, bps: u64) -> Limits {
    Limits {
        iops: NonZeroU64::new(iops),
        bps: NonZeroU64::new(bps),
    }
}

/// Requests of `bytes`, each made as soon as it may be, and `late` after that as a sleep that is
/// not exact: how many there are in 10 s.
fn in_10_seconds(limits: Limits, bytes: u64, late: Duration) -> u64 {
    let mut throttle = Throttle::new(limits);
    let (mut now, mut requests) = (Duration::ZERO, 0);
    loop {
        let wait = throttle.wait(now);
        if !wait.is_zero() {
            now += wait + late;
        }
        if now >= 10 * SECOND {
            return requests;
        }
        throttle.spend(now, bytes);
        requests += 1;
    }
}

#[test]
fn limits_hold_within_5_percent_over_10_seconds_however_late_those_are_who_wait() {
    for late in [
        Duration::ZERO,
        Duration::from_micros(60),
        Duration::from_millis(20),
    ] {
        for (limits, bytes, expected) in [
            (limits(100, 0), 4096, 1000),
            (limits(1000, 0), 1 << 20, 10_000),
            (limits(25_000, 0), 4096, 250_000),
            (limits(0, 50 << 20), 4096, 128_000),
            (limits(0, 10 << 20), 1 << 20, 100),
            // The tighter one counts.
            (limits(1000, 1 << 20), 4096, 2560),
            (limits(1000, 100 << 20), 4096, 10_000),
        ] {
            let done = in_10_seconds(limits, bytes, late);
            let off = done.abs_diff(expected) as f64 / expected as f64;
            assert!(
                off <= 0.05,
                "{limits:?}, {bytes} bytes, {late:?} late: {done}"
            );
        }
    }
}

#[test]
fn a_disk_without_limits_never_waits() {
    let mut throttle = Throttle::new(Limits::default());
    for _ in 0..1000 {
        throttle.spend(Duration::ZERO, u64::MAX);
    }
    assert_eq!(throttle.wait(Duration::ZERO), Duration::ZERO);
}

#[test]
fn a_disk_that_was_not_used_saves_up_for_100_ms_and_no_more() {
    for idle in [BURST, 10 * SECOND, 1_000_000 * SECOND] {
        let mut throttle = Throttle::new(limits(1000, 0));
        let mut requests = 0;
        while throttle.wait(idle).is_zero() {
            throttle.spend(idle, 0);
            requests += 1;
        }
        // The last of them overdraws.
        assert_eq!(requests, 101, "after {idle:?}");
    }
}

#[test]
fn what_a_large_request_overdraws_is_waited_for() {
    let mut throttle = Throttle::new(limits(0, 1 << 20));
    throttle.spend(SECOND, 64 << 20);
    assert_eq!(throttle.wait(SECOND), 64 * SECOND - BURST);
    assert_eq!(throttle.wait(65 * SECOND), Duration::ZERO);
}

proptest! {
    /// In any stretch of time there is no more done than flows in, and what was saved up, and the
    /// last request; and whoever waits no longer than told gets what is his.
    #[test]
    fn in_no_stretch_of_time_is_more_done_than_there_may_be(
        rate in 1_u64..1_000_000,
        steps in prop::collection::vec((0_u64..200_000, 0_u64..300_000_000), 1..60),
    ) {
        let mut throttle = Throttle::new(limits(0, rate));
        let (mut now, mut done) = (SECOND, Vec::new());
        for (bytes, idle) in steps {
            now += Duration::from_nanos(idle);
            now += throttle.wait(now);
            throttle.spend(now, bytes);
            done.push((now, bytes));
        }
        let flows = |time: Duration| time.as_secs_f64() * rate as f64;
        for (first, (start, _)) in done.iter().enumerate() {
            let mut sum = 0;
            for (end, bytes) in &done[first..] {
                let most = flows(*end - *start + BURST) + 1.0 + done.len() as f64;
                prop_assert!(sum as f64 <= most, "{sum} bytes before {end:?} since {start:?}");
                sum += bytes;
            }
        }
        let total: u64 = done.iter().map(|(_, bytes)| bytes).sum();
        let rest = throttle.wait(now);
        prop_assert!(flows(now + rest) + 1.0 >= total as f64 - 1.0);
    }
}
