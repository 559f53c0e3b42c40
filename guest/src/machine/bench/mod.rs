//! What `run=bench` measures of the bare machine, and the port by which it is told to. Each group
//! of kinds has a file of its own; here it is only chosen.

use guest::workloads::bench::{Clock, Latencies, Performed, Probes, Unsupported};
use spec::bench::{CONTROL_PORT, Kind};

use super::cpu;
use super::cpus::Cpus;
use super::port::{in32, out32};
use second_cpu::SecondCpu;
use timer::Timer;

pub mod gsi;
mod handlers;
mod loops;
mod second_cpu;
mod timer;

/// The machine, to be measured.
pub struct Bench {
    timer: Option<Timer>,
    cpus: Cpus,
    second_cpu: SecondCpu,
}

impl Bench {
    /// The machine that has these CPUs.
    pub fn new(cpus: Cpus) -> Self {
        Self {
            timer: None,
            cpus,
            second_cpu: SecondCpu::default(),
        }
    }
}

impl Probes for Bench {
    fn announce(&mut self, page: u64) {
        // RAM that is used is below 4 GiB, all that is mapped.
        out32(CONTROL_PORT, page as u32);
    }

    fn ask(&mut self) -> u32 {
        cpu::disable_interrupts();
        in32(CONTROL_PORT)
    }

    fn clock(&self) -> Clock {
        cpu::ticks
    }

    fn perform(
        &mut self,
        kind: Kind,
        iterations: u64,
        latencies: &mut Latencies<'_>,
    ) -> Result<Performed, Unsupported> {
        let handled = handlers::count();
        let ticks = match kind {
            Kind::HltTimer => {
                let timer = self.timer.get_or_insert_with(Timer::new);
                ticks_of(|| timer.halt(iterations, latencies))
            }
            Kind::Doorbell => ticks_of(|| gsi::ring(iterations, latencies)),
            Kind::IrqHalted => ticks_of(|| gsi::wait_halted(iterations)),
            Kind::IrqRunning => ticks_of(|| gsi::wait_running(iterations)),
            Kind::Ipi => {
                self.second_cpu.start(&mut self.cpus)?;
                ticks_of(|| self.second_cpu.call(iterations, latencies))
            }
            kind => loops::time(kind, iterations)?,
        };
        Ok(Performed {
            ticks,
            interrupts: handlers::count() - handled,
        })
    }
}

/// The ticks that `work` takes.
fn ticks_of(work: impl FnOnce()) -> u64 {
    let begin = cpu::ticks();
    work();
    cpu::ticks() - begin
}
