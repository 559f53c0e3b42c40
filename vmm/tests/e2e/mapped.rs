//! `registers=mapped`: a device whose registers are memory serves as one whose registers are trapped,
//! in every notify mode, and its reads and acknowledgements leave no exits.

use std::fs;

use libtest_mimic::Trial;
use serde_json::Value;
use spec::block::SECTOR_SIZE;

use crate::guests::{NOTIFY_MODES, disk, run_on, start_on};
use crate::harness::file;
use crate::linux::Script;
use crate::linux_disk::empty_image;
use crate::needs::Needs;
use crate::resize::set_sectors;
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
        test(
            "mapped_registers_leave_one_exit_for_a_request_where_one_cpu_is_trapped",
            one_exit,
        ),
        test(
            "mapped_registers_are_the_guests_to_write_where_one_cpu_is_trapped_alone",
            open,
        ),
        test(
            "mapped_registers_show_an_acknowledgement_to_a_guest_that_does_nothing_else",
            repeated,
        ),
        test("mapped_and_trapped_registers_go_together", disks),
        test("mapped_registers_can_be_traced", traced),
        test("mapped_registers_show_that_a_disk_is_resized", || {
            resize::is_seen(",registers=mapped");
        }),
        test(
            "mapped_registers_show_the_last_of_many_changes_of_size",
            many_sizes,
        ),
        own_kvm("mapped_registers_let_no_write_pass_the_new_end", || {
            resize::shrinks_under_load(&["trap"], ",registers=mapped");
        }),
        own_kvm("mapped_registers_survive_a_hostile_guest", || {
            hostile::survives(&["trap"], ",registers=mapped");
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
        crate::harness::test(
            "mapped_registers_that_linux_writes_to_show_it_that_its_disk_is_resized",
            Needs::Linux(&[]),
            linux_resized,
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
    report_of("run=verify lba=0 count=64 depth=4", options, "1")
}

/// The report of a workload on a disk of 1 MiB, with so many CPUs.
#[track_caller]
fn report_of(cmdline: &str, options: &str, cpus: &str) -> Value {
    let (_dir, path) = file("disk", &[0; 1 << 20]);
    let vmm = start_on(None, &[disk(&path, options)], cmdline);
    let ended = vmm
        .command(|command| _ = command.args(["--stats=json", "--cpus", cpus]))
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

/// Of a driver that is told of each used buffer: what a request more costs is its notification.
fn one_exit() {
    let exits = |count: u64| {
        let cmdline = format!("run=verify lba=0 count={count} depth=1 event_idx=off");
        let report = report_of(&cmdline, ",registers=mapped,notify=trap", "1");
        let acks = report["queues"][0]["mapped_acks"].as_u64().unwrap();
        let requests = report["queues"][0]["requests"].as_array().unwrap().iter();
        let requests: u64 = requests.map(|row| row["count"].as_u64().unwrap()).sum();
        // The last may come after it has been looked for.
        assert!(acks == requests || acks + 1 == requests, "{report}");
        let all = exits_at(&report, |_, _| true);
        let notified = exits_at(&report, |_, at| at == "QueueNotify");
        assert_eq!(notified, requests, "{report}");
        (all, requests)
    };
    let ((few, some), (more, others)) = (exits(80), exits(2000));
    assert!(others > some);
    assert_eq!(more - few, others - some);
}

/// SHMSel is in memory that the guest can write to, or its writes exit.
fn open() {
    for (options, cpus, is_open) in [
        (",registers=mapped,notify=trap", "1", true),
        (",registers=mapped,notify=trap,queues=4", "1", true),
        (",registers=mapped,notify=trap", "2", false),
        (",registers=mapped,notify=ioeventfd", "1", false),
        (",registers=mapped,notify=poll", "1", false),
        (",registers=trap,notify=trap", "1", false),
    ] {
        let report = report_of("run=hostile case=status-steps", options, cpus);
        let exits = exits_at(&report, |_, at| at == "SHMSel");
        assert_eq!(exits == 0, is_open, "{options}, --cpus {cpus}: {report}");
    }
}

fn repeated() {
    for notify in NOTIFY_MODES {
        let options = format!(",registers=mapped,notify={notify}");
        let report = report_of("run=hostile case=interrupt-ack-repeated", &options, "1");
        if notify == "trap" {
            let exits = exits_at(&report, |_, at| at == "InterruptACK");
            assert_eq!(exits, 0, "{report}");
        }
    }
}

fn traced() {
    let (_dir, path) = file("disk", &[0; 1 << 20]);
    let trace = path.with_extension("json");
    let ended = start_on(
        None,
        &[disk(&path, ",registers=mapped")],
        "run=verify lba=0 count=64",
    )
    .command(|command| _ = command.arg("--trace").arg(&trace))
    .spawn()
    .wait();
    assert_eq!(ended.code(), 0, "{ended:?}");
    let trace = fs::read_to_string(trace).unwrap();
    assert!(trace.contains("QueueNotify") && !trace.contains("InterruptACK"));
}

/// More changes than the driver can acknowledge one by one, and then one that is the last.
fn many_sizes() {
    for notify in ["trap", "ioeventfd"] {
        let (_dir, path) = empty_image(64 * SECTOR_SIZE);
        let disk = disk(&path, &format!(",registers=mapped,notify={notify}"));
        let mut running = start_on(None, &[disk], "run=watch count=1000").spawn();
        running.expect("watch capacity=64\n");
        for sectors in (65..100).chain([7777]) {
            set_sectors(&path, sectors);
            running.signal(libc::SIGHUP);
        }
        running.expect("watch capacity=7777\n");
        running.signal(libc::SIGTERM);
        assert_eq!(running.wait().code(), 128 + libc::SIGTERM);
    }
}

/// Acknowledgements to several devices wait in one ring, and those to another in its registers.
fn disks() {
    let files: Vec<_> = (0..4).map(|_| file("disk", &[0; 1 << 20])).collect();
    let options = [
        ",registers=mapped,notify=ioeventfd",
        ",registers=trap,notify=ioeventfd",
        ",registers=mapped,notify=poll",
        ",registers=mapped,notify=trap",
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

/// How often something is written and read, and by which cache.
const CHECK: &str = "check() {
        seq $1 200000 | head -c 1048576 > /tmp/in
        dd if=/tmp/in of=/dev/vda bs=64k oflag=direct 2>/dev/null
        dd if=/dev/vda bs=4k count=256 iflag=direct 2>/dev/null | cmp - /tmp/in
        echo $1 $(cat /sys/block/vda/serial) $(cat /sys/block/vda/cache_type)
    }
    mkdir -p /tmp
";

fn linux() {
    for notify in ["ioeventfd", "trap"] {
        let (_dir, path) = file("disk", &vec![0; 4 << 20]);
        let options = format!(",id=mapped,registers=mapped,notify={notify}");
        let linux = Script {
            disks: &[disk(&path, &options)],
            ..Script::default()
        };
        let printed = linux.succeed(&format!(
            "{CHECK}
            check 1
            echo write through > /sys/block/vda/cache_type
            check 2
            cd /sys/bus/virtio/drivers/virtio_blk
            echo virtio0 > unbind
            echo virtio0 > bind
            check 3"
        ));
        for line in [
            "1 mapped write back",
            "2 mapped write through",
            "3 mapped write back",
        ] {
            assert!(printed.contains(line), "no '{line}' in\n{printed}");
        }
        assert!(!printed.contains("nobody cared"), "{printed}");
    }
}

/// Twice, while it reads.
fn linux_resized() {
    let (_dir, path) = empty_image(4 << 20);
    let linux = Script {
        disks: &[disk(&path, ",id=mapped,registers=mapped,notify=trap")],
        ..Script::default()
    };
    let (_script, vmm) = linux.start(&format!(
        "{CHECK}
        read_until() {{
            until [ $(cat /sys/block/vda/size) = $1 ]; do
                dd if=/dev/vda of=/dev/null bs=4k count=256 iflag=direct 2>/dev/null
            done
        }}
        check 1
        echo READS
        read_until 16384
        check 2
        echo GROWN
        read_until 8192
        check 3
        poweroff -f"
    ));
    let mut running = vmm.spawn();
    for (told, sectors) in [("READS", 16384), ("GROWN", 8192)] {
        running.expect(told);
        set_sectors(&path, sectors);
        running.signal(libc::SIGHUP);
    }
    let ended = running.wait();
    let printed = String::from_utf8_lossy(&ended.stdout).replace('\r', "");
    assert!(printed.contains("3 mapped write back"), "{printed}");
    assert!(!printed.contains("nobody cared"), "{printed}");
}
