//! The second CPU: started, and halted for ever, but for the interrupts that it answers.

use core::arch::{asm, global_asm};
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use guest::workloads::bench::{Latencies, Unsupported};

use super::handlers;
use crate::machine::boot_info::BootInfo;
use crate::machine::{apic, cpu, descriptors};

global_asm!(
    include_str!("second_cpu.s"),
    MAIN = sym main,
    CODE64 = const descriptors::CODE64,
    DATA = const descriptors::DATA,
);

/// Where the CPU begins, in real mode: below 1 MiB, behind what the VMM has written there.
const TRAMPOLINE: u64 = 0x1_0000;
/// Room for it, in bytes.
const TRAMPOLINE_SIZE: u64 = 0x1000;
/// The ID of its local APIC.
const APIC_ID: u8 = 1;
/// How long it is waited for, in ticks: part of a second.
const PATIENCE: u64 = 1 << 30;

/// What the second CPU says of itself: 0 as long as it does not run.
static RUNNING: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" {
    static trampoline: [u8; 0];
    static trampoline_end: [u8; 0];
}

/// The second CPU.
pub struct SecondCpu {
    /// Whether there is RAM for it to begin in.
    has_trampoline: bool,
    /// Whether it has been told to start.
    started: bool,
}

impl SecondCpu {
    /// The second CPU of a machine that was booted so, if it has one.
    pub fn new(boot: &BootInfo) -> Self {
        Self {
            has_trampoline: boot.has_ram(TRAMPOLINE, TRAMPOLINE + TRAMPOLINE_SIZE),
            started: false,
        }
    }

    /// Starts the CPU, unless it runs.
    pub fn start(&mut self) -> Result<(), Unsupported> {
        if !self.has_trampoline {
            return Err(Unsupported("there is no RAM for a second CPU to start in"));
        }
        handlers::install_note_time();
        handlers::install_answer();
        apic::send_to(APIC_ID);
        if !self.started {
            self.started = true;
            let (start, end) = (
                (&raw const trampoline).addr(),
                (&raw const trampoline_end).addr(),
            );
            // SAFETY: the trampoline is read where the image has it, and written to where there is
            // RAM that nobody else uses.
            unsafe {
                ptr::copy_nonoverlapping(
                    ptr::with_exposed_provenance::<u8>(start),
                    ptr::with_exposed_provenance_mut(TRAMPOLINE as usize),
                    end - start,
                );
            }
            apic::start_cpu((TRAMPOLINE >> 12) as u8);
        }
        let begin = cpu::ticks();
        while RUNNING.load(Ordering::Acquire) == 0 {
            if cpu::ticks() - begin > PATIENCE {
                return Err(Unsupported("there is no second CPU that starts"));
            }
        }
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
extern "C" fn main() -> ! {
    descriptors::load_idt();
    apic::enable();
    apic::send_to(0);
    RUNNING.store(1, Ordering::Release);
    loop {
        // SAFETY: its one interrupt has its handler.
        unsafe { asm!("sti", "hlt", options(nostack)) }
    }
}
