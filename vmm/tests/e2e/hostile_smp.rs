//! A guest whose CPUs attack the device together, `run=hostile case=smp-...`: nothing in the VMM
//! fails, and the image holds only what a request can rightly have written.

use std::fs;

use libtest_mimic::Trial;

use crate::guests::{NOTIFY_MODES, start_on};
use crate::harness::file;
use crate::needs::Needs;

/// Size of the image, in sectors: more than the guest writes.
const SECTORS: usize = 80;
const SECTOR: usize = 512;
/// The sectors that the requests of these cases may be for. The first are written with what is known
/// of them, those that follow are nobody's.
const WRITTEN: std::ops::Range<usize> = 16..64;

pub fn tests() -> Vec<Trial> {
    let two = |name, body| crate::harness::test(name, Needs::Kvm, body);
    // Slow where there are not so many CPUs to run them.
    let four = |name, body| crate::harness::test(name, Needs::OwnKvm, body);
    vec![
        two(
            "hostile_smp_descriptors_that_change_meanwhile_lead_nowhere_else",
            || survives("smp-descriptors", "2", "", is_known),
        ),
        four(
            "hostile_smp_descriptors_that_3_cpus_change_lead_nowhere_else",
            || survives("smp-descriptors", "4", "", is_known),
        ),
        two(
            "hostile_smp_headers_that_change_meanwhile_are_read_once",
            || survives("smp-headers", "2", "", is_whole),
        ),
        four(
            "hostile_smp_headers_that_3_cpus_change_are_read_once",
            || survives("smp-headers", "4", "", is_whole),
        ),
        two(
            "hostile_smp_indices_that_change_meanwhile_at_most_need_a_reset",
            || survives("smp-indices", "2", "", is_whole),
        ),
        four(
            "hostile_smp_indices_that_3_cpus_change_at_most_need_a_reset",
            || survives("smp-indices", "4", "", is_whole),
        ),
        two(
            "hostile_smp_a_device_that_is_reset_in_use_comes_to_rest_and_back",
            || survives_resets(""),
        ),
        four(
            "hostile_smp_a_device_that_3_cpus_reset_and_use_comes_to_rest_and_back",
            || survives("smp-reset", "4", "", is_whole),
        ),
        two(
            "hostile_smp_cases_are_skipped_where_there_is_one_cpu",
            skipped,
        ),
    ]
}

/// An image of which no two sectors are alike.
fn image() -> Vec<u8> {
    let byte = |i: usize| (i / SECTOR * 7 + i % 251) as u8;
    (0..SECTORS * SECTOR).map(byte).collect()
}

/// Runs the case of a device that is reset in use by two CPUs, on a disk with these `options`.
pub fn survives_resets(options: &str) {
    survives("smp-reset", "2", options, is_whole);
}

/// Runs a case with so many CPUs in every notify mode. `is_legal` says what a sector may hold.
fn survives(case: &str, cpus: &str, options: &str, is_legal: fn(usize, &[u8]) -> bool) {
    for notify in NOTIFY_MODES {
        let about = format!("{case}, notify={notify}, --cpus {cpus}");
        let before = image();
        let (_dir, path) = file("disk.img", &before);
        let disk = format!("{},notify={notify}{options}", path.display());
        let cmdline = format!("run=hostile case={case}");
        let ended = start_on(None, &[disk], &cmdline)
            .command(|command| _ = command.args(["--cpus", cpus]))
            .spawn()
            .wait();
        let told = String::from_utf8_lossy(&ended.stdout);
        assert_eq!(ended.code(), 0, "{about}: {told}\n{}", ended.stderr);
        let passed = |mode: &str| told.contains(&format!("- {case}, {mode}: expected "));
        let all = passed("direct") && passed("indirect, event_idx");
        assert!(all && !told.contains("# SKIP"), "{about}: {told}");
        for line in ended.stderr.lines() {
            assert!(line.starts_with("vmm: warning: "), "{about}: {line}");
        }

        let after = fs::read(&path).unwrap();
        assert_eq!(after.len(), before.len(), "{about}");
        let rest = WRITTEN.end * SECTOR;
        assert!(after[rest..] == before[rest..], "{about}");
        for (lba, sector) in WRITTEN.zip(after[WRITTEN.start * SECTOR..].chunks(SECTOR)) {
            let shown = &sector[..32];
            assert!(is_legal(lba, sector), "{about}: sector {lba}: {shown:x?}");
        }
    }
}

/// A sector of one byte: what was there before; what requests 0 and 2 write, in which nobody else has
/// a hand; or, in the first, what is written when all is over.
fn is_whole(lba: usize, sector: &[u8]) -> bool {
    let old = 0x50 | (lba % 16) as u8;
    let last = lba == WRITTEN.start && sector[0] == 0x64;
    sector.iter().all(|byte| *byte == sector[0]) && (last || [old, 0x60, 0x62].contains(&sector[0]))
}

/// The same in any mixture, and with it the bytes of headers and status bytes, and those of memory
/// that is nobody's: whatever is at the addresses that descriptors are given.
fn is_known(_: usize, sector: &[u8]) -> bool {
    let known = |byte: &u8| matches!(byte, 0..0x20 | 0x50..=0x6f);
    sector.iter().all(known)
}

fn skipped() {
    let (_dir, path) = file("disk.img", &image());
    let disk = path.display().to_string();
    let ended = start_on(None, &[disk], "run=hostile case=smp-reset")
        .spawn()
        .wait();
    let told = String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.code(), 0, "{told}");
    let skip = "ok 1 - smp-reset, direct # SKIP one CPU\n";
    assert!(told.contains(skip), "{told}");
}
