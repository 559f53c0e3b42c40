//! `--pin`: each thread that runs a vCPU or serves a queue stays on one CPU of the host, as the kernel
//! tells of it from outside.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use libtest_mimic::Trial;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::guests::{disk, start_on};
use crate::harness::{Running, file};
use crate::kernels::READY_AND_HALT;
use crate::needs::Needs;
use crate::sandbox::threads;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::OwnKvm, body);
    vec![
        test("pin_spreads_vcpus_and_then_queues_over_the_cpus", spread),
        test("pin_uses_no_cpu_that_the_process_may_not_use", confined),
        test("pin_is_not_done_where_it_is_not_asked_for", unpinned),
    ]
}

/// In the order of their CPUs.
const PINNED: [&str; 6] = [
    "vcpu0",
    "vcpu1",
    "blk0 many",
    "blk1 many",
    "blk2 many",
    "blk one",
];
const OTHERS: [&str; 3] = ["console", "signals", "vmm"];

/// A machine with these threads, which may use `cpus`: where each of them may run.
fn machine(args: &[&str], cpus: &[usize]) -> BTreeMap<String, String> {
    let (_dir, kernel) = file("kernel", READY_AND_HALT);
    let images = ["many", "trap", "one"].map(|name| file(name, &[0; 512]));
    let options = [
        ",id=many,queues=3,notify=ioeventfd",
        ",queues=2,notify=trap",
        ",id=one,notify=poll",
    ];
    let named = images.iter().zip(options);
    let disks: Vec<_> = named.map(|((_, path), of)| disk(path, of)).collect();
    let set = set(cpus);
    let vmm = start_on(Some(&kernel), &disks, "").command(|command| {
        command.args(["--cpus", "2"]).args(args);
        // SAFETY: the call may be made between fork and exec.
        unsafe { command.pre_exec(move || Ok(sched_setaffinity(None, &set)?)) };
    });
    let mut running = vmm.stdin(Stdio::piped()).spawn();
    running.expect("R");
    places(&running)
}

fn places(running: &Running) -> BTreeMap<String, String> {
    threads(running, "Cpus_allowed_list:")
}

fn set(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    set
}

/// The CPUs that this process may use.
fn own_cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU)
        .filter(|&cpu| set.is_set(cpu))
        .collect()
}

/// `cpus` as the kernel tells of them.
fn list(cpus: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => parts.push((cpu, cpu)),
        }
    }
    let part = |&(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

/// Where threads are to be in a machine that may use `cpus`.
fn expected(cpus: &[usize]) -> BTreeMap<String, String> {
    let pinned = PINNED.into_iter().zip(cpus.iter().cycle());
    let pinned = pinned.map(|(name, cpu)| (name.to_owned(), cpu.to_string()));
    let others = OTHERS.map(|name| (name.to_owned(), list(cpus)));
    pinned.chain(others).collect()
}

fn spread() {
    let cpus = own_cpus();
    for args in [&["--pin"][..], &["--pin", "--no-sandbox"]] {
        assert_eq!(machine(args, &cpus), expected(&cpus), "{args:?}");
    }
}

fn confined() {
    let last = &own_cpus()[own_cpus().len() - 1..];
    assert_eq!(machine(&["--pin"], last), expected(last));
}

fn unpinned() {
    let cpus = own_cpus();
    let anywhere = |name: &str| (name.to_owned(), list(&cpus));
    let expected = PINNED.into_iter().chain(OTHERS).map(anywhere).collect();
    assert_eq!(machine(&[], &cpus), expected);
}
