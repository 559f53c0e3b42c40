//! Disks whose data is moved by io_uring; where there is none, by system calls as well; and which of
//! the two is chosen by itself.

use std::fs;
use std::path::Path;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::direct::has_direct_io;
use crate::guests::{NOTIFY_MODES, disk, start_on};
use crate::harness::{Ended, file};
use crate::needs::Needs;
use crate::sandbox::fail_calls;
use crate::{hostile, hostile_smp};

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::KvmAndIoUring, body);
    let own_kvm = |name, body| crate::harness::test(name, Needs::OwnKvmAndIoUring, body);
    let plain = |name, body| crate::harness::test(name, Needs::OwnKvm, body);
    vec![
        test("engine_io_uring_moves_data_in_every_notify_mode", verify),
        own_kvm("engine_io_uring_serves_every_kind_of_request", selftest),
        own_kvm(
            "engine_io_uring_keeps_an_image_that_is_only_read",
            read_only,
        ),
        own_kvm("engine_io_uring_stops_in_the_middle_of_io", || {
            crate::disk::stops_during_io(",engine=io_uring");
            crate::disk::stops_during_io(",engine=io_uring,sqpoll=on");
        }),
        own_kvm("engine_io_uring_survives_a_hostile_guest", || {
            hostile::survives(&hostile::SERVED_BY_EITHER, ",engine=io_uring");
        }),
        own_kvm(
            "engine_io_uring_survives_cpus_that_reset_a_disk_in_use",
            || {
                hostile_smp::survives_resets(",engine=io_uring");
                hostile_smp::survives_resets(",engine=io_uring,sqpoll=on");
            },
        ),
        plain(
            "engine_io_uring_that_is_forbidden_is_told_of_in_a_line_and_done_without",
            forbidden,
        ),
        plain("engine_auto_leaves_a_cached_image_to_system_calls", cached),
        own_kvm("engine_auto_says_what_it_has_chosen_and_has_that", auto),
    ]
}

/// Runs the guest on these disks, with statistics: the lines on stderr but for these, and the engine
/// of each queue.
#[track_caller]
fn run(disks: &[String], cmdline: &str, forbids: Option<i32>) -> (Ended, Vec<String>, Vec<String>) {
    let start = start_on(None, disks, cmdline).command(|command| {
        command.arg("--stats=json");
        if let Some(error) = forbids {
            let rules = [(libc::SYS_io_uring_setup, Vec::new())].into();
            fail_calls(command, rules, error);
        }
    });
    let ended = start.spawn().wait();
    let (stats, said): (Vec<_>, Vec<_>) =
        ended.stderr.lines().partition(|line| line.starts_with('{'));
    let stats = stats.first().unwrap_or_else(|| panic!("{ended:?}"));
    let stats: Value = serde_json::from_str(stats).unwrap();
    let queues = stats["queues"].as_array().unwrap();
    let engine = |queue: &Value| queue["engine"].as_str().unwrap().to_owned();
    let engines = queues.iter().map(engine).collect();
    let said = said.into_iter().map(str::to_owned).collect();
    (ended, said, engines)
}

/// Where I/O is direct, and where it is not.
fn ways(path: &Path) -> Vec<&'static str> {
    let direct = has_direct_io(path).then_some(",direct=on");
    [""].into_iter().chain(direct).collect()
}

fn verify() {
    for notify in NOTIFY_MODES {
        let (_dir, path) = file("disk.img", &vec![0; 1 << 20]);
        for way in ways(&path) {
            let more = match way {
                "" => ["", ",queues=4,sqpoll=on"],
                _ => [",sqpoll=on", ",queues=4,cache=writethrough"],
            };
            for more in more {
                let options = format!(",notify={notify},engine=io_uring{way}{more}");
                let disks = [disk(&path, &options)];
                let verify = "run=verify count=512 depth=32";
                let (ended, said, engines) = run(&disks, verify, None);
                ended.assert_ok("verify lba=0 count=512 seed=1 depth=32 ok");
                assert_eq!(said, [""; 0], "{options}");
                assert!(
                    engines.iter().all(|engine| engine == "io_uring"),
                    "{engines:?}"
                );
            }
        }
        // And what is on it is in the image.
        let disks = [disk(&path, &format!(",notify={notify},engine=io_uring"))];
        let (ended, _, _) = run(&disks, "run=fill lba=3 count=7 byte=0x5a", None);
        ended.assert_ok("fill lba=3 count=7 byte=0x5a ok");
        let image = fs::read(&path).unwrap();
        assert_eq!(image[3 * 512..10 * 512], [0x5a; 7 * 512]);
    }
}

