//! Block I/O of `run=bench`, against the device: what it does to the disk, what it tells of itself,
//! and how few notifications and interrupts it makes do with.

use std::collections::HashSet;

use devices::virtio::block::backend::MemoryBackend;
use guest::rng::pattern;
use spec::bench::{BlockJob, Command, Kind, Outcome, fill_data, outcome};
use spec::block::config;

use crate::bench::perform;
use crate::host::{Host, Notify, Ram, Read};

const SECTORS: u64 = 2048;

fn disk() -> MemoryBackend {
    let mut bytes = vec![0; SECTORS as usize * 512];
    pattern(99, 0, &mut bytes);
    MemoryBackend::new(bytes)
}

/// Reads of 4 KiB, all over the disk.
fn reads(iterations: u64, depth: u64) -> Command {
    Command {
        kind: Kind::Block as u64,
        iterations,
        ticks: u64::MAX,
        block: BlockJob {
            block_size: 4096,
            depth,
            sectors: SECTORS,
            ..BlockJob::default()
        },
    }
}

/// `command` with another job.
fn with(command: Command, change: impl FnOnce(&mut BlockJob)) -> Command {
    let mut block = command.block;
    change(&mut block);
    Command { block, ..command }
}

/// What came of one command, and what the guest printed of it.
fn outcome_of(ram: &mut Ram, host: &mut Host, command: Command) -> (Outcome, String) {
    let (done, console) = perform(ram, std::slice::from_mut(host), vec![command]);
    (done[0].0, console.lines().next().unwrap().to_owned())
}

#[test]
fn every_job_does_as_many_requests_as_it_is_told_and_has_a_latency_for_each() {
    for notify in [Notify::Trap, Notify::IoEventFd] {
        let mut ram = Ram::new();
        let mut hosts = [Host::new(&ram, &disk(), notify, false)];
        let mut commands = Vec::new();
        for (block_size, depth) in [(512, 128), (4096, 1), (4096, 3), (65536, 32), (1 << 20, 4)] {
            for bits in 0..8 {
                commands.push(with(reads(300, depth), |job| {
                    job.block_size = block_size;
                    (job.write, job.random, job.poll) = (bits & 1, bits >> 1 & 1, bits >> 2);
                }));
            }
        }
        let (done, console) = perform(&mut ram, &mut hosts, commands);
        assert_eq!(console, "bench commands=40 ok\n");
        for (outcome, latencies) in done {
            assert_eq!((outcome.status, outcome.iterations), (outcome::DONE, 300));
            assert_eq!(latencies.len(), 300);
            let longest = latencies.iter().copied().max().unwrap();
            assert!(u64::from(longest) <= outcome.ticks);
            // A thread may be at it before the first notification, and never stop.
            assert!(outcome.notifications > 0 || notify != Notify::Trap);
        }
    }
}

#[test]
fn one_by_one_each_request_has_its_notification_its_interrupt_and_its_latency() {
    // A thread asks for the next notification after it has interrupted, and often too late for a
    // driver that does not wait for that.
    for notify in [Notify::Trap, Notify::IoEventFd, Notify::Poll] {
        let mut ram = Ram::new();
        let mut host = Host::new(&ram, &disk(), notify, false);
        let command = with(reads(500, 7), |job| job.poll = 1);
        let command = Command {
            kind: Kind::BlockNotify as u64,
            ..command
        };
        let (done, _) = perform(&mut ram, std::slice::from_mut(&mut host), vec![command]);
        let (outcome, latencies) = &done[0];
        assert_eq!((outcome.status, outcome.iterations), (outcome::DONE, 500));
        assert_eq!((outcome.notifications, outcome.interrupts), (500, 500));
        assert_eq!(latencies.len(), 500);
        assert!(latencies.iter().all(|ticks| *ticks > 0));
    }
}

#[test]
fn without_requests_the_disk_is_made_ready_and_that_is_all() {
    for kind in [Kind::Block, Kind::BlockNotify] {
        let mut ram = Ram::new();
        let mut host = Host::new(&ram, &disk(), Notify::Trap, false);
        let command = Command {
            kind: kind as u64,
            ..reads(0, 4)
        };
        let (outcome, _) = outcome_of(&mut ram, &mut host, command);
        assert_eq!((outcome.status, outcome.iterations), (outcome::DONE, 0));
        assert_eq!((outcome.notifications, outcome.interrupts), (0, 0));
    }
}

