//! The drivers that make a mistake (docs/src/broken.md), on the real device through real MMIO: that
//! each shows the symptom that the text gives, in every notify mode, and that what the text says is
//! to be seen from outside is there.

use std::fs;

use libtest_mimic::Trial;
use spec::block::SECTOR_SIZE;

use crate::guests::{NOTIFY_MODES, disk, run_on};
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
