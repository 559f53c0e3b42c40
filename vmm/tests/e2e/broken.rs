//! The drivers that make a mistake (docs/src/broken.md), on the real device through real MMIO: that
//! each shows the symptom that the text gives, in every notify mode, and that what the text says is
//! to be seen from outside is there.

use std::fs;

use libtest_mimic::Trial;
use serde_json::Value;
use spec::block::SECTOR_SIZE;

use crate::guests::{NOTIFY_MODES, disk, run_on, start_on};
use crate::harness::file;
use crate::needs::Needs;

const TEXT: &str = include_str!("../../../docs/src/broken.md");
const DRIVER: &str = include_str!("../../../guest/src/workloads/broken/driver.rs");

/// How many sectors there are: as many as are written.
const SECTORS: usize = 16;
const SECTOR: usize = SECTOR_SIZE as usize;

/// What the guest says of each mistake, and what the VMM says.
const SYMPTOMS: [(&str, &str); 5] = [
    (
        "write at lba=0: the device wrote no valid status: 0xff",
        "vmm: warning: block: refused a request, and may refuse more: the chain does not end with a \
         status byte\n",
    ),
    (
        "write at lba=0: no completion in a second: submitted=1 completed=0",
        "",
    ),
    (
        "read at lba=1: no completion in a second: submitted=20 completed=17",
        "",
    ),
    (
        "write at lba=15: the device has set DEVICE_NEEDS_RESET",
        "vmm: warning: block: avail.idx is 65521 ahead in a queue of 16; the device needs a reset, \
         and may again\n",
    ),
    ("lba=0 byte 0: 0x04 was read, 0x01 was written", ""),
];

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test("broken_drivers_show_their_symptoms_in_every_mode", symptoms),
        test("broken_without_a_bug_writes_and_reads_back", control),
        test("broken_drivers_leave_the_evidence_in_the_trace", evidence),
        crate::harness::test(
            "broken_solutions_name_the_lines_that_are_wrong",
            Needs::Nothing,
            solutions,
        ),
    ]
}

fn solutions() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let driver = words(DRIVER);
    let lines: Vec<_> = TEXT
        .split("The line: `")
        .skip(1)
        .map(|rest| rest.split_once('`').unwrap().0)
        .collect();
    assert_eq!(lines.len(), SYMPTOMS.len());
    for (line, bug) in lines.into_iter().zip(1..) {
        assert!(line.contains(&format!("self.bug == {bug}")) || line.contains("self.bug != 1"));
        let found = driver.matches(&words(line)).count();
        assert_eq!(found, 1, "{line}");
    }
}

fn symptoms() {
    for notify in NOTIFY_MODES {
        for (bug, (told, warned)) in (1..).zip(SYMPTOMS) {
            let (_dir, path) = file("disk.img", &[0; SECTORS * SECTOR]);
            let disks = [disk(&path, &format!(",notify={notify}"))];
            let ended = run_on(None, &disks, &format!("run=broken bug={bug}"));
            let verdict = format!("broken bug={bug} FAILED: {told}\n");
            let stdout = String::from_utf8_lossy(&ended.stdout);
            assert_eq!(
                (ended.code(), &*stdout, &*ended.stderr),
                (1, &*verdict, warned),
                "{}",
                ended.command
            );
        }
    }
}

/// The events of one kind in a trace of a driver: what is told of each, in the order of the file.
struct Events(Vec<Value>);

impl Events {
    /// Those of the category that have this phase: "X" for what takes time, "b" for a request.
    fn of(trace: &Value, category: &str, phase: &str) -> Self {
        let events = trace["traceEvents"].as_array().unwrap();
        let wanted = |event: &&Value| event["cat"] == category && event["ph"] == phase;
        Self(
            events
                .iter()
                .filter(wanted)
                .map(|event| event["args"].clone())
                .collect(),
        )
    }

    /// What the last `count` of them say of `key`.
    fn last(&self, count: usize, key: &str) -> Vec<Value> {
        let first = self.0.len().saturating_sub(count);
        self.0[first..]
            .iter()
            .map(|args| args[key].clone())
            .collect()
    }
}

/// For each mistake what the text says that the trace shows, whoever drains the queue.
fn evidence() {
    for notify in ["trap", "ioeventfd"] {
        for bug in 0..=SYMPTOMS.len() {
            let trace = trace(bug, notify);
            let requests = Events::of(&trace, "request", "b");
            let interrupts = Events::of(&trace, "interrupt", "X");
            let drained: u64 = Events::of(&trace, "drain", "X")
                .0
                .iter()
                .map(|args| args["requests"].as_u64().unwrap())
                .sum();
            let told = format!("bug={bug}, notify={notify}: {trace}");
            assert_eq!(drained, requests.0.len() as u64, "{told}");
            let seen = (requests.0.len(), interrupts.0.len());
            let (expected, last_interrupt) = match bug {
                0 => ((32, 20), Some("used buffer")),
                1 => ((1, 1), Some("used buffer")),
                2 => ((0, 0), None),
                3 | 5 => ((20, 17), Some("used buffer")),
                _ => ((15, 16), Some("configuration change")),
            };
            assert_eq!(seen, expected, "{told}");
            let last = interrupts.last(1, "event");
            assert_eq!(
                last.first().and_then(Value::as_str),
                last_interrupt,
                "{told}"
            );
            match bug {
                1 => {
                    assert_eq!(requests.last(1, "used_len"), [0], "{told}");
                    assert_eq!(requests.last(1, "status"), [Value::Null], "{told}");
                }
                2 => assert!(!Events::of(&trace, "notify", "i").0.is_empty(), "{told}"),
                3 => assert_eq!(requests.last(4, "sector"), [0, 1, 2, 3], "{told}"),
                4 => assert_eq!(requests.last(1, "used_idx"), [14], "{told}"),
                5 => assert_eq!(requests.last(4, "sector"), [3, 3, 3, 3], "{told}"),
                _ => assert_eq!(requests.last(4, "sector"), [12, 13, 14, 15], "{told}"),
            }
        }
    }
}

/// The trace of a driver with this mistake.
fn trace(bug: usize, notify: &str) -> Value {
    let (dir, path) = file("disk.img", &[0; SECTORS * SECTOR]);
    let trace = dir.path().join("trace.json");
    let disks = [disk(&path, &format!(",notify={notify}"))];
    let ended = start_on(None, &disks, &format!("run=broken bug={bug}"))
        .command(|command| _ = command.arg("--trace").arg(&trace))
        .spawn()
        .wait();
    assert_eq!(ended.code(), i32::from(bug != 0), "{}", ended.stderr);
    serde_json::from_slice(&fs::read(trace).unwrap()).unwrap()
}

fn control() {
    for notify in NOTIFY_MODES {
        let (_dir, path) = file("disk.img", &[0; SECTORS * SECTOR]);
        let disks = [disk(&path, &format!(",notify={notify}"))];
        run_on(None, &disks, "run=broken bug=0").assert_ok("broken bug=0 requests=32 ok");
        let sectors = fs::read(&path).unwrap();
        for (sector, byte) in sectors.chunks(SECTOR).zip(1..) {
            assert!(
                sector.iter().all(|&found| found == byte),
                "sector of {byte}"
            );
        }
    }
}
