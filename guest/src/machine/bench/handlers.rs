//! The interrupt handlers that benchmarks are about: as short as they can be, so that what is
//! measured is not theirs. `handlers.s` has their code.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use spec::bench::{GSI, HANDLED_PORT};

use crate::machine::apic;
use crate::machine::descriptors::{self, FIRST_FREE, FIRST_INTERRUPT, INTERRUPT_STACK, SAME_STACK};

global_asm!(
    include_str!("handlers.s"),
    HANDLED = sym HANDLED,
    NOTED = sym NOTED,
    HANDLED_PORT = const HANDLED_PORT,
    END_OF_INTERRUPT = const apic::END_OF_INTERRUPT,
    COMMAND = const apic::COMMAND,
    NOTE_TIME_VECTOR = const NOTE_TIME_VECTOR,
);

/// Vector of what a CPU sends to CPU 0.
const NOTE_TIME_VECTOR: u8 = FIRST_FREE;
/// Vector of what CPU 0 sends to the second CPU.
pub const ANSWER_VECTOR: u8 = NOTE_TIME_VECTOR + 1;
/// Vector of [`GSI`].
const GSI_VECTOR: u8 = FIRST_INTERRUPT + GSI as u8;

/// How many interrupts CPU 0 has handled by what is here.
pub static HANDLED: AtomicU64 = AtomicU64::new(0);
/// When the last of those came whose time is noted.
static NOTED: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    fn note_time();
    fn tell_host();
    fn answer();
}

/// How many interrupts have been handled.
pub fn count() -> u64 {
    HANDLED.load(Ordering::Relaxed)
}

/// When the last interrupt came.
pub fn noted() -> u64 {
    NOTED.load(Ordering::Relaxed)
}

/// Has the time noted of what comes by the vector that this returns.
pub fn install_note_time() -> u8 {
    descriptors::set_handler(NOTE_TIME_VECTOR, note_time, INTERRUPT_STACK);
    NOTE_TIME_VECTOR
}

/// Has the time noted at which the interrupt `gsi` comes, one of the IOAPIC's.
pub fn install_gsi_note_time(gsi: u8) {
    descriptors::set_handler(FIRST_INTERRUPT + gsi, note_time, INTERRUPT_STACK);
    apic::route(gsi);
}

/// Has the VMM told when [`GSI`] comes.
pub fn install_gsi_tell_host() {
    descriptors::set_handler(GSI_VECTOR, tell_host, INTERRUPT_STACK);
    apic::route(GSI as u8);
}

/// Has the second CPU answer CPU 0. It stays on the stack it has: no other comes with it.
pub fn install_answer() {
    descriptors::set_handler(ANSWER_VECTOR, answer, SAME_STACK);
}
