//! What `run=bench` measures of the bare machine, and the port by which it is told to. Each group
//! of kinds has a file of its own; here it is only chosen.

use guest::workloads::bench::{Clock, Latencies, Performed, Probes, Unsupported};
use spec::bench::{CONTROL_PORT, Kind};

use super::boot_info::BootInfo;
use super::cpu;
use super::port::{in32, out32};
use second_cpu::SecondCpu;
use timer::Timer;

mod gsi;
mod handlers;
mod loops;
mod second_cpu;
mod timer;

/// The machine, to be measured.
pub struct Bench {
    timer: Option<Timer>,
    second_cpu: SecondCpu,
}

impl Bench {
    /// The machine that was booted so.
    pub fn new(boot: &BootInfo) -> Self {
        Self {
            timer: None,
            second_cpu: SecondCpu::new(boot),
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
        let begin = cpu::ticks();
        let ticks = match kind {
            Kind::HltTimer => {
                let timer = self.timer.get_or_insert_with(Timer::new);
                timer.halt(iterations, latencies);
                cpu::ticks() - begin
            }
            Kind::Doorbell => {
                gsi::ring(iterations, latencies);
                cpu::ticks() - begin
            }
            Kind::IrqHalted => {
                gsi::wait_halted(iterations);
                cpu::ticks() - begin
            }
            Kind::IrqRunning => {
                gsi::wait_running(iterations);
                cpu::ticks() - begin
            }
            Kind::Ipi => {
                self.second_cpu.start()?;
                let begin = cpu::ticks();
                self.second_cpu.call(iterations, latencies);
                cpu::ticks() - begin
            }
            Kind::Block => return Err(Unsupported("block I/O is no matter of the bare machine")),
            kind => loops::time(kind, iterations)?,
        };
        Ok(Performed {
            ticks,
            interrupts: handlers::count() - handled,
        })
    }
}
