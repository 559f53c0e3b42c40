//! `--stats`: that what it counts is what the guest did, and that it is told whenever and however a
//! run ends.

use std::fs::File;
use std::io::Read;

use kvm_ioctls::VcpuExit;
use libtest_mimic::Trial;
use serde_json::Value;
use vm_memory::{Bytes, GuestAddress};
use vmm::kvm_stats::{KvmStats, KvmStatsError};
use vmm::{kvm, memory};

use crate::guests::{NOTIFY_MODES, disk, run_on, start_on};
use crate::harness::{Vmm, file, is_shortfall, pipe, run, wait_readable};
use crate::kernels;
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test(
            "stats_count_the_requests_and_notifications_of_a_guest",
            requests,
        ),
        test(
            "stats_show_that_an_ioeventfd_takes_notifications_out_of_the_exits",
            ioeventfd,
        ),
        test("stats_show_that_a_polled_guest_hardly_notifies", poll),
        test("stats_of_all_that_our_guest_can_do_add_up", selftest),
        test("stats_tell_one_disk_from_another", disks),
        test("stats_tell_addresses_without_a_device", unmapped),
        test("stats_of_each_vcpu_stand_beside_the_kernels", vcpus),
        test("stats_are_tables_if_no_format_is_asked_for", text),
        test(
            "stats_leave_stdout_to_the_guest_and_stderr_empty_if_not_asked_for",
            streams,
        ),
        test("stats_are_told_on_sigusr1_while_the_guest_runs", sigusr1),
        test(
            "stats_not_asked_for_leave_sigusr1_a_signal_that_ends_the_run",
            sigusr1_ends,
        ),
        test("stats_are_told_when_a_signal_ends_the_run", signal),
        test("stats_are_told_when_the_guest_crashes", crash),
        test(
            "stats_counters_of_this_machines_kvm_move_with_its_exits",
            kvm_counters,
        ),
        crate::harness::test(
            "stats_formats_that_do_not_exist_are_one_line_and_status_2",
            Needs::Nothing,
            unknown_format,
        ),
    ]
}

/// The report that is among the lines of `stderr`.
#[track_caller]
fn report(stderr: &str) -> Value {
    let line = stderr.lines().find(|line| line.starts_with('{'));
    let line = line.expect(stderr);
    serde_json::from_str(line).expect(line)
}

fn with_json(vmm: Vmm) -> Vmm {
    vmm.command(|command| _ = command.arg("--stats=json"))
}

/// Runs a workload of our guest on a disk of 1 MiB, and returns its report.
#[track_caller]
fn report_of(cmdline: &str, options: &str) -> Value {
    let (_dir, path) = file("disk", &[0x5a; 1 << 20]);
    let ended = with_json(start_on(None, &[disk(&path, options)], cmdline))
        .spawn()
        .wait();
    assert_eq!(ended.code(), 0, "{ended:?}");
    let report = report(&ended.stderr);
    assert_adds_up(&report);
    report
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("no number")
}

fn sum(values: &Value, field: &str) -> u64 {
    let values = values.as_array().unwrap().iter();
    values.map(|value| number(&value[field])).sum()
}

/// How many exits of a kind there were at a register of a device.
fn exits(report: &Value, exit: &str, register: &str) -> u64 {
    let rows = report["exits"].as_array().unwrap().iter();
    rows.filter(|row| row["exit"] == exit && row["register"] == register)
        .map(|row| number(&row["count"]))
        .sum()
}

/// How many requests of a type there were, and how many bytes they moved.
fn requests_of(report: &Value, kind: &str) -> (u64, u64) {
    let rows = report["queues"][0]["requests"].as_array().unwrap();
    let row = rows.iter().find(|row| row["type"] == kind);
    row.map_or((0, 0), |row| (number(&row["count"]), number(&row["bytes"])))
}

