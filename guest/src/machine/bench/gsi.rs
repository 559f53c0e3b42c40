//! Interrupts that the VMM raises: by a register that the guest writes to, or when it likes.

use core::ptr;

use guest::workloads::bench::Latencies;
use spec::bench::{DOORBELL_ADDR, GSI, HANDLED_PORT, MATCH};

use super::handlers;
use crate::machine::cpu;
use crate::machine::port::out32;

/// Writes to the doorbell, and waits for the interrupt that follows, `iterations` times.
pub fn ring(iterations: u64, latencies: &mut Latencies<'_>) {
    note_time_of(GSI as u8);
    for _ in 0..iterations {
        // SAFETY: the address is in the hole for devices: mapped, and nobody's memory.
        latencies.push(unsafe { write_and_wait(DOORBELL_ADDR, MATCH, &mut || ()) });
    }
}

/// Has the handler of the interrupt `gsi` do nothing but to note the time, and lets interrupts in.
pub fn note_time_of(gsi: u8) {
    cpu::disable_interrupts();
    handlers::install_gsi_note_time(gsi);
    cpu::enable_interrupts();
}

/// Calls `before`, writes `value` to the register at `address`, and waits for the interrupt that
/// follows either, which [`note_time_of`] is about. Returns how long it took to come to its handler
/// from before the write, in ticks; 0 where it came before. It is never inlined, so that its few
/// instructions are the same for every register.
///
/// # Safety
/// There must be a device's register, and no memory.
#[inline(never)]
pub unsafe fn write_and_wait(address: u64, value: u32, before: &mut dyn FnMut()) -> u64 {
    let handled = handlers::count();
    before();
    let begin = cpu::ticks();
    // SAFETY: the caller's.
    unsafe {
        ptr::write_volatile(
            ptr::with_exposed_provenance_mut(address as usize),
            value.to_le(),
        );
    }
    cpu::halt_until(|| handlers::count() != handled);
    handlers::noted().saturating_sub(begin)
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
