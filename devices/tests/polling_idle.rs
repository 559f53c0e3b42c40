//! A device that polls and has nothing to do: that it sleeps. Its one test has the process, and so
//! the only thread of such a name, to itself.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::*;

const IDLE_LIMIT: Duration = Duration::from_millis(2);

/// What the kernel calls the thread of the disk "test disk", in 15 bytes.
const NAME: &str = "blk test disk\n";

/// The directory of the device's thread in /proc.
fn worker() -> PathBuf {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let is_worker = |task: &PathBuf| fs::read_to_string(task.join("comm")).unwrap() == NAME;
    tasks.find(is_worker).unwrap()
}

/// The state of a thread, and its CPU time in ticks.
fn state(task: &Path) -> (String, u64) {
    let stat = fs::read_to_string(task.join("stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
    (fields[0].to_owned(), ticks(11) + ticks(12))
}

#[test]
fn a_device_that_polls_sleeps_when_it_is_idle_and_is_woken_by_a_notification() {
    for features in [PLAIN, EVENT_IDX] {
        let mut driver = Driver::live(Mode::Poll(IDLE_LIMIT), features);
        driver.assert_serves();

        let worker = worker();
        let deadline = Instant::now() + LIMIT;
        while state(&worker).0 != "S" {
            assert!(Instant::now() < deadline, "it does not sleep");
            std::thread::yield_now();
        }
        let before = state(&worker);
        std::thread::sleep(50 * IDLE_LIMIT);
        assert_eq!(state(&worker), before, "state and ticks of CPU time");

        // It has asked for a notification, and is woken by one.
        let old = driver.avail_idx;
        driver.offer(0);
        assert!(driver.wants_notification(features, old), "{features:?}");
        driver.notify();
        assert_eq!(driver.wait_used(), Used { head: 0, len: 513 });
    }
}