#[test]
fn reads_change_nothing_and_writes_keep_to_their_sectors() {
    for random in [0, 1] {
        let disk = disk();
        let mut ram = Ram::new();
        let mut hosts = [Host::new(&ram, &disk, Notify::Trap, false)];
        let before = disk.bytes().clone();
        let read = with(reads(500, 8), |job| job.random = random);
        perform(&mut ram, &mut hosts, vec![read]);
        assert!(*disk.bytes() == before);

        // 31 sectors are three blocks; the last sectors are no whole one.
        let write = with(read, |job| (job.write, job.sectors) = (1, 31));
        perform(&mut ram, &mut hosts, vec![write]);
        let after = disk.bytes().clone();
        assert!(after[24 * 512..] == before[24 * 512..]);
        for block in [0, 8, 16].map(|sector| sector * 512..(sector + 8) * 512) {
            assert!(after[block.clone()] != before[block]);
        }
    }
}

#[test]
fn requests_in_flight_write_data_of_their_own_that_cannot_be_compressed() {
    let disk = disk();
    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, &disk, Notify::Trap, false)];
    let write = with(reads(3, 3), |job| job.write = 1);
    perform(&mut ram, &mut hosts, vec![write]);
    let mut data = [0; 3 * 4096];
    fill_data(&mut data);
    assert!(disk.bytes()[..data.len()] == data);
    let distinct: HashSet<&[u8]> = data.chunks(8).collect();
    assert_eq!(distinct.len(), data.len() / 8);
}

#[test]
fn at_depth_32_few_notifications_and_interrupts_do_for_many_requests() {
    for notify in [Notify::Trap, Notify::IoEventFd] {
        for poll in [0, 1] {
            let mut ram = Ram::new();
            let mut host = Host::new(&ram, &disk(), notify, false);
            let command = with(reads(32_000, 32), |job| job.poll = poll);
            let (outcome, _) = outcome_of(&mut ram, &mut host, command);
            assert_eq!(outcome.notifications, host.notifications);
            if notify == Notify::Trap {
                // The device has done them all when the notification returns.
                assert_eq!(outcome.notifications, 1000);
                assert_eq!(outcome.interrupts, 0);
            }
            let per_request = |count| count as f64 / 32_000.0;
            assert!(per_request(outcome.interrupts) <= 0.15, "{outcome:?}");
            if poll == 1 {
                assert_eq!(host.edges.count(), 0);
            }
        }
    }
}

#[test]
fn no_request_is_submitted_after_the_time_is_over() {
    let mut ram = Ram::new();
    let mut host = Host::new(&ram, &disk(), Notify::IoEventFd, false);
    let command = Command {
        ticks: 0,
        ..reads(1000, 8)
    };
    let (outcome, _) = outcome_of(&mut ram, &mut host, command);
    assert_eq!((outcome.status, outcome.iterations), (outcome::DONE, 0));

    let command = Command {
        ticks: 2_000_000,
        ..reads(100_000, 8)
    };
    let (outcome, _) = outcome_of(&mut ram, &mut host, command);
    assert_eq!(outcome.status, outcome::DONE);
    assert!((8..100_000).contains(&outcome.iterations), "{outcome:?}");
    assert_eq!(outcome.latency_count, outcome.iterations);
}

#[test]
fn a_guest_whose_time_is_over_before_it_gets_to_a_request_makes_one() {
    for kind in [Kind::Block, Kind::BlockNotify] {
        for depth in [1, 8] {
            let mut ram = Ram::new();
            let mut host = Host::new(&ram, &disk(), Notify::Trap, false);
            let command = Command {
                kind: kind as u64,
                ticks: 1,
                ..reads(1000, depth)
            };
            let (outcome, _) = outcome_of(&mut ram, &mut host, command);
            assert_eq!((outcome.status, outcome.iterations), (outcome::DONE, 1));
            assert_eq!(outcome.latency_count, 1);
        }
    }
}

#[test]
fn a_request_has_as_many_segments_as_the_device_wants() {
    let mut ram = Ram::new();
    let mut host = Host::new(&ram, &disk(), Notify::Trap, false);
    host.forge(Read::Config(config::SIZE_MAX), 1024);
    for (block_size, expected) in [
        (16 << 10, "bench commands=1 ok"),
        (
            (16 << 10) + 512,
            "bench kind=21 FAILED: a chain of 17 buffers cannot be made available",
        ),
    ] {
        let command = with(reads(10, 4), |job| job.block_size = block_size);
        let (_, line) = outcome_of(&mut ram, &mut host, command);
        assert_eq!(line, expected);
    }
}

