//! `vmm bench`: what it refuses, what it keeps in files, and that all of it can be measured here.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use libtest_mimic::Trial;
use rustix::process::Resource;
use vmm::bench::files;
use vmm::bench::report::{
    ExitCost, ExitCounts, ExitKind, Exits, FORMAT, Handled, Host, Report, Series,
};
use vmm::output;

use crate::harness::{Vmm, run};
use crate::needs::Needs;
use crate::pty::Pty;

pub fn tests() -> Vec<Trial> {
    let test = crate::harness::test;
    vec![
        test(
            "bench_a_wrong_command_line_is_one_line_and_status_2",
            Needs::Nothing,
            wrong_command_line,
        ),
        test(
            "bench_a_file_that_cannot_be_written_is_named_before_anything_is_measured",
            Needs::Nothing,
            unwritable,
        ),
        test(
            "bench_reports_are_compared_figure_by_figure",
            Needs::Nothing,
            compared,
        ),
        test(
            "bench_what_is_no_report_cannot_be_compared",
            Needs::Nothing,
            not_compared,
        ),
        test(
            "bench_figures_of_a_linux_guest_that_cannot_be_read_are_told_before_anything_is_measured",
            Needs::Nothing,
            no_linux,
        ),
        test(
            "bench_everything_is_measured_and_kept_in_every_form",
            Needs::Kvm,
            everything,
        ),
        test(
            "bench_a_terminal_shows_how_far_it_has_come",
            Needs::Kvm,
            progress,
        ),
        test(
            "bench_that_is_interrupted_leaves_nothing_on_the_terminal",
            Needs::Kvm,
            interrupted,
        ),
        test(
            "bench_blk_without_room_for_its_file_says_so_before_it_writes",
            Needs::Nothing,
            no_room,
        ),
        test(
            "bench_blk_measures_what_it_is_asked_for",
            Needs::Kvm,
            block_io,
        ),
    ]
}

fn wrong_command_line() {
    for (args, part) in [
        (&["frob"][..], "'frob'"),
        (&["exits", "--bs", "4K"], "'--bs'"),
        (&["blk", "--depth", "1000"], "--depth"),
        (&["blk", "--queues", "3", "--cpus", "2"], "--queues"),
        (&["compare", "a.json"], "<B.json>"),
    ] {
        let ended = run(["bench"].iter().chain(args));
        assert_eq!(ended.code(), 2, "{args:?}");
        assert!(ended.message().contains(part), "{}", ended.stderr);
        assert!(ended.message().ends_with("(see 'vmm bench --help')"));
    }
}

fn unwritable() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("none").join("report");
    for option in ["--json", "--csv", "--html"] {
        let ended = run(["bench".as_ref(), option.as_ref(), place.as_os_str()]);
        assert_eq!(ended.code(), 125);
        let start = format!("cannot write {}: No such file", place.display());
        assert!(ended.message().starts_with(&start), "{}", ended.stderr);
        assert_eq!(ended.stdout, b"");
    }
}

/// Keeps a report in `path` in which a write takes `ns`.
fn keep(path: &Path, ns: f64) {
    let series = |ns: f64| Series::new((0..20).map(|i| ns + f64::from(i % 5)).collect());
    let report = Report {
        format: FORMAT,
        host: Host::default(),
        warnings: vec![],
        exits: Some(Exits {
            tsc_khz: 2_000_000,
            tsc_khz_by_clock: 2_000_000,
            kinds: vec![ExitKind {
                name: "mmio write".into(),
                method: String::new(),
                handled: Handled::User,
                cost: Ok(ExitCost {
                    per_sample: 1000,
                    vmm: series(ns),
                    floor: series(900.0),
                    with_stats: series(1100.0),
                    cpu: series(1000.0),
                    exits: ExitCounts {
                        vmm: 1.0,
                        kernel_to_user: None,
                        kernel: None,
                    },
                }),
            }],
        }),
        block: None,
        linux: None,
        start: None,
        targets: vec![],
    };
    output::write(path, &output::json(&report).unwrap()).unwrap();
}

