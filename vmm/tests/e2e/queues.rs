//! Disks with several request queues: each CPU of the built-in guest has one of its own, as far as
//! there are enough.

use std::fs;

use guest::rng::pattern;
use libtest_mimic::Trial;
use serde_json::Value;

use crate::guests::{NOTIFY_MODES, disk, run_on, start_on};
use crate::harness::{Ended, file};
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    let own_kvm = |name, body| crate::harness::test(name, Needs::OwnKvm, body);
    vec![
        own_kvm("queues_that_a_driver_does_not_use_do_no_harm", one_of_64),
        own_kvm(
            "queues_have_statistics_of_their_own_and_threads_in_the_sandbox",
            statistics,
        ),
        test("queues_each_cpu_verifies_its_share_by_its_own", verify),
        own_kvm("queues_that_are_too_few_are_shared_by_cpus", shared),
        own_kvm("queues_that_a_guest_is_not_to_use_are_left_alone", limited),
    ]
}

fn one_of_64() {
    for notify in NOTIFY_MODES {
        let (_dir, path) = file("disk", &[0; 1 << 20]);
        let options = format!(",queues=64,notify={notify}");
        let ended = run_on(None, &[disk(&path, &options)], "run=selftest");
        ended.assert_ok("selftest cases=87 ok");
    }
}

/// What `--stats=json` tells of the queues.
#[track_caller]
fn queues(ended: &Ended) -> Vec<Value> {
    let line = ended.stderr.lines().find(|line| line.starts_with('{'));
    let report: Value = serde_json::from_str(line.expect(&ended.stderr)).unwrap();
    report["queues"].as_array().unwrap().clone()
}

fn statistics() {
    for notify in NOTIFY_MODES {
        let (_dir, path) = file("disk", &[0; 1 << 20]);
        let disks = [disk(&path, &format!(",queues=3,notify={notify}"))];
        let ended = start_on(None, &disks, "run=verify lba=0 count=64 depth=4")
            .command(|command| _ = command.arg("--stats=json"))
            .spawn()
            .wait();
        assert_eq!(ended.code(), 0, "{ended:?}");
        let queues = queues(&ended);
        assert_eq!(queues.len(), 3, "{queues:?}");
        for (index, queue) in (0..).zip(&queues) {
            assert_eq!(queue["queue"], index, "{queue}");
            let requests = queue["all"]["count"].as_u64().unwrap();
            assert_eq!(requests > 0, index == 0, "{queue}");
        }
    }
}

/// What `run=verify` with these parameters, on `cpus` CPUs, leaves in `--stats`; its last line begins
/// and ends as told.
#[track_caller]
fn verified(cpus: &str, options: &str, parameters: &str, told: &str) -> Vec<Value> {
    let (_dir, path) = file("disk", &[0; 1 << 20]);
    let line = format!("run=verify lba=5 count=201 seed=7 {parameters}");
    let ended = start_on(None, &[disk(&path, options)], &line)
        .command(|command| _ = command.args(["--stats=json", "--cpus", cpus]))
        .spawn()
        .wait();
    ended.assert_ok(&format!("verify lba=5 count=201 seed=7 {told} ok"));
    let mut expected = vec![0; 1 << 20];
    pattern(7, 5, &mut expected[5 * 512..206 * 512]);
    assert!(fs::read(&path).unwrap() == expected, "{options}");
    queues(&ended)
}

/// How many requests each of `queues` has had.
fn requests(queues: &[Value]) -> Vec<u64> {
    let counts = queues.iter().map(|queue| queue["all"]["count"].as_u64());
    counts.map(|count| count.unwrap()).collect()
}

fn verify() {
    for notify in NOTIFY_MODES {
        for (registers, wait) in [("trap", "irq"), ("mapped", "poll")] {
            let options = format!(",queues=4,notify={notify},registers={registers}");
            let parameters = format!("depth=8 wait={wait}");
            let queues = verified("4", &options, &parameters, "depth=8 cpus=4 queues=4");
            // 26 requests to write, as many to read, and a flush each.
            let mut counts = requests(&queues);
            counts.sort_unstable();
            assert_eq!(counts, [13, 13, 15, 15], "{options}: {queues:?}");
        }
    }
}

fn shared() {
    for notify in NOTIFY_MODES {
        for registers in ["trap", "mapped"] {
            let options = format!(",queues=2,notify={notify},registers={registers}");
            let queues = verified("4", &options, "depth=8", "depth=8 cpus=4 queues=2");
            assert_eq!(requests(&queues), [26, 30], "{options}: {queues:?}");
        }
    }
}

fn limited() {
    let queues = verified(
        "3",
        ",queues=5",
        "depth=8 queues=2",
        "depth=8 cpus=3 queues=2",
    );
    let counts = requests(&queues);
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
    assert_eq!(counts[2..], [0; 3]);
    let queues = verified("1", ",queues=5", "depth=8", "depth=8");
    assert_eq!(requests(&queues)[1..], [0; 4]);
}
