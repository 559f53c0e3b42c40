//! `--trace`: that a trace is what the format says, that it has of a run what the statistics of the
//! same run count, and that it is written whenever and however a run ends.

mod count;
mod file;
pub mod perfetto;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use serde_json::Value;
use tempfile::TempDir;

use crate::guests::{NOTIFY_MODES, disk, start_on};
use crate::harness::{Ended, Vmm, file, run};
use crate::kernels;
use crate::needs::Needs;
use count::{assert_counts, assert_queues, number};
use file::{Event, Trace};

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test("trace_has_what_the_statistics_of_the_run_count", counts),
        crate::harness::test(
            "trace_in_perfetto_has_what_the_statistics_of_the_run_count",
            Needs::Perfetto,
            perfetto::counts,
        ),
        test("trace_tells_two_disks_and_two_vcpus_apart", two_of_each),
        test("trace_of_a_hostile_guest_is_as_sound_as_any", hostile),
        test("trace_of_one_read_has_its_whole_way", one_read),
        test(
            "trace_with_a_limit_has_the_last_events_and_says_what_it_lacks",
            limit,
        ),
        test("trace_is_whole_however_the_run_ends", ends),
        test("trace_replaces_what_was_in_the_file", replaces),
        test(
            "trace_that_cannot_be_written_is_told_and_fails_the_run",
            write_fails,
        ),
        test(
            "trace_file_that_cannot_be_opened_is_told_before_the_guest_runs",
            open_fails,
        ),
        test(
            "trace_file_that_the_machine_is_made_of_is_refused_and_left_alone",
            inputs,
        ),
        crate::harness::test(
            "trace_limits_out_of_range_are_one_line_and_status_2",
            Needs::Nothing,
            limits,
        ),
    ]
}

/// A directory, and a file in it that is not there.
fn no_file() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    (dir, path)
}

fn with_trace(vmm: Vmm, path: &Path, args: &[&str]) -> Vmm {
    vmm.command(|command| _ = command.arg("--trace").arg(path).args(args))
}

/// Runs a workload of our guest on `disks`, with `args` besides; returns where the trace is, and the
/// report of the statistics.
#[track_caller]
fn run_traced(disks: &[String], cmdline: &str, args: &[&str]) -> (TempDir, PathBuf, Value) {
    let (dir, path) = no_file();
    let vmm = with_trace(start_on(None, disks, cmdline), &path, args);
    let ended = (vmm.command(|command| _ = command.arg("--stats=json")))
        .spawn()
        .wait();
    assert_eq!(ended.code(), 0, "{ended:?}");
    let line = ended.stderr.lines().find(|line| line.starts_with('{'));
    let report = serde_json::from_str(line.unwrap()).unwrap();
    (dir, path, report)
}

/// The same, with the trace.
#[track_caller]
fn traced(disks: &[String], cmdline: &str, args: &[&str]) -> (Trace, Value) {
    let (_dir, path, report) = run_traced(disks, cmdline, args);
    let trace = Trace::read(&path);
    assert_eq!(trace.metadata.dropped_events, 0, "--trace-limit is too low");
    (trace, report)
}

fn counts() {
    let limit = ["--trace-limit", "1000000"];
    for notify in NOTIFY_MODES {
        let (_dir, path) = file("disk", &[0x5a; 1 << 20]);
        let disks = [disk(&path, &format!(",notify={notify}"))];
        let (trace, report) = traced(&disks, "run=selftest", &limit);
        assert_counts(&trace, &report);
    }
}

fn hostile() {
    for notify in NOTIFY_MODES {
        let (_dir, path) = file("disk", &[0x5a; 1 << 20]);
        let disks = [disk(&path, &format!(",notify={notify}"))];
        let limit = ["--trace-limit", "1000000"];
        let (trace, report) = traced(&disks, "run=storm kind=bad rounds=3", &limit);
        // It touches more addresses than the statistics tell apart.
        assert_queues(&trace, &report);
        let exits = trace.slices("exit").count() as u64;
        assert_eq!(exits, number(&report["vcpus"][0]["exits"]));
        let changed = |slice: &&Event| slice.args["event"] == "configuration change";
        assert!(trace.slices("interrupt").any(|slice| changed(&slice)));
    }
}