/// What holds for every report of a run that has ended.
#[track_caller]
fn assert_adds_up(report: &Value) {
    assert_eq!(
        sum(&report["exits"], "count"),
        sum(&report["vcpus"], "exits")
    );
    for queue in report["queues"].as_array().unwrap() {
        assert_eq!(sum(&queue["requests"], "count"), queue["all"]["count"]);
        let drains = queue["drains"].as_object().unwrap().values();
        let full = drains.map(number).sum::<u64>() - number(&queue["empty_drains"]);
        let told = number(&queue["interrupts_sent"]) + number(&queue["interrupts_suppressed"]);
        assert_eq!(told, full, "{queue}");
    }
}

fn requests() {
    let report = report_of("run=read lba=0 count=8", "");
    assert_eq!(requests_of(&report, "IN"), (1, 4096));
    assert_eq!(requests_of(&report, "OUT"), (0, 0));

    let report = report_of("run=verify lba=0 count=256 seed=1 depth=4", "");
    let (reads, writes) = (requests_of(&report, "IN"), requests_of(&report, "OUT"));
    assert_eq!(reads, writes);
    assert_eq!(reads.1, 256 * 512);
    assert_eq!(requests_of(&report, "FLUSH"), (1, 0));

    let drains = &report["queues"][0]["drains"];
    let notifies = exits(&report, "mmio write", "QueueNotify");
    assert!(notifies > 0);
    assert_eq!(drains["trap"], notifies);
    assert_eq!(drains["activation"], 1);
    assert_eq!(
        (&drains["eventfd"], &drains["poll"]),
        (&0.into(), &0.into())
    );
}

fn ioeventfd() {
    for notify in ["ioeventfd", "ioeventfd-datamatch"] {
        let report = report_of(
            "run=verify lba=0 count=64 seed=1 depth=8",
            &format!(",notify={notify}"),
        );
        assert_eq!(exits(&report, "mmio write", "QueueNotify"), 0);
        let drains = &report["queues"][0]["drains"];
        assert_eq!(drains["trap"], 0);
        assert_eq!(drains["activation"], 1);
        assert!(number(&drains["eventfd"]) > 0);
        assert_eq!(requests_of(&report, "IN").1, 64 * 512);
    }
}

/// How many notifications wake a thread that has gone to sleep depends on what else the host does.
fn poll() {
    let (_dir, path) = file("disk", &vec![0; 32 << 20]);
    let vmm = start_on(None, &[disk(&path, ",notify=poll")], "run=fill count=65536");
    let ended = with_json(vmm).spawn().wait();
    let report = report(&ended.stderr);
    assert_eq!(exits(&report, "mmio write", "QueueNotify"), 0);
    assert_eq!(requests_of(&report, "OUT").1, 65536 * 512);
    let drains = &report["queues"][0]["drains"];
    assert!(number(&drains["poll"]) > 0, "{report}");
}

fn selftest() {
    for notify in NOTIFY_MODES {
        let report = report_of("run=selftest", &format!(",notify={notify}"));
        for kind in [
            "IN",
            "OUT",
            "FLUSH",
            "GET_ID",
            "DISCARD",
            "WRITE_ZEROES",
            "unsupported",
            "refused",
        ] {
            let (count, _) = requests_of(&report, kind);
            assert!(count > 0, "no {kind} in {report}");
        }
    }
}

fn disks() {
    let (_dir, path) = file("disk", &[0; 4096]);
    let (_other_dir, other) = file("other", &[0; 4096]);
    let disks = [disk(&path, ""), disk(&other, ",id=main,notify=ioeventfd")];
    let vmm = start_on(None, &disks, "run=read disk=1 lba=0 count=8");
    let ended = with_json(vmm).spawn().wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let report = report(&ended.stderr);
    let names = ["virtio-blk 0 (disk0)", "virtio-blk 1 (main)"];
    for (index, (name, count)) in names.into_iter().zip([0, 1]).enumerate() {
        assert_eq!(report["queues"][index]["device"], name);
        assert_eq!(report["queues"][index]["all"]["count"], count);
    }
    let rows = report["exits"].as_array().unwrap().iter();
    let acknowledged = rows.filter(|row| row["register"] == "InterruptACK");
    let devices: Vec<&Value> = acknowledged.map(|row| &row["device"]).collect();
    assert_eq!(devices, [names[1]]);
}