fn compared() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.json"), dir.path().join("b.json"));
    keep(&a, 1000.0);
    keep(&b, 1200.0);
    let compare = |a: &Path, b: &Path| {
        let args = [
            "bench".as_ref(),
            "compare".as_ref(),
            a.as_os_str(),
            b.as_os_str(),
        ];
        let ended = run(args);
        assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
        String::from_utf8(ended.stdout).unwrap()
    };
    let text = compare(&a, &b);
    assert!(
        text.contains("+20.0 %") && text.contains("HIGHER"),
        "{text}"
    );
    assert!(
        text.contains("6 figures: 4 same, 2 higher in B, 0 lower in B"),
        "{text}"
    );
    assert!(compare(&b, &a).contains("0 higher in B, 2 lower in B"));
    assert!(compare(&a, &a).contains("6 figures: 6 same"));
    assert_eq!(compare(&a, &b), text);
}

fn not_compared() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    keep(&path("good"), 1000.0);
    fs::write(path("garbage"), b"\x00\xff{").unwrap();
    fs::write(path("future"), br#"{"format": 1000000}"#).unwrap();
    fs::create_dir(path("dir")).unwrap();
    for (name, part) in [
        ("garbage", "holds no report"),
        ("future", "is a report of format 1000000"),
        ("missing", "cannot read"),
        ("dir", "cannot read"),
    ] {
        let (good, bad) = (path("good"), path(name));
        let args = [
            "bench".as_ref(),
            "compare".as_ref(),
            good.as_os_str(),
            bad.as_os_str(),
        ];
        let ended = run(args);
        assert_eq!(ended.code(), 125, "{name}");
        assert!(ended.message().contains(part), "{}", ended.stderr);
        assert!(
            ended.message().contains(bad.to_str().unwrap()),
            "{}",
            ended.stderr
        );
    }
}

fn no_linux() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("linux.jsonl");
    let refused = |part: &str| {
        let ended = run(["bench".as_ref(), "--linux".as_ref(), path.as_os_str()]);
        assert_eq!((ended.code(), ended.stdout.as_slice()), (125, &b""[..]));
        assert!(ended.message().contains(part), "{}", ended.stderr);
    };
    refused("cannot read");
    fs::write(&path, "900 IOPS\n").unwrap();
    refused("holds no figures of a Linux guest");
}

/// What resources/linux/bench prints.
const LINUX: &str = r#"{"host":{"description":"QEMU TCG CPU, Linux 6.1","emulated":true}}
{"run":{"machine":"vmm","disk":"registers=trap notify=trap","iops":933,"latency_us":888,"requests":3733,"exits":16184,"exits_to_user":11229,"scattered_mib_per_s":239}}
{"run":{"machine":"vmm","disk":"registers=mapped notify=trap","iops":1613,"latency_us":597,"requests":6455,"exits":19635,"exits_to_user":6485,"scattered_mib_per_s":335}}
{"missing":"QEMU microvm: qemu-system-x86_64 is not installed."}
"#;

