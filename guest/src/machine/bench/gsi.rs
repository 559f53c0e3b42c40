//! Interrupts that the VMM raises: by a register that the guest writes to, or when it likes.

use core::ptr;

use guest::workloads::bench::Latencies;
use spec::bench::{DOORBELL_ADDR, HANDLED_PORT, MATCH};

use super::handlers;
use crate::machine::cpu;
use crate::machine::port::out32;

/// Writes to the doorbell, and waits for the interrupt that follows, `iterations` times.
pub fn ring(iterations: u64, latencies: &mut Latencies<'_>) {
    handlers::install_gsi_note_time();
    cpu::enable_interrupts();
    for _ in 0..iterations {
        let handled = handlers::count();
        let begin = cpu::ticks();
        // SAFETY: the address is in the hole for devices: mapped, and nobody's memory.
        unsafe {
            ptr::write_volatile(
                ptr::with_exposed_provenance_mut(DOORBELL_ADDR as usize),
                MATCH.to_le(),
            );
        }
        cpu::halt_until(|| handlers::count() != handled);
        latencies.push(handlers::noted().saturating_sub(begin));
    }
}

/// Halts until `iterations` interrupts have come.
pub fn wait_halted(iterations: u64) {
    let last = handlers::count() + iterations;
    handlers::install_gsi_tell_host();
    tell_ready();
    cpu::halt_until(|| handlers::count() >= last);
}

/// Keeps the CPU busy until `iterations` interrupts have come.
pub fn wait_running(iterations: u64) {
    let last = handlers::count() + iterations;
    handlers::install_gsi_tell_host();
    tell_ready();
    cpu::enable_interrupts();
    while handlers::count() < last {}
}

/// Tells the VMM that an interrupt would not be lost: before its pin is routed it is.
fn tell_ready() {
    out32(HANDLED_PORT, 0);
}