/// Reads port 0x70 and writes port 0x80, where there are no devices, and ends with 0.
const UNMAPPED: &[u8] = &[
    0xe4, 0x70, // in al, 0x70
    0xe6, 0x80, // out 0x80, al
    0xe6, 0x80, // out 0x80, al
    0x31, 0xc0, // xor eax, eax
    0xe6, 0xf4, // out 0xf4, al
];

fn unmapped() {
    let ended = with_json(Vmm::with_kernel(UNMAPPED)).spawn().wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let report = report(&ended.stderr);
    let mut rows: Vec<_> = (report["exits"].as_array().unwrap().iter())
        .map(|row| {
            let words = ["exit", "device", "register"].map(|field| row[field].as_str());
            (words, number(&row["address"]), number(&row["count"]))
        })
        .collect();
    rows.sort();
    assert_eq!(
        rows,
        [
            ([Some("pio in"), None, None], 0x70, 1),
            ([Some("pio out"), None, None], 0x80, 2),
            ([Some("pio out"), Some("debug-exit"), Some("+0x0")], 0xf4, 1),
        ]
    );
}

fn vcpus() {
    let ended = with_json(start_on(None, &[], "run=info"))
        .command(|command| _ = command.args(["--cpus", "3"]))
        .spawn()
        .wait();
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    let report = report(&ended.stderr);
    assert_adds_up(&report);
    let vcpus = report["vcpus"].as_array().unwrap();
    assert_eq!(vcpus.len(), 3);
    for vcpu in vcpus {
        let (Value::Object(counters), None) = (&vcpu["kvm"], vcpu.get("kvm_error")) else {
            assert_eq!(vcpu["kvm"], Value::Null);
            assert!(vcpu["kvm_error"].as_str().unwrap().contains("KVM"));
            continue;
        };
        // A signal can send KVM_RUN back before the guest was entered.
        let signals = number(&counters["signal_exits"]);
        assert!(number(&counters["exits"]) + signals >= number(&vcpu["exits"]));
    }
}

