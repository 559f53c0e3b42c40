//! With the signal blocked: then it stays where a thread can look for it.

#![allow(clippy::unwrap_used)]

use std::thread;
use std::time::Instant;

use vmm_sys_util::signal::{SIGRTMIN, block_signal};

use super::*;

/// A signal that nothing else uses.
fn signal() -> c_int {
    SIGRTMIN() + 2
}

/// Takes one such signal that has come to this thread, and returns whether there was one.
fn has_come() -> bool {
    let at_once = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a set of signals is integers, for which 0 is a value; all live until the calls return.
    unsafe {
        let mut set = mem::zeroed();
        libc::sigaddset(&raw mut set, signal());
        libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const at_once) == signal()
    }
}

/// How much CPU time this thread has used.
fn used() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the time lives until it returns.
    check(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }).unwrap();
    Duration::new(
        time.tv_sec.cast_unsigned(),
        time.tv_nsec.try_into().unwrap(),
    )
}

/// Uses `time` of CPU time.
fn spend(time: Duration) {
    let end = used() + time;
    while used() < end {}
}

const TICK: Duration = Duration::from_millis(10);

#[test]
fn a_thread_that_runs_is_interrupted_again_and_again_until_the_timer_is_dropped() {
    block_signal(signal()).unwrap();
    let timer = CpuTimer::start(signal(), TICK).unwrap();
    for _ in 0..3 {
        while !has_come() {}
    }
    drop(timer);
    while has_come() {}
    spend(5 * TICK);
    assert!(!has_come());
}

#[test]
fn a_thread_that_waits_and_one_that_the_timer_is_not_of_are_left_alone() {
    block_signal(signal()).unwrap();
    let _timer = CpuTimer::start(signal(), TICK).unwrap();
    let start = Instant::now();
    let other = thread::spawn(|| {
        spend(5 * TICK);
        has_come()
    });
    assert!(!other.join().unwrap());
    assert!(start.elapsed() >= 5 * TICK && !has_come());
}

#[test]
fn a_timer_of_more_than_a_second_does_not_come_at_once() {
    block_signal(signal()).unwrap();
    let _timer = CpuTimer::start(signal(), Duration::new(5, 1)).unwrap();
    spend(5 * TICK);
    assert!(!has_come());
}
