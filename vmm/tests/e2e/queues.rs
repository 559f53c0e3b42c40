//! Disks with several request queues, of which the built-in guest uses one.

use libtest_mimic::Trial;
use serde_json::Value;

use crate::guests::{NOTIFY_MODES, disk, run_on, start_on};
use crate::harness::{Ended, file};
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test("queues_that_a_driver_does_not_use_do_no_harm", one_of_64),
        test(
            "queues_have_statistics_of_their_own_and_threads_in_the_sandbox",
            statistics,
        ),
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
