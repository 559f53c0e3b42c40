//! `run=bench`: the servant of `vmm bench`. Asks for a command, does it, leaves the outcome in the
//! page, asks for the next (see `spec::bench`). What is measured, and how often, the VMM decides.

use spec::bench::{
    Command, DATA_SIZE, END, GO, Kind, LATENCIES_MAX, OUTCOME_OFFSET, Outcome, PAGE_SIZE, outcome,
};

use super::params::Parameters;
use super::{Environment, Failure, Machine};
use crate::cmdline::CommandLine;
use crate::dma::{Arena, Region};

mod block;
mod job;
mod latencies;
mod probes;
mod several;

pub use latencies::Latencies;
pub use probes::{Clock, Performed, Probes, Unsupported};

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    _: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let Environment {
        command_line,
        console,
        machine,
        ram,
        ..
    } = environment;
    let page = ram.alloc(PAGE_SIZE + DATA_SIZE, PAGE_SIZE as u64)?;
    let data = page.part(PAGE_SIZE, DATA_SIZE);
    let mut latencies = Latencies::new(ram)?;
    machine.probes().announce(page.addr());
    let mut commands = 0u64;
    loop {
        match machine.probes().ask() {
            GO => commands += 1,
            END => break,
            read => return Err(Failure::NoControl { read }),
        }
        let mut command = [0; Command::SIZE];
        page.read(0, &mut command);
        let command = Command::from_bytes(&command);
        latencies.clear();
        let result = perform(
            *command_line,
            &mut **machine,
            ram.scope(),
            data,
            &command,
            &mut latencies,
        );
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(failure) => {
                let (status, verdict) = match failure {
                    Failure::Unsupported(_) => (outcome::UNSUPPORTED, "UNSUPPORTED"),
                    _ => (outcome::FAILED, "FAILED"),
                };
                writeln!(console, "bench kind={} {verdict}: {failure}", command.kind)?;
                Outcome {
                    status,
                    ..Outcome::default()
                }
            }
        };
        page.write(OUTCOME_OFFSET, &outcome.to_bytes());
    }
    writeln!(console, "bench commands={commands} ok")?;
    Ok(())
}

/// Does what one command says.
fn perform<'e, 'm>(
    command_line: CommandLine<'e>,
    machine: &mut dyn Machine,
    arena: Arena<'m>,
    data: Region<'m>,
    command: &Command,
    latencies: &mut Latencies<'_>,
) -> Result<Outcome, Failure<'e>> {
    let kind =
        Kind::from_number(command.kind).ok_or(Failure::BadCommand("there is no such kind"))?;
    if has_latencies(kind) && command.iterations > LATENCIES_MAX {
        return Err(Failure::BadCommand(
            "there are more iterations than there is room for latencies",
        ));
    }
    if kind == Kind::Block && command.block.more_queues > 0 {
        return several::run(command_line, machine, arena, data, command, latencies);
    }
    if matches!(kind, Kind::Block | Kind::BlockNotify) {
        return block::run(kind, command_line, machine, arena, data, command, latencies);
    }
    let performed = machine
        .probes()
        .perform(kind, command.iterations, latencies)?;
    Ok(Outcome {
        status: outcome::DONE,
        iterations: command.iterations,
        ticks: performed.ticks,
        latencies: latencies.addr(),
        latency_count: latencies.count(),
        interrupts: performed.interrupts,
        notifications: 0,
    })
}

/// Whether there is a latency for each iteration of `kind`.
const fn has_latencies(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::HltTimer | Kind::Doorbell | Kind::Ipi | Kind::Block | Kind::BlockNotify
    )
}
