//! Disks that may be used no faster than `throttle=` says.

use std::fs;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;

use crate::guests::{NOTIFY_MODES, disk, start_on};
use crate::harness::wait_until;
use crate::linux_disk::empty_image;
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::OwnKvm, body);
    vec![
        test("throttle_holds_a_guest_back_in_every_notify_mode", slow),
        test("throttle_keeps_no_machine_from_stopping", stop),
        test("throttle_of_one_disk_is_none_of_another", another),
        test(
            "throttle_stalls_no_vcpu_and_no_other_disk_where_threads_serve_them",
            beside,
        ),
    ]
}

fn slow() {
    for notify in NOTIFY_MODES {
        let (_dir, path) = empty_image(1 << 20);
        // 16 requests of 64 KiB each.
        for (limit, least) in [("iops:40", 325), ("iops:1k+bps:2M", 400)] {
            let disks = [disk(&path, &format!(",notify={notify},throttle={limit}"))];
            let start = Instant::now();
            let ended = start_on(None, &disks, "run=fill count=2048").spawn().wait();
            ended.assert_ok("fill lba=0 count=2048 byte=0x00 ok");
            let took = start.elapsed();
            assert!(took >= Duration::from_millis(least), "{limit}: {took:?}");
        }
    }
}

/// The guest waits for what it may have in hours.
fn stop() {
    for notify in NOTIFY_MODES {
        let (_dir, path) = empty_image(1 << 20);
        let disks = [disk(&path, &format!(",notify={notify},throttle=bps:1"))];
        let running = start_on(None, &disks, "run=fill count=2048 byte=0x5a").spawn();
        wait_until("the guest has written", || {
            fs::read(&path).unwrap()[..512] == [0x5a; 512]
        });
        let start = Instant::now();
        running.signal(libc::SIGTERM);
        let ended = running.wait();
        assert_eq!(ended.code(), 128 + libc::SIGTERM, "{notify}: {ended:?}");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(20), "{notify}: {took:?}");
    }
}

fn another() {
    for notify in NOTIFY_MODES {
        let (_dir, slow) = empty_image(1 << 20);
        let (_dir2, free) = empty_image(1 << 20);
        let disks = [
            disk(&slow, &format!(",notify={notify},throttle=bps:1")),
            disk(&free, &format!(",notify={notify}")),
        ];
        let ended = start_on(None, &disks, "run=verify disk=1 count=2048").spawn();
        ended
            .wait()
            .assert_ok("verify lba=0 count=2048 seed=1 depth=8 ok");
    }
}

/// The guest makes requests that take for ever, and uses another disk, ports and its clock meanwhile.
fn beside() {
    for notify in ["ioeventfd", "ioeventfd-datamatch", "poll"] {
        for registers in ["trap", "mapped"] {
            let images = [(); 2].map(|()| empty_image(1 << 20));
            let options = format!(",notify={notify},registers={registers}");
            let disks = [
                disk(&images[0].1, &format!("{options},queues=2,throttle=bps:1")),
                disk(&images[1].1, &options),
            ];
            let ended = start_on(None, &disks, "run=stalled rounds=300")
                .command(|command| _ = command.arg("--stats=json"))
                .spawn()
                .wait();
            ended.assert_ok("stalled disk=0 beside=1 rounds=300 ok");
            let line = ended.stderr.lines().find(|line| line.starts_with('{'));
            let report: Value = serde_json::from_str(line.expect(&ended.stderr)).unwrap();
            let served = |queue: usize| report["queues"][queue]["all"]["count"].as_u64().unwrap();
            // The first may go at once, and the limit holds back all that come after it.
            assert_eq!([0, 1, 2].map(served), [1, 0, 300], "{report}");
        }
    }
}