fn text() {
    let (_dir, path) = file("disk", &[0; 4096]);
    let vmm = start_on(None, &[disk(&path, ",id=main")], "run=read lba=0 count=8");
    let ended = vmm.command(|command| _ = command.arg("--stats"));
    let ended = ended.spawn().wait();
    assert_eq!(ended.code(), 0);
    let lines: Vec<Vec<&str>> = (ended.stderr.lines())
        .map(|line| line.split_whitespace().collect())
        .collect();
    for words in [
        &["vmm:", "statistics", "of"][..],
        &[
            "mmio",
            "write",
            "virtio-blk",
            "0",
            "(main)",
            "QueueNotify",
            "1",
        ],
        &["IN", "1", "0", "4096"],
        &["interrupts:", "1", "sent,", "0", "suppressed"],
        &["exits", "to", "user", "space"],
    ] {
        let found = lines.iter().any(|line| line.starts_with(words));
        assert!(found, "no {words:?} in\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains('\x1b'));
}

fn streams() {
    let without = run_on(None, &[], "run=info");
    assert_eq!((without.code(), without.stderr.as_str()), (0, ""));
    let with = with_json(start_on(None, &[], "run=info")).spawn().wait();
    assert_eq!(with.stdout, without.stdout);
    assert_eq!(with.stderr.lines().count(), 1, "{}", with.stderr);
}

/// The report that comes next from `stderr`.
#[track_caller]
fn next_report(stderr: &mut File) -> Value {
    loop {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            assert!(wait_readable(stderr) && stderr.read(&mut byte).unwrap() == 1);
            line.push(byte[0]);
        }
        let line = String::from_utf8(line).unwrap();
        if !is_shortfall(&line) {
            return serde_json::from_str(&line).unwrap();
        }
    }
}

fn sigusr1() {
    for (kernel, first) in [
        (kernels::READY_AND_HALT, "R"),
        (kernels::READY_AND_SPIN, "R"),
        (kernels::FLOOD, "."),
    ] {
        let (mut stderr, writer) = pipe();
        let vmm = with_json(Vmm::with_kernel(kernel));
        let mut vmm = vmm.command(|command| _ = command.stderr(writer)).spawn();
        vmm.expect(first);
        let mut last = 0.0;
        for _ in 0..2 {
            vmm.signal(libc::SIGUSR1);
            let report = next_report(&mut stderr);
            // The guest goes on, whatever it does.
            let seconds = report["seconds"].as_f64().unwrap();
            assert!(seconds > last, "{report}");
            last = seconds;
        }
        vmm.signal(libc::SIGTERM);
        let ended = vmm.wait();
        assert_eq!(ended.code(), 128 + libc::SIGTERM);
        let report = next_report(&mut stderr);
        assert_adds_up(&report);
        assert!(exits(&report, "pio out", "+0x0") > 0);
    }
}

fn sigusr1_ends() {
    let mut vmm = Vmm::with_kernel(kernels::READY_AND_HALT).spawn();
    vmm.expect("R");
    vmm.signal(libc::SIGUSR1);
    let ended = vmm.wait();
    assert_eq!(
        (ended.code(), ended.stderr.as_str()),
        (128 + libc::SIGUSR1, "")
    );
}

fn signal() {
    let mut vmm = with_json(Vmm::with_kernel(kernels::READY_AND_HALT)).spawn();
    vmm.expect("R");
    vmm.signal(libc::SIGINT);
    let ended = vmm.wait();
    assert_eq!(ended.code(), 128 + libc::SIGINT);
    let report = report(&ended.stderr);
    assert_eq!(exits(&report, "pio out", "+0x0"), 1);
    assert_adds_up(&report);
}

fn crash() {
    let ended = with_json(Vmm::with_kernel(kernels::CRASH)).spawn().wait();
    assert_eq!(ended.code(), 126);
    let report = report(&ended.stderr);
    assert_eq!(report["exits"][0]["exit"], "shutdown");
    assert_eq!(report["exits"][0]["count"], 1);
    let (_, rest) = ended.stderr.split_once('\n').unwrap();
    assert!(
        rest.starts_with("vmm: the guest crashed on vCPU 0"),
        "{rest}"
    );
}

fn kvm_counters() {
    let ram = memory::allocate(2 << 20).unwrap();
    // Two writes to port 0x10, from real mode.
    let code = [0xe6, 0x10, 0xe6, 0x10];
    ram.write_slice(&code, GuestAddress(0x1000)).unwrap();
    let kvm = kvm::open().unwrap();
    let vm = kvm::create_vm(&kvm, &ram, &[]).unwrap();
    let mut vcpu = vm.create_vcpu(0).unwrap();
    let stats = match KvmStats::open(&vcpu) {
        // Linux before 5.14: then it is said, and that is all.
        Err(KvmStatsError::Missing) => return,
        opened => opened.unwrap(),
    };
    let mut sregs = vcpu.get_sregs().unwrap();
    (sregs.cs.base, sregs.cs.selector) = (0, 0);
    vcpu.set_sregs(&sregs).unwrap();
    let mut regs = vcpu.get_regs().unwrap();
    regs.rip = 0x1000;
    vcpu.set_regs(&regs).unwrap();

    let exits = |stats: &KvmStats| {
        let counters = stats.read().unwrap();
        let find = |name| counters.iter().find(|(known, _)| known == name);
        find("exits").expect("no counter of exits").1
    };
    let before = exits(&stats);
    for _ in 0..2 {
        assert!(matches!(vcpu.run().unwrap(), VcpuExit::IoOut(0x10, _)));
    }
    assert!(exits(&stats) >= before + 2);
}

fn unknown_format() {
    for args in [&["--stats=xml"][..], &["--stats="], &["--stats", "json"]] {
        let ended = run(args);
        assert_eq!(ended.code(), 2, "{args:?}");
        assert!(ended.message().ends_with("(see 'vmm --help')"));
    }
    let ended = run(["--stats=xml"]);
    assert!(ended.message().contains("'xml' for '--stats"), "{ended:?}");
}
