//! `registers=mapped`: a device whose registers are memory serves as one whose registers are trapped,
//! in every notify mode, and its reads and acknowledgements leave no exits.

use std::fs;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::guests::{NOTIFY_MODES, disk, run_on, start_on};
use crate::harness::file;
use crate::linux::Script;
use crate::needs::Needs;
use crate::{hostile, hostile_smp, resize};

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    // Slow in the lab, and the same but for the registers.
    let own_kvm = |name, body| crate::harness::test(name, Needs::OwnKvm, body);
    vec![
        test("mapped_registers_serve_all_that_our_guest_can_do", selftest),
        test(
            "mapped_registers_are_read_and_acknowledged_without_exits",
            exits,
        ),
        test("mapped_and_trapped_registers_go_together", disks),
        test("mapped_registers_show_that_a_disk_is_resized", || {
            resize::is_seen(",registers=mapped");
        }),
        own_kvm("mapped_registers_survive_a_hostile_guest", || {
            hostile::survives(&NOTIFY_MODES, ",registers=mapped,queues=4");
        }),
        own_kvm(
            "mapped_registers_survive_cpus_that_reset_a_device_in_use",
            || {
                hostile_smp::survives_resets(",registers=mapped,queues=4");
            },
        ),
        crate::harness::test(
            "mapped_registers_serve_linux_before_and_after_it_lets_the_device_go",
            Needs::Linux(&[]),
            linux,
        ),
    ]
}

fn selftest() {
    for notify in NOTIFY_MODES {
        let (_dir, path) = file("disk", &[0; 1 << 20]);
        let disk = disk(&path, &format!(",registers=mapped,notify={notify}"));
        let ended = run_on(None, &[disk], "run=selftest");
        ended.assert_ok("selftest cases=87 ok");
    }
}

/// The report of a guest that reads and writes 64 sectors, four requests at a time.
#[track_caller]
fn report(options: &str) -> Value {
    let (_dir, path) = file("disk", &[0; 1 << 20]);
    let vmm = start_on(
        None,
        &[disk(&path, options)],
        "run=verify lba=0 count=64 depth=4",
    );
    let ended = vmm
        .command(|command| _ = command.arg("--stats=json"))
        .spawn()
        .wait();
    assert_eq!(ended.code(), 0, "{ended:?}");
    let line = ended.stderr.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(line.expect(&ended.stderr)).unwrap()
}

/// How many exits there were at registers of the disk that `is_meant`.
fn exits_at(report: &Value, is_meant: impl Fn(&str, &str) -> bool) -> u64 {
    let rows = report["exits"].as_array().unwrap().iter();
    let at_register = rows.filter(|row| {
        let (exit, register) = (row["exit"].as_str(), row["register"].as_str());
        row["device"] == "virtio-blk 0 (disk0)" && is_meant(exit.unwrap(), register.unwrap())
    });
    at_register.map(|row| row["count"].as_u64().unwrap()).sum()
}

fn exits() {
    for notify in NOTIFY_MODES {
        let report = report(&format!(",registers=mapped,notify={notify}"));
        assert_eq!(
            exits_at(&report, |exit, _| exit == "mmio read"),
            0,
            "{report}"
        );
        assert_eq!(
            exits_at(&report, |_, at| at == "InterruptACK"),
            0,
            "{report}"
        );
        let notified = exits_at(&report, |_, at| at == "QueueNotify");
        assert_eq!(notified > 0, notify == "trap", "{report}");
        let queue = &report["queues"][0];
        let (acks, sent) = (&queue["mapped_acks"], &queue["interrupts_sent"]);
        let (acks, sent) = (acks.as_u64().unwrap(), sent.as_u64().unwrap());
        // Edges that come close together are one interrupt; the last may never be handled.
        assert!(0 < acks && acks <= sent, "{report}");
        assert_eq!(queue["register_exits"], exits_at(&report, |_, _| true));
    }
    let trapped = report(",registers=trap");
    assert!(
        exits_at(&trapped, |exit, _| exit == "mmio read") > 0,
        "{trapped}"
    );
    assert!(
        exits_at(&trapped, |_, at| at == "InterruptACK") > 0,
        "{trapped}"
    );
    assert_eq!(trapped["queues"][0].get("mapped_acks"), None);
}

/// Acknowledgements to several devices wait in one ring.
fn disks() {
    let files: Vec<_> = (0..3).map(|_| file("disk", &[0; 1 << 20])).collect();
    let options = [
        ",registers=mapped,notify=ioeventfd",
        ",registers=trap,notify=ioeventfd",
        ",registers=mapped,notify=poll",
    ];
    let named = files.iter().zip(options);
    let disks: Vec<String> = named
        .map(|((_, path), options)| disk(path, options))
        .collect();
    for (number, (_, path)) in files.iter().enumerate() {
        let ended = run_on(
            None,
            &disks,
            &format!("run=verify disk={number} lba=0 count=256 seed=7 depth=8"),
        );
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(fs::read(path).unwrap()[..256 * 512] != [0; 256 * 512]);
    }
}

fn linux() {
    let (_dir, path) = file("disk", &vec![0; 4 << 20]);
    let linux = Script {
        disks: &[disk(&path, ",id=mapped,registers=mapped,notify=ioeventfd")],
        ..Script::default()
    };
    let printed = linux.succeed(
        "check() {
            seq $1 200000 | head -c 1048576 > /tmp/in
            dd if=/tmp/in of=/dev/vda bs=64k oflag=direct 2>/dev/null
            dd if=/dev/vda bs=4k count=256 iflag=direct 2>/dev/null | cmp - /tmp/in
            echo $1 $(cat /sys/block/vda/serial) $(cat /sys/block/vda/cache_type)
        }
        mkdir -p /tmp
        check 1
        echo write through > /sys/block/vda/cache_type
        check 2
        cd /sys/bus/virtio/drivers/virtio_blk
        echo virtio0 > unbind
        echo virtio0 > bind
        check 3",
    );
    for line in [
        "1 mapped write back",
        "2 mapped write through",
        "3 mapped write back",
    ] {
        assert!(printed.contains(line), "no '{line}' in\n{printed}");
    }
    assert!(!printed.contains("nobody cared"), "{printed}");
}