fn two_of_each() {
    for notify in ["trap", "ioeventfd"] {
        let (_dir, path) = file("disk", &[0; 1 << 20]);
        let (_other_dir, other) = file("other", &[0; 1 << 20]);
        let disks = [
            disk(&path, &format!(",notify={notify}")),
            disk(&other, &format!(",id=\"\\<b>,notify={notify}")),
        ];
        let cmdline = "run=verify disk=1 lba=0 count=64 seed=1 depth=4";
        let (trace, report) = traced(&disks, cmdline, &["--cpus", "2"]);
        assert_counts(&trace, &report);
        let names = ["virtio-blk 0 (disk0)", "virtio-blk 1 (\"\\<b>)"];
        let [idle, busy] = names.map(|device| trace.process(device));
        let requests = |pid| (trace.events.iter()).filter(move |e| e.ph == "b" && e.pid == pid);
        assert_eq!(requests(idle).count(), 0);
        assert!(requests(busy).count() > 0);
        for (thread, index) in [("vcpu0", 0), ("vcpu1", 1)] {
            let tid = trace.thread(thread).expect(thread);
            let exits = trace.slices("exit").filter(|exit| exit.tid == tid).count();
            assert_eq!(exits as u64, number(&report["vcpus"][index]["exits"]));
        }
        let worker = format!("worker of {}", names[1]);
        assert_eq!(trace.thread(&worker).is_some(), notify == "ioeventfd");
    }
}

fn one_read() {
    for notify in NOTIFY_MODES {
        let (_dir, path) = file("disk", &[0x5a; 1 << 20]);
        let disks = [disk(&path, &format!(",notify={notify}"))];
        let (trace, _) = traced(&disks, "run=read lba=8 count=8", &[]);
        let one = |ph: &str, category: &str| {
            let mut found = (trace.events.iter()).filter(|e| e.ph == ph && e.cat == category);
            let event = found.next().expect(category);
            assert!(found.next().is_none(), "more than one {category} {ph}");
            event
        };
        let request = one("b", "request");
        for (arg, value) in [
            ("type", "IN".into()),
            ("sector", 8.into()),
            ("bytes", 4096.into()),
            ("descriptors", 3.into()),
            ("status", "OK".into()),
            ("used_len", 4097.into()),
            ("used_idx", Value::from(0)),
        ] {
            assert_eq!(request.args[arg], value, "{arg} with notify={notify}");
        }
        let (start, step, end) = (one("s", "flow"), one("t", "flow"), one("f", "flow"));
        let (service, interrupt) = (one("X", "service"), one("X", "interrupt"));
        assert!(service.spans(step) && interrupt.spans(end), "{notify}");
        assert_eq!(interrupt.args["gsi"], 5);
        let begin = trace.slice_at(start);
        if notify == "trap" {
            assert_eq!(begin.name, "mmio write QueueNotify");
            assert_eq!(
                (begin.text("value"), begin.text("address")),
                ("0x0", "0xd0000050")
            );
        } else {
            assert_eq!(begin.name, "drain");
        }
        // What the guest has read is what it was answered with.
        let magic = trace
            .slices("exit")
            .find(|exit| exit.args["register"] == "MagicValue");
        assert_eq!(magic.unwrap().text("value"), "0x74726976");
    }
}

fn limit() {
    let (_disk_dir, image) = file("disk", &[0x5a; 1 << 20]);
    for limit in [1, 2, 7, 100] {
        let (_dir, path) = no_file();
        let disks = [disk(&image, "")];
        let vmm = start_on(None, &disks, "run=verify lba=0 count=64 seed=1 depth=4");
        let args = ["--trace-limit", &limit.to_string()];
        let ended = with_trace(vmm, &path, &args).spawn().wait();
        assert_eq!(ended.code(), 0, "{ended:?}");
        let trace = Trace::read(&path);
        let sources = &trace.metadata.sources;
        let dropped: u64 = sources.iter().map(|source| source.dropped_events).sum();
        assert_eq!(trace.metadata.dropped_events, dropped);
        assert_eq!(
            ended.message(),
            format!(
                "the trace is without the first {dropped} events, for which there was no room \
                 (--trace-limit)"
            )
        );
        assert_eq!(sources[0].events - sources[0].dropped_events, limit);
        assert_eq!(trace.slices("exit").count() as u64, limit);
        // The last of all is what ended the run.
        let last = trace.slices("exit").last().unwrap();
        assert_eq!(last.args["device"], "debug-exit");
    }
}

/// A trace of a run of `kernel` that ends by itself, with this status.
#[track_caller]
fn ended_with(kernel: &[u8], code: i32) -> (Trace, Ended) {
    let (_dir, path) = no_file();
    let ended = with_trace(Vmm::with_kernel(kernel), &path, &[])
        .spawn()
        .wait();
    assert_eq!(ended.code(), code, "{ended:?}");
    (Trace::read(&path), ended)
}