fn selftest() {
    for notify in NOTIFY_MODES {
        let (_dir, path) = file("disk.img", &vec![0; 1 << 20]);
        // Whether I/O is direct makes no difference to who is told of what.
        let ways = match notify {
            "ioeventfd" => ways(&path),
            _ => vec![""],
        };
        for way in ways {
            let options = format!(",notify={notify},engine=io_uring{way}");
            let (ended, _, engines) = run(&[disk(&path, &options)], "run=selftest", None);
            ended.assert_ok("selftest cases=87 ok");
            assert_eq!(engines, ["io_uring"]);
        }
    }
}

fn read_only() {
    let content: Vec<u8> = (0..1 << 16).map(|at: u32| (at / 512) as u8).collect();
    let (_dir, path) = file("disk.img", &content);
    let disks = [disk(&path, ",readonly=on,engine=io_uring")];
    let (ended, _, engines) = run(&disks, "run=read lba=5 count=1", None);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stdout).contains("05 05 05 05"));
    assert_eq!(engines, ["io_uring"]);
    let (ended, _, _) = run(&disks, "run=fill lba=5 count=1 byte=7", None);
    assert_ne!(ended.code(), 0, "{ended:?}");
    assert!(fs::read(&path).unwrap() == content);
}

fn forbidden() {
    let (_dir, path) = file("disk.img", &vec![0; 1 << 20]);
    let (_other, other) = file("other.img", &vec![0; 1 << 20]);
    for (error, reason) in [
        (
            libc::EPERM,
            "io_uring is forbidden here (by seccomp, or by sysctl kernel.io_uring_disabled)",
        ),
        (libc::ENOSYS, "the kernel has no io_uring"),
        (
            libc::ENOMEM,
            "there is not enough memory that it may lock (see ulimit -l)",
        ),
    ] {
        let disks = [
            disk(&other, ""),
            disk(
                &path,
                ",id=scratch,engine=io_uring,queues=2,notify=ioeventfd",
            ),
        ];
        let verify = "run=verify disk=1 count=64";
        let (ended, said, engines) = run(&disks, verify, Some(error));
        ended.assert_ok("verify lba=0 count=64 seed=1 depth=8 ok");
        let line =
            format!("vmm: warning: disk 'scratch': engine=sync in place of io_uring: {reason}");
        assert_eq!(said, [line]);
        assert_eq!(engines, ["sync"; 3]);
    }
}

/// What engine=auto says of the disk 'disk0', without the time that a read took: the engine, and why.
#[track_caller]
fn chosen(said: &[String]) -> (&str, &str) {
    let [line] = said else {
        panic!("{said:?}");
    };
    let choice = line.strip_prefix("vmm: disk 'disk0': engine=auto chose ");
    let (engine, reason) = choice.expect(line).split_once(": ").expect(line);
    let (time, why) = reason.split_once(", ").expect(line);
    assert!(time.contains(" reads of 4 KiB took "), "{line}");
    (engine, why)
}

fn cached() {
    let (_dir, path) = file("disk.img", &vec![7; 1 << 20]);
    // A busy machine may make memory seem slow.
    let prompt = (0..5).any(|_| {
        let disks = [disk(&path, ",engine=auto,notify=poll")];
        let (ended, said, engines) = run(&disks, "run=verify count=64", None);
        ended.assert_ok("verify lba=0 count=64 seed=1 depth=8 ok");
        let (engine, why) = chosen(&said);
        assert_eq!(engines, [engine]);
        (engine, why) == ("sync", "as from the host's memory")
    });
    assert!(prompt);
}

fn auto() {
    let (_dir, path) = file("disk.img", &vec![7; 1 << 20]);
    for way in ways(&path) {
        for more in ["", ",sqpoll=on,queues=2", ",readonly=on"] {
            let disks = [disk(&path, &format!(",engine=auto{way}{more}"))];
            let (ended, said, engines) = run(&disks, "run=read lba=0 count=64", None);
            assert_eq!(ended.code(), 0, "{ended:?}");
            let (engine, why) = chosen(&said);
            let expected = match engine {
                "sync" => "as from the host's memory",
                _ => "which are waited for",
            };
            assert_eq!(why, expected);
            assert!(engines.iter().all(|found| found == engine), "{engines:?}");
        }
    }
}