#[test]
fn a_job_that_cannot_be_done_is_told_by_its_reason_and_leaves_the_disk_alone() {
    let disk = disk();
    for (read_only, change, reason) in [
        (
            true,
            (|job| job.write = 1) as fn(&mut BlockJob),
            "the disk is read-only",
        ),
        (
            false,
            |job| (job.write, job.depth) = (1, 0),
            "the depth is not from 1 to 128",
        ),
        (
            false,
            |job| (job.write, job.sectors) = (1, SECTORS + 1),
            "lba=0 count=2049 is past the end of the disk: it has 2048 sectors",
        ),
        (
            false,
            |job| (job.depth, job.block_size) = (128, 1 << 20),
            "out of DMA memory: 134217728 bytes asked for, ",
        ),
    ] {
        let mut ram = Ram::new();
        let mut host = Host::new(&ram, &disk, Notify::Trap, read_only);
        let before = disk.bytes().clone();
        let (outcome, line) = outcome_of(&mut ram, &mut host, with(reads(10, 1), change));
        assert_eq!(outcome.status, outcome::FAILED);
        let expected = format!("bench kind=21 FAILED: {reason}");
        assert!(line.starts_with(&expected), "{line}");
        assert!(*disk.bytes() == before);
    }
    let (done, console) = perform(&mut Ram::new(), &mut [], vec![reads(1, 1)]);
    assert_eq!(done[0].0.status, outcome::FAILED);
    assert!(console.starts_with("bench kind=21 FAILED: there is no disk 0: disks=0\n"));
}

#[test]
fn each_command_finds_the_device_as_if_it_were_the_first() {
    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, &disk(), Notify::Trap, false)];
    let poll = |poll| with(reads(320, 32), |job| job.poll = poll);
    let (done, _) = perform(&mut ram, &mut hosts, vec![poll(0), poll(1), poll(0)]);
    for (outcome, _) in done {
        assert_eq!((outcome.interrupts, outcome.notifications), (0, 10));
    }
}

#[test]
fn several_queues_are_each_driven_by_a_cpu_of_its_own_with_its_share_of_the_requests() {
    for notify in [Notify::Trap, Notify::IoEventFd, Notify::Poll] {
        for (more, poll) in [(1, 0), (3, 0), (3, 1), (2, 0)] {
            let mut ram = Ram::new();
            let mut host = Host::with_queues(&ram, &disk(), (notify, 4), false);
            let command = with(reads(3001, 8), |job| {
                (job.random, job.poll, job.more_queues) = (1, poll, more);
            });
            let (done, console) = perform(&mut ram, std::slice::from_mut(&mut host), vec![command]);
            let (outcome, latencies) = &done[0];
            assert_eq!(outcome.status, outcome::DONE, "{console}");
            assert_eq!((outcome.iterations, latencies.len()), (3001, 3001));
            assert!(latencies.iter().all(|ticks| *ticks > 0));
            let longest = latencies.iter().copied().max().unwrap();
            assert!(u64::from(longest) <= outcome.ticks);
        }
    }
}

#[test]
fn several_queues_write_and_end_in_time_and_without_requests_they_are_only_made_ready() {
    let disk = disk();
    let mut ram = Ram::new();
    let mut hosts = [Host::with_queues(
        &ram,
        &disk,
        (Notify::IoEventFd, 4),
        false,
    )];
    let before = disk.bytes().clone();
    let command = with(reads(0, 8), |job| (job.write, job.more_queues) = (1, 3));
    let timed = Command {
        iterations: 100_000,
        ticks: 2_000_000,
        ..command
    };
    let (done, console) = perform(&mut ram, &mut hosts, vec![command]);
    assert_eq!(
        (done[0].0.status, done[0].0.iterations),
        (outcome::DONE, 0),
        "{console}"
    );
    assert!(*disk.bytes() == before);
    let (done, _) = perform(&mut ram, &mut hosts, vec![timed]);
    assert!((8..100_000).contains(&done[0].0.iterations), "{done:?}");
    assert!(*disk.bytes() != before);
}

#[test]
fn more_queues_than_the_disk_or_the_machine_has_are_told_from_what_fails() {
    for (queues, more, reason) in [
        (2, 2, "the disk has too few queues"),
        (8, 7, "there are fewer CPUs than queues"),
    ] {
        let mut ram = Ram::new();
        let mut host = Host::with_queues(&ram, &disk(), (Notify::Trap, queues), false);
        let command = with(reads(10, 1), |job| job.more_queues = more);
        let (outcome, line) = outcome_of(&mut ram, &mut host, command);
        assert_eq!(outcome.status, outcome::UNSUPPORTED);
        assert_eq!(line, format!("bench kind=21 UNSUPPORTED: {reason}"));
    }
}
