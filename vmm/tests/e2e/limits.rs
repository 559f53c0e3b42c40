//! What a guest cannot make the VMM do without bound: log, allocate, spin, or keep others waiting. The
//! guest is `run=storm`, which does what no guest should, as often as it is told to.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use libtest_mimic::Trial;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

use crate::guests::{NOTIFY_MODES, start_on};
use crate::harness::{Running, Vmm, file, wait_until};
use crate::kernels;
use crate::needs::Needs;

/// The most lines that the VMM has for a disk and its driver: one for each kind of misuse.
const MOST_LINES: usize = 11;
/// How much the VMM may have more of after many requests than after a few, in KiB: what an allocator
/// asks for at a time.
const SLACK: u64 = 512;
/// Mappings of this size and above are the guest's RAM, in KiB.
const GUEST_RAM: u64 = 100 << 10;
/// How long the VMM must have used no CPU to count as at rest.
const REST: Duration = Duration::from_millis(300);
/// How much input the VMM and the pipe to it take from a guest that does not want any, in bytes.
const MOST_INPUT: usize = 256 << 10;

pub fn tests() -> Vec<Trial> {
    // What the VMM itself does is the same on every KVM.
    let test = |name, body| crate::harness::test(name, Needs::OwnKvm, body);
    vec![
        test("limits_misuse_is_told_of_once_for_each_kind", log),
        test("limits_memory_does_not_grow_with_misuse", memory_bad),
        test("limits_memory_of_statistics_does_not_grow", memory_counted),
        test(
            "limits_memory_does_not_grow_with_large_requests",
            memory_large,
        ),
        test("limits_input_that_is_not_wanted_is_left_in_the_pipe", input),
        test("limits_output_that_nobody_reads_is_not_kept", output),
        test("limits_a_guest_that_halts_costs_no_cpu_time", spin),
        test(
            "limits_a_queue_that_is_kept_full_holds_up_no_other_cpu",
            full,
        ),
        test("limits_a_queue_that_is_kept_full_can_be_stopped", stopped),
    ]
}

/// A disk that is large enough for the largest request, and takes up no room; and its directory.
fn disk(notify: &str) -> (TempDir, String) {
    let (dir, path) = file("disk.img", &[]);
    let image = File::options().write(true).open(&path).unwrap();
    image.set_len(64 << 20).unwrap();
    (dir, format!("{},notify={notify}", path.display()))
}

/// A guest with so many CPUs that does what `storm` says, to be waited for.
fn start(notify: &str, cpus: u32, storm: &str) -> (TempDir, Running) {
    let (dir, disk) = disk(notify);
    let vmm = start_on(None, &[disk], &format!("run=storm {storm}"));
    let vmm = vmm.command(|command| _ = command.args(["--cpus", &cpus.to_string()]));
    (dir, vmm.spawn())
}

/// A guest that has done what `storm` says, and has halted.
fn halted(notify: &str, storm: &str) -> (TempDir, Running) {
    let (dir, mut vmm) = start(notify, 1, &format!("{storm} then=halt"));
    vmm.expect(" ok\n");
    (dir, vmm)
}

/// What is said on stderr after so many rounds of misuse.
fn said(notify: &str, rounds: u32) -> Vec<String> {
    let (_dir, vmm) = start(notify, 1, &format!("kind=bad rounds={rounds}"));
    let ended = vmm.wait();
    ended.assert_ok(&format!("storm kind=bad rounds={rounds} ok"));
    ended.stderr.lines().map(str::to_owned).collect()
}

fn log() {
    for notify in NOTIFY_MODES {
        let lines = said(notify, 100);
        let distinct = lines.len() <= MOST_LINES && lines.len() > MOST_LINES / 2;
        assert!(distinct, "notify={notify}: {lines:#?}");
        assert_eq!(lines, said(notify, 1), "notify={notify}");
    }
}

/// The private memory that the VMM has for itself, in KiB: mapped and writable, and in use.
fn memory(vmm: &Running) -> [u64; 2] {
    let smaps = fs::read_to_string(vmm.proc("smaps")).unwrap();
    let (mut mapped, mut used, mut counts) = (0, 0, false);
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (first, second) = (words.next().unwrap(), words.next().unwrap_or_default());
        match (first, second.parse::<u64>()) {
            ("Size:", Ok(size)) if counts && size < GUEST_RAM => mapped += size,
            ("Size:", Ok(_)) => counts = false,
            ("Anonymous:", Ok(size)) if counts => used += size,
            // The first line of a mapping.
            _ if !first.ends_with(':') => counts = second.starts_with("rw"),
            _ => {}
        }
    }
    [mapped, used]
}

