//! The second CPU: halted for ever, but for the interrupts that it answers.

use core::arch::asm;

use guest::workloads::bench::{Latencies, Unsupported};

use super::handlers;
use crate::machine::cpus::{Cpus, StartError};
use crate::machine::{apic, cpu};

const INDEX: usize = 1;

/// The second CPU.
#[derive(Default)]
pub struct SecondCpu {
    runs: bool,
}

impl SecondCpu {
    /// Starts the CPU, unless it runs.
    pub fn start(&mut self, cpus: &mut Cpus) -> Result<(), Unsupported> {
        handlers::install_note_time();
        handlers::install_answer();
        if !self.runs {
            cpus.start(INDEX, answer, 0).map_err(|error| {
                Unsupported(match error {
                    StartError::NoRam => "there is no RAM for a second CPU to start in",
                    StartError::Silent => "there is no second CPU that starts",
                })
            })?;
            self.runs = true;
        }
        apic::send_to(INDEX as u8);
        Ok(())
    }

    /// Interrupts the CPU and waits, halted, for its answer, `iterations` times.
    pub fn call(&mut self, iterations: u64, latencies: &mut Latencies<'_>) {
        for _ in 0..iterations {
            let handled = handlers::count();
            let begin = cpu::ticks();
            apic::send(handlers::ANSWER_VECTOR);
            cpu::halt_until(|| handlers::count() != handled);
            latencies.push(handlers::noted().saturating_sub(begin));
        }
    }
}

/// What the second CPU does.
extern "C" fn answer(_: usize, _: u64) {
    apic::send_to(0);
    loop {
        // SAFETY: its one interrupt has its handler.
        unsafe { asm!("sti", "hlt", options(nostack)) }
    }
}
