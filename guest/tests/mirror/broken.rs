//! `run=broken`, against the device: that each mistake shows its symptom, in every notify mode, and
//! that a driver without any does what the exercise says.

use std::thread;

use devices::virtio::block::backend::MemoryBackend;

use crate::host::{Host, Notify, Ram, run};
use crate::workloads::{assert_fails, disk, verdict};

const NOTIFY: [Notify; 3] = [Notify::Trap, Notify::IoEventFd, Notify::Poll];
/// How many sectors are written.
const SECTORS: usize = 16;

/// That the workload fails in every notify mode, with `symptom` as the reason.
#[track_caller]
fn assert_symptom(bug: u32, symptom: &str) {
    let parameters = format!("broken bug={bug}");
    let expected = (false, format!("{parameters} FAILED: {symptom}"));
    // At once: a hang is waited for.
    let seen = thread::scope(|threads| {
        let run = |notify| verdict(&disk(), notify, &format!("run={parameters}"));
        let started = NOTIFY.map(|notify| threads.spawn(move || run(notify)));
        started.map(|thread| thread.join().unwrap())
    });
    for (seen, notify) in seen.into_iter().zip(NOTIFY) {
        assert_eq!(seen, expected, "{notify:?}");
    }
}

#[test]
fn a_driver_without_a_mistake_writes_its_sectors_and_reads_them_back() {
    for notify in NOTIFY {
        let disk = disk();
        let mut expected = disk.bytes().clone();
        for (sector, byte) in expected.chunks_mut(512).take(SECTORS).zip(1..) {
            sector.fill(byte);
        }
        let seen = verdict(&disk, notify, "run=broken bug=0");
        assert_eq!(seen, (true, "broken bug=0 requests=32 ok".to_owned()));
        assert!(*disk.bytes() == expected, "{notify:?}");
    }
}

#[test]
fn bug_1_shows_as_a_status_that_nobody_has_written() {
    assert_symptom(1, "write at lba=0: the device wrote no valid status: 0xff");
}

#[test]
fn bug_2_shows_as_a_first_request_that_does_not_complete() {
    assert_symptom(
        2,
        "write at lba=0: no completion in a second: submitted=1 completed=0",
    );
}

#[test]
fn bug_3_shows_as_one_completion_where_there_should_be_four() {
    assert_symptom(
        3,
        "read at lba=1: no completion in a second: submitted=20 completed=17",
    );
}

#[test]
fn bug_4_shows_as_a_device_that_needs_a_reset_after_fifteen_requests() {
    assert_symptom(4, "write at lba=15: the device has set DEVICE_NEEDS_RESET");
}

#[test]
fn bug_5_shows_as_the_data_of_another_sector() {
    assert_symptom(5, "lba=0 byte 0: 0x04 was read, 0x01 was written");
}

#[test]
fn what_is_wrong_with_the_choice_of_an_exercise_or_of_a_disk_is_told() {
    assert_fails(
        "run=broken",
        "broken FAILED: bug is not given: a number from 0 to 5",
    );
    assert_fails(
        "run=broken bug=6",
        "broken bug=6 FAILED: bug=6 is not a number from 0 to 5",
    );
    let small = MemoryBackend::new(vec![0; 15 * 512]);
    let expected = "broken bug=0 FAILED: the disk has 15 sectors; at least 16 are needed";
    let seen = verdict(&small, Notify::Trap, "run=broken bug=0");
    assert_eq!(seen, (false, expected.to_owned()));

    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, &disk(), Notify::Trap, true)];
    let (ok, console) = run(&mut ram, &mut hosts, "run=broken bug=0");
    let expected = "broken bug=0 FAILED: the disk is read-only\n";
    assert_eq!((ok, &console[..]), (false, expected));
}