fn ends() {
    let last = |trace: &Trace| trace.slices("exit").last().unwrap().name.clone();
    let (trace, _) = ended_with(&kernels::exit(7), 7);
    assert_eq!(last(&trace), "pio out debug-exit+0x0");
    let (trace, _) = ended_with(kernels::RESET, 0);
    assert_eq!(last(&trace), "pio out i8042+0x0");
    let (trace, ended) = ended_with(kernels::CRASH, 126);
    assert_eq!(last(&trace), "shutdown");
    assert!(ended.stderr.contains("the guest crashed"), "{ended:?}");

    for (kernel, first) in [
        (kernels::READY_AND_HALT, "R"),
        (kernels::READY_AND_SPIN, "R"),
        (kernels::FLOOD, "."),
    ] {
        for signal in [libc::SIGTERM, libc::SIGINT] {
            let (_dir, path) = no_file();
            let mut vmm = with_trace(Vmm::with_kernel(kernel), &path, &[]).spawn();
            vmm.expect(first);
            vmm.signal(signal);
            let ended = vmm.wait();
            assert_eq!(ended.code(), 128 + signal, "{ended:?}");
            let trace = Trace::read(&path);
            let writes = trace
                .slices("exit")
                .filter(|exit| exit.args["device"] == "COM1");
            assert!(writes.count() > 0);
        }
    }
}

fn replaces() {
    let (_dir, path) = file("trace.json", &[b'x'; 1 << 20]);
    let vmm = with_trace(Vmm::with_kernel(&kernels::exit(0)), &path, &[]);
    assert_eq!(vmm.spawn().wait().code(), 0);
    Trace::read(&path);
}

fn write_fails() {
    let vmm = with_trace(
        Vmm::with_kernel(&kernels::exit(0)),
        Path::new("/dev/full"),
        &[],
    );
    let ended = vmm.spawn().wait();
    assert_eq!(ended.code(), 125);
    let message = "--trace /dev/full: cannot write it: No space left on device (os error 28)";
    assert_eq!(ended.message(), message);

    // What the guest has to say is said all the same.
    let vmm = with_trace(
        Vmm::with_kernel(kernels::CRASH),
        Path::new("/dev/full"),
        &[],
    );
    let ended = vmm.spawn().wait();
    assert_eq!(ended.code(), 125);
    assert!(ended.stderr.contains("the guest crashed"), "{ended:?}");
    assert!(
        ended.stderr.ends_with(&format!("vmm: {message}\n")),
        "{ended:?}"
    );
}

fn open_fails() {
    let (dir, path) = no_file();
    for (path, why) in [
        (path.join("below"), "No such file or directory (os error 2)"),
        (dir.path().to_owned(), "Is a directory (os error 21)"),
    ] {
        let ended = with_trace(Vmm::with_kernel(kernels::READY_AND_HALT), &path, &[])
            .spawn()
            .wait();
        assert_eq!((ended.code(), ended.stdout.as_slice()), (125, &b""[..]));
        let told = format!(
            "--trace {}: cannot open it for writing: {why}",
            path.display()
        );
        assert_eq!(ended.message(), told);
    }
}

fn inputs() {
    let bytes = [0x5a; 4096];
    let (dir, image) = file("disk", &bytes);
    let link = dir.path().join("link");
    fs::hard_link(&image, &link).unwrap();
    for trace in [&image, &link] {
        let vmm = start_on(None, &[disk(&image, "")], "run=info");
        let ended = with_trace(vmm, trace, &[]).spawn().wait();
        assert_eq!(ended.code(), 125, "{ended:?}");
        let told = ended.message();
        let why = format!(
            "that is the file {}, which the machine is made of",
            image.display()
        );
        assert!(
            told.starts_with("--trace ") && told.ends_with(&why),
            "{told}"
        );
        assert_eq!(fs::read(&image).unwrap(), bytes);
    }
    // The kernel too.
    let (_kernel_dir, kernel) = file("kernel", &kernels::exit(0));
    let args = [
        "--kernel".as_ref(),
        kernel.as_os_str(),
        "--trace".as_ref(),
        kernel.as_os_str(),
    ];
    assert_eq!(run(args).code(), 125);
    assert_eq!(fs::read(&kernel).unwrap(), kernels::exit(0));
    // A file of which the start fails is as it was.
    let args = ["--kernel", "/nowhere", "--trace", image.to_str().unwrap()];
    assert_eq!(run(args).code(), 125);
    assert_eq!(File::open(&image).unwrap().metadata().unwrap().len(), 4096);
}

fn limits() {
    for limit in ["0", "1000001", "many"] {
        let ended = run(["--trace", "t.json", "--trace-limit", limit]);
        assert_eq!(ended.code(), 2);
        assert!(
            ended
                .message()
                .contains(&format!("'{limit}' for '--trace-limit <N>'"))
        );
    }
}
