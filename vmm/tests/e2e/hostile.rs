//! A guest that lies, on the real device through real MMIO: that it is survived in every notify mode,
//! that what the VMM says of it is bounded, and that the image holds what was rightly written alone.

use std::fs;

use guest::rng::pattern;
use libtest_mimic::Trial;
use spec::block::SECTOR_SIZE;

use crate::guests::{NOTIFY_MODES, disk, run_on};
use crate::harness::{Ended, file};
use crate::needs::Needs;

const SECTOR: usize = SECTOR_SIZE as usize;
const SECTORS: usize = 64;
/// How many of the first sectors the guest writes, and the seed of the pattern that it writes there.
const WRITTEN: usize = 16;
const SEED: u64 = 1;
/// The most lines that the VMM has for one disk, whatever its driver does.
const MOST_LINES: usize = 12;

/// Why the cases of several CPUs are skipped.
const ONE_CPU: &str = "one CPU";

/// Why the cases of several queues are skipped.
const ONE_QUEUE: &str = "the disk has one queue";

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    let own_kvm = |name, body| crate::harness::test(name, Needs::OwnKvm, body);
    vec![
        own_kvm("hostile_guest_is_survived_in_every_mode", || {
            survives(&NOTIFY_MODES, "")
        }),
        test(
            "hostile_guest_is_survived_by_several_queues_in_every_mode",
            || survives(&NOTIFY_MODES, ",queues=4"),
        ),
        own_kvm("hostile_guest_is_survived_by_a_read_only_disk", read_only),
        test("hostile_guest_lists_its_cases_and_refuses_others", choices),
    ]
}

/// Where the vCPU serves a queue, and where a thread does.
pub const SERVED_BY_EITHER: [&str; 2] = ["trap", "ioeventfd"];

/// Runs all cases on a writable disk with these `options`, in these notify `modes`.
pub fn survives(modes: &[&str], options: &str) {
    let mut expected = image();
    pattern(SEED, 0, &mut expected[..WRITTEN * SECTOR]);
    for notify in modes {
        let may_skip = [ONE_CPU, "the disk is not read-only", ONE_QUEUE];
        // The last is none where there are several queues.
        let reasons = may_skip.len() - usize::from(options.contains("queues="));
        attack(notify, options, &may_skip[..reasons], &expected);
    }
}

fn read_only() {
    let may_skip = [
        ONE_CPU,
        ONE_QUEUE,
        "the disk is read-only",
        "VIRTIO_BLK_F_DISCARD is not offered",
        "VIRTIO_BLK_F_WRITE_ZEROES is not offered",
    ];
    for notify in SERVED_BY_EITHER {
        attack(notify, ",readonly=on", &may_skip, &image());
    }
}

/// What is on the disk before: no two sectors are alike.
fn image() -> Vec<u8> {
    let mut bytes = vec![0; SECTORS * SECTOR];
    pattern(99, 0, &mut bytes);
    bytes
}

/// Runs all cases, and sees that none is skipped but for these reasons and that they leave `expected`
/// in the image.
#[track_caller]
fn attack(notify: &str, options: &str, may_skip: &[&str], expected: &[u8]) {
    let (_dir, path) = file("disk.img", &image());
    let disk = disk(&path, &format!(",notify={notify}{options}"));
    let ended = run_on(None, &[disk], "run=hostile case=all");
    assert_passed(&ended, may_skip);
    let lines = ended.stderr.lines().count();
    assert!(lines <= MOST_LINES, "{lines} lines:\n{}", ended.stderr);
    for line in ended.stderr.lines() {
        assert!(line.starts_with("vmm: warning: "), "{line}");
    }
    assert!(fs::read(&path).unwrap() == expected, "{}", ended.command);
}

/// Asserts that what was printed is TAP, and that every case that was planned is in it and has
/// passed, but for those that are skipped for one of these reasons.
#[track_caller]
fn assert_passed(ended: &Ended, may_skip: &[&str]) {
    let text = std::str::from_utf8(&ended.stdout).unwrap();
    let told = format!("{}: {}\n{text}", ended.command, ended.stderr);
    assert_eq!(ended.code(), 0, "{told}");
    let (comments, lines): (Vec<_>, Vec<_>) = text.lines().partition(|line| line.starts_with("# "));
    let [version, plan, results @ ..] = &lines[..] else {
        panic!("{told}");
    };
    let planned = format!("1..{}", results.len());
    assert_eq!(
        (*version, *plan),
        ("TAP version 14", &planned[..]),
        "{told}"
    );
    for (line, number) in results.iter().zip(1..) {
        assert!(line.starts_with(&format!("ok {number} - ")), "{told}");
        let skipped = line.contains(" # SKIP ");
        assert!(skipped || line.contains("; seen "), "{told}");
    }
    let reasons = results
        .iter()
        .filter_map(|line| line.split_once(" # SKIP "));
    let skipped = reasons
        .inspect(|(_, reason)| assert!(may_skip.contains(reason), "{told}"))
        .count();
    let verdict = format!("# hostile cases={} skipped={skipped} ok", results.len());
    assert_eq!(comments, [verdict], "{told}");
}

fn choices() {
    let (_dir, path) = file("disk.img", &image());
    let disks = [disk(&path, "")];
    let ended = run_on(None, &disks, "run=hostile case=list");
    let text = std::str::from_utf8(&ended.stdout).unwrap();
    assert_eq!(ended.code(), 0, "{text}");
    for name in ["avail-idx-jump", "unknown-type", "register-width"] {
        let named = |line: &str| line.starts_with(&format!("{name} "));
        assert!(text.lines().any(named), "no {name} in\n{text}");
    }
    let ended = run_on(None, &disks, "run=hostile case=none");
    ended.assert_failed(
        "hostile case=none FAILED: case=none is none of all list ",
        "no-device-port",
    );
    assert!(fs::read(&path).unwrap() == image());
}
