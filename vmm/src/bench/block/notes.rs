//! How the figures of block I/O have been taken, and what they do not tell, in words.

use std::time::Duration;

use super::super::cpu_time::CpuTime;
use super::cell::Measurement;
use super::options::Wait;
use super::plan::Several;
use super::span::NotifySpan;
use super::{QUEUES_ROUNDS, ROUNDS};
use crate::config::{Engine, Notify, Registers};

/// How much CPU time it takes for there to be a tick that finds the guest, where any can.
const TELLING: Duration = Duration::from_secs(1);

/// What somebody must know who reads the figures of `cells`, a sentence each.
pub(super) fn of(cells: &[Measurement], engine: Engine, span: Option<&NotifySpan>) -> Vec<String> {
    let mut notes = vec![
        format!(
            "Rates, latencies and CPU time are of {ROUNDS} rounds through all cells, the floors \
             among them, in machines that keep no statistics. Exits, notifications and interrupts \
             are of one more round in machines that do, less those of a command without requests, \
             in which the guest sets the device up."
        ),
        "Latencies are the guest's own: from before a request is put into the queue to when its \
         completion has been seen."
            .into(),
        "pread and pwrite are one call at a time, whatever the depth, and io_uring has as many \
         requests in flight as the guest; both do the requests of the guest in the guest's order."
            .into(),
        "CPU time is that of all threads of the process, vCPU and device, to the microsecond. Its \
         split into user space and kernel is the kernel's: measured where it is built so \
         (CONFIG_VIRT_CPU_ACCOUNTING_GEN), else an estimate from where its ticks find the process, \
         one every 1 to 10 ms, which misses shares of a few percent."
            .into(),
    ];
    let mut one = cells.iter().filter(|cell| cell.cell.several.is_none());
    if one.any(|cell| cell.cell.registers == Registers::Mapped) {
        notes.push(
            "The guest reads the device's registers as memory, and its acknowledgements of \
             interrupts are stores to memory where notifications trap, and else wait in a ring \
             (--registers mapped): neither exits to user space."
                .into(),
        );
    }
    if engine != Engine::default() {
        notes.push(format!(
            "The machines' disk is one with engine={}: where stderr says that it got another, the \
             figures are of that.",
            engine.name()
        ));
    }
    let mut cpu = CpuTime::default();
    for found in cells.iter().flat_map(|cell| &cell.found) {
        cpu += found.cpu;
    }
    if cpu.guest.is_zero() && cpu.user + cpu.system >= TELLING {
        notes.push(
            "KVM accounts no time as the guest's on this host, as one that interprets guests does \
             not: it is part of the kernel's, and cannot be told apart."
                .into(),
        );
    }
    let both_poll = (Notify::Poll, Wait::Poll);
    if (cells.iter()).any(|cell| (cell.cell.notify, cell.cell.wait) == both_poll) {
        notes.push(
            "A guest and a device that both poll take a CPU each, all the time: where they cannot \
             have two to themselves, they wait for each other's time slices."
                .into(),
        );
    }
    if let Some(reason) = span.and_then(|span| span.found.as_ref().err()) {
        notes.push(format!(
            "From notify to handler could not be measured: {reason}."
        ));
    }
    notes
}

/// The same of those in which several CPUs are at it.
pub(super) fn of_queues(cells: &[Measurement]) -> Vec<String> {
    let mut several = cells.iter().filter_map(|cell| cell.cell.several);
    let Some(Several { cpus, .. }) = several.next() else {
        return Vec::new();
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    vec![
        format!(
            "The machine has {cpus} CPUs and its disk as many queues, of which so many are used, each \
             by a CPU that has the depth in flight there. There are {QUEUES_ROUNDS} rounds of it. CPU \
             time is less that of a command without requests, in which the CPUs are started."
        ),
        format!(
            "This host has {cores} CPUs. Each queue takes one for the guest and, where notifications \
             do not trap, one for the device: queues beyond that take turns, and cannot be faster."
        ),
        "All queues have one interrupt, which the guest's first CPU handles: it wakes the CPU whose \
         queue it is for by an interrupt of its own, which is not counted here."
            .into(),
    ]
}