/// That the VMM has no more memory after many rounds than after a few.
fn assert_bounded(storm: &str, [few, many]: [u32; 2]) {
    for notify in NOTIFY_MODES {
        let after = |rounds| {
            let (_dir, vmm) = halted(notify, &format!("{storm} rounds={rounds}"));
            memory(&vmm)
        };
        let (before, after) = (after(few), after(many));
        for (before, after) in before.into_iter().zip(after) {
            assert!(
                before > 0 && after <= before + SLACK,
                "notify={notify}, {storm}: {before} KiB after {few} rounds, {after} after {many}"
            );
        }
    }
}

fn memory_bad() {
    assert_bounded("kind=bad", [2, 100]);
}

/// With statistics, of whatever the guest touches.
fn memory_counted() {
    let after = |rounds| {
        let (_dir, disk) = disk("trap");
        let cmdline = format!("run=storm kind=bad rounds={rounds} then=halt");
        let vmm = start_on(None, &[disk], &cmdline);
        let mut vmm = vmm.command(|command| _ = command.arg("--stats")).spawn();
        vmm.expect(" ok\n");
        memory(&vmm)
    };
    let (few, many) = (after(2), after(100));
    for (few, many) in few.into_iter().zip(many) {
        assert!(few > 0 && many <= few + SLACK, "{few} KiB, {many} KiB");
    }
}

fn memory_large() {
    assert_bounded("kind=large", [1, 6]);
}

/// Waits until the VMM uses no CPU time.
#[track_caller]
pub fn assert_comes_to_rest(vmm: &Running) {
    wait_until("the VMM uses no CPU time", || {
        let before = cpu_time(vmm);
        thread::sleep(REST);
        cpu_time(vmm) == before
    });
}

/// The CPU time that all threads of the VMM have used, in ticks of a hundredth of a second.
fn cpu_time(vmm: &Running) -> u64 {
    let stat = fs::read_to_string(vmm.proc("stat")).unwrap();
    // The name, in parentheses, may have spaces in it.
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next().unwrap().parse::<u64>().unwrap();
    ticks() + ticks()
}

/// Whether `fd` takes more within [`REST`].
fn takes_more(fd: &impl AsFd) -> bool {
    let limit = Timespec::try_from(REST).unwrap();
    poll(&mut [PollFd::new(fd, PollFlags::OUT)], Some(&limit)).unwrap() == 1
}

fn input() {
    let mut vmm = Vmm::with_kernel(kernels::READY_AND_HALT)
        .stdin(Stdio::piped())
        .spawn();
    vmm.expect("R");
    let mut stdin = vmm.stdin.take().unwrap();
    let mut taken = 0;
    // A pipe that has room has room for this much.
    while takes_more(&stdin) {
        stdin.write_all(&[b'x'; 4096]).unwrap();
        taken += 4096;
        assert!(taken <= MOST_INPUT, "{taken} bytes");
    }
    assert_comes_to_rest(&vmm);
    vmm.signal(libc::SIGTERM);
    assert_eq!(vmm.wait().code(), 128 + libc::SIGTERM);
}

fn output() {
    let vmm = Vmm::with_kernel(kernels::FLOOD).spawn();
    assert_comes_to_rest(&vmm);
    let [mapped, used] = memory(&vmm);
    let before = Vmm::with_kernel(kernels::READY_AND_HALT).spawn();
    assert_comes_to_rest(&before);
    let [mapped_before, used_before] = memory(&before);
    assert!(mapped <= mapped_before + SLACK, "{mapped_before}, {mapped}");
    assert!(used <= used_before + SLACK, "{used_before}, {used}");
}

fn spin() {
    for notify in NOTIFY_MODES {
        for storm in ["kind=bad rounds=20", "kind=full rounds=20"] {
            let (_dir, vmm) = halted(notify, storm);
            assert_comes_to_rest(&vmm);
        }
    }
}

fn full() {
    for notify in NOTIFY_MODES {
        for cpus in [2, 3] {
            let (_dir, vmm) = start(notify, cpus, "kind=full rounds=200");
            let ended = vmm.wait();
            ended.assert_ok("storm kind=full rounds=200 ok");
            assert_eq!(ended.stderr, "", "notify={notify}, {cpus} CPUs");
        }
    }
}

fn stopped() {
    for notify in NOTIFY_MODES {
        for cpus in [1, 2, 3] {
            let for_ever = format!("kind=full rounds={}", u64::MAX);
            let (_dir, mut vmm) = start(notify, cpus, &for_ever);
            vmm.expect("begins\n");
            let begun = cpu_time(&vmm);
            wait_until("the queue has been full for a while", || {
                cpu_time(&vmm) >= begun + 20
            });
            vmm.signal(libc::SIGTERM);
            let ended = vmm.wait();
            assert_eq!(ended.code(), 128 + libc::SIGTERM, "notify={notify}");
            assert_eq!(ended.stderr, "", "notify={notify}, {cpus} CPUs");
        }
    }
}