fn everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (json, csv, html) = (path("r.json"), path("r.csv"), path("r.html"));
    let linux = path("linux.jsonl");
    fs::write(&linux, LINUX).unwrap();
    let ended = run([
        "bench".as_ref(),
        "--quick".as_ref(),
        "--linux".as_ref(),
        linux.as_os_str(),
        "--json".as_ref(),
        json.as_os_str(),
        "--csv".as_ref(),
        csv.as_os_str(),
        "--html".as_ref(),
        html.as_os_str(),
    ]);
    // No progress is shown where stderr is no terminal.
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
    let stdout = String::from_utf8(ended.stdout).unwrap();
    for part in [
        "mmio write",
        "trap",
        "Several queues, 4 KiB randread",
        "from exec to",
        "Targets",
        "--quick",
        "is not installed",
    ] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }

    let report = files::read(&json).unwrap();
    let exits = report.exits.unwrap();
    for name in ["pio out", "mmio write", "mmio read"] {
        let kind = exits.kinds.iter().find(|kind| kind.name == name).unwrap();
        let cost = kind.cost.as_ref().unwrap();
        for series in [&cost.vmm, &cost.floor, &cost.with_stats] {
            assert!(series.summary.median > 0.0, "{name}: {series:?}");
            assert!(series.samples.len() > 1, "{name}: {series:?}");
        }
    }
    let block = report.block.unwrap();
    for queues in [1, 4] {
        for (notify, registers) in [("trap", "trap"), ("ioeventfd", "mapped"), ("poll", "trap")] {
            let mut cells = block.queues.iter();
            let wanted = (queues, notify, registers);
            let cell = cells
                .find(|c| (c.queues, c.cell.notify.as_str(), c.registers.as_str()) == wanted)
                .unwrap();
            let figures = cell.cell.figures.as_ref().unwrap();
            assert!(figures.throughput.iops.summary.median > 0.0);
        }
    }
    let cells = block.cells;
    for notify in ["trap", "ioeventfd"] {
        let cell = cells
            .iter()
            .find(|c| c.notify == notify && c.depth == 1)
            .unwrap();
        let figures = cell.figures.as_ref().unwrap();
        assert!(figures.throughput.iops.summary.median > 0.0);
    }
    let start = report.start.unwrap();
    assert!(start.vmm.summary.median > 0.0 && start.floor.summary.median > 0.0);
    assert!(report.targets.len() > 5, "{:?}", report.targets);
    assert_eq!(report.linux.unwrap().disks.len(), 2);

    let csv = fs::read_to_string(csv).unwrap();
    assert!(csv.starts_with("section,name,metric,value,unit\n"), "{csv}");
    assert!(csv.contains("\nexits,mmio write,vmm median,"), "{csv}");
    let ratio = "\nlinux,vmm registers=mapped notify=trap,iops by trap median,1.72";
    assert!(csv.contains(ratio), "{csv}");
    let html = fs::read_to_string(html).unwrap();
    assert!(html.starts_with("<!DOCTYPE html>") && html.contains("<svg"));
    assert!(html.contains("Linux guest: random reads"));
    assert!(html.contains("<h3>Several queues, "));
    assert!(csv.contains(" registers=mapped queues=4 cpus=4,interrupts per request,"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
}

fn progress() {
    let mut pty = Pty::new();
    let running = Vmm::new(["bench", "exits", "--quick"])
        .command(|command| {
            command.stderr(pty.terminal());
        })
        .spawn();
    // The first and the last of what is measured.
    pty.expect("exits [");
    pty.expect("alu");
    pty.expect("ipi");
    assert_eq!(running.wait().code(), 0);
}

fn interrupted() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut pty = Pty::new();
        let running = Vmm::new(["bench", "exits"])
            .command(|command| {
                command.stderr(pty.terminal());
            })
            .spawn();
        pty.expect("exits [");
        running.signal(signal);
        assert_eq!(running.wait().status.signal(), Some(signal));
        fs::File::from(pty.terminal()).write_all(b"$ ").unwrap();
        pty.expect("\r\x1b[K$ ");
    }
}

/// Neither the file system nor the limit of a file's size.
fn no_room() {
    let ended = run(["bench", "blk", "--size=1000000T"]);
    assert_eq!(ended.code(), 125);
    assert!(
        ended.message().contains("No space left"),
        "{}",
        ended.stderr
    );
    let vmm = Vmm::new(["bench", "blk", "--size=1M"]).limit(Resource::Fsize, 1 << 10);
    let ended = vmm.spawn().wait();
    assert_eq!(ended.code(), 125);
    assert!(
        ended.message().contains("File too large"),
        "{}",
        ended.stderr
    );
}

fn block_io() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, json) = (dir.path().join("disk.img"), dir.path().join("r.json"));
    fs::write(&disk, vec![0x5a; 1 << 20]).unwrap();
    let ended = run([
        "bench".as_ref(),
        "blk".as_ref(),
        "--disk".as_ref(),
        disk.as_os_str(),
        "--bs=512,8K".as_ref(),
        "--depth=2".as_ref(),
        "--notify=trap".as_ref(),
        "--seconds=0.5".as_ref(),
        "--json".as_ref(),
        json.as_os_str(),
    ]);
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
    let report = files::read(&json).unwrap();
    assert!(report.exits.is_none() && report.start.is_none());
    let cells = report.block.unwrap().cells;
    let sizes: Vec<u64> = cells.iter().map(|cell| cell.block_size).collect();
    assert_eq!(sizes, [512, 8192]);
    for cell in &cells {
        assert_eq!((cell.depth, cell.notify.as_str()), (2, "trap"));
        assert!(cell.figures.is_ok(), "{cell:?}");
    }
    // It was not asked to write.
    assert!(fs::read(&disk).unwrap().iter().all(|&byte| byte == 0x5a));
}
