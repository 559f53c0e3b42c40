//! Block I/O by several CPUs at once, each with a queue of its own: every CPU does as `block` has it
//! for one, beginning and ending with the others.

use spec::bench::{Command, Outcome, outcome};
use spinning_top::Spinlock;

use super::block::{ALIGN, Run, check_disk, make_requests};
use super::job::Job;
use super::{Failure, Latencies, Machine};
use crate::cmdline::CommandLine;
use crate::dma::{Arena, Region};
use crate::virtio::MAX_QUEUES;
use crate::workloads::find;
use crate::workloads::together::{self, with_queues};

/// What came of the share of a CPU.
#[derive(Clone, Copy, Default)]
struct Done {
    ticks: u64,
    requests: u64,
    notifications: u64,
}

/// Does the job that `command` is about, on the first disk. What it writes is `data`.
pub(super) fn run<'e, 'm>(
    command_line: CommandLine<'e>,
    machine: &mut dyn Machine,
    mut arena: Arena<'m>,
    data: Region<'m>,
    command: &Command,
    latencies: &mut Latencies<'_>,
) -> Result<Outcome, Failure<'e>> {
    let clock = machine.probes().clock();
    let job = Job::new(&command.block)?;
    let cpus = job.queues;
    if cpus > machine.cpus() {
        return Err(Failure::Unsupported("there are fewer CPUs than queues"));
    }
    let options = job.options();
    let window = find(command_line, machine, 0)?;
    let of_disk = (window, &options, cpus);
    with_queues(machine, of_disk, &mut arena, |machine, queues, arena| {
        if queues.count() < cpus {
            return Err(Failure::Unsupported("the disk has too few queues"));
        }
        check_disk(queues.info(), command)?;
        let size = job.data_size();
        let buffers = match job.write {
            true => data,
            false => arena.alloc(cpus * size, ALIGN)?,
        };
        let interrupts = machine.device(window)?.interrupts();
        let done = Spinlock::new([Done::default(); MAX_QUEUES]);
        let all = &*latencies;
        together::work(machine, window, cpus, &|cpu, transport| {
            let job = Job::new(&command.block.of_cpu(cpu as u64))?;
            let memory = match job.write {
                true => buffers,
                false => buffers.part(cpu * size, size),
            };
            let mut latencies = all.share(cpu, cpus);
            let requests = (command.iterations + cpu as u64) / cpus as u64;
            let requests = requests.min(latencies.room());
            let shared = queues.with_queue(cpu, transport, |block| {
                let (tokens, depth) = (make_requests(block, &job, memory)?, job.depth);
                let mut run = Run::new(block, job, clock, requests, &mut latencies);
                let ticks = run.go(&tokens[..depth], command.ticks)?;
                done.lock()[cpu] = Done {
                    ticks,
                    requests: latencies.count(),
                    notifications: block.notifications(),
                };
                Ok(())
            });
            // Nobody else has this queue.
            shared.unwrap_or(Ok(()))
        })?;
        let done = &done.into_inner()[..cpus];
        for (cpu, done) in done.iter().enumerate() {
            let share = latencies.share(cpu, cpus);
            latencies.gather(&share, done.requests);
        }
        Ok(Outcome {
            status: outcome::DONE,
            iterations: latencies.count(),
            ticks: done.iter().map(|done| done.ticks).max().unwrap_or(0),
            latencies: latencies.addr(),
            latency_count: latencies.count(),
            interrupts: machine.device(window)?.interrupts() - interrupts,
            notifications: done.iter().map(|done| done.notifications).sum(),
        })
    })
}
