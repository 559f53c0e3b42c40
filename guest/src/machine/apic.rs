//! The interrupt controllers: the old PICs switched off, the local APIC switched on with its timer
//! and what it sends to other CPUs, and the IOAPIC's pins routed to vectors. A GSI is the number of
//! a pin. Knows nothing of who interrupts.

use core::arch::asm;
use core::ptr;

use super::cpu;
use super::descriptors::{FIRST_INTERRUPT, SPURIOUS};
use super::port::out8;

const PIC_DATA: [u16; 2] = [0x21, 0xa1];

/// IA32_APIC_BASE.
pub const MSR_APIC_BASE: u32 = 0x1b;
const APIC_ENABLE: u64 = 1 << 11;

const LOCAL_APIC: u64 = 0xfee0_0000;
const LOCAL_ID: u64 = LOCAL_APIC + 0x20;
/// The register by which the local APIC is told that an interrupt has been handled.
pub const END_OF_INTERRUPT: u64 = LOCAL_APIC + 0xb0;
const LOCAL_SPURIOUS: u64 = LOCAL_APIC + 0xf0;
const SOFTWARE_ENABLE: u32 = 1 << 8;
/// The interrupt command register: what is written to its lower half is sent.
pub const COMMAND: u64 = LOCAL_APIC + 0x300;
const COMMAND_HIGH: u64 = LOCAL_APIC + 0x310;
/// In [`COMMAND`]: to this CPU, whatever the upper half says.
pub const TO_SELF: u32 = 1 << 18;
const INIT: u32 = 5 << 8;
const START_UP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const LOCAL_TIMER: u64 = LOCAL_APIC + 0x320;
const TIMER_MASKED: u32 = 1 << 16;
const TIMER_DEADLINE: u32 = 2 << 17;
const TIMER_INITIAL: u64 = LOCAL_APIC + 0x380;
const TIMER_CURRENT: u64 = LOCAL_APIC + 0x390;
const TIMER_DIVIDE: u64 = LOCAL_APIC + 0x3e0;
const DIVIDE_BY_1: u32 = 0b1011;
/// How long a CPU is given between an INIT and a start-up interrupt, in ticks of the TSC: some
/// milliseconds.
const INIT_TICKS: u64 = 1 << 24;

const IO_APIC: u64 = 0xfec0_0000;
const IO_SELECT: u64 = IO_APIC;
const IO_WINDOW: u64 = IO_APIC + 0x10;
/// The first register of the redirection table; each pin has two.
const IO_REDIRECTION: u32 = 0x10;

/// Switches the PICs off and the local APIC of this CPU on.
pub fn init() {
    for port in PIC_DATA {
        out8(port, 0xff);
    }
    enable();
}

/// What IA32_APIC_BASE holds.
pub fn base() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: every CPU with a local APIC has the register, and reading it changes nothing.
    unsafe {
        asm!(
            "rdmsr", in("ecx") MSR_APIC_BASE, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags)
        );
    }
    u64::from(low) | u64::from(high) << 32
}

/// Switches the local APIC of this CPU on.
pub fn enable() {
    let base = base() | APIC_ENABLE;
    // SAFETY: the local APIC is enabled where it already is: nothing else changes.
    unsafe {
        asm!(
            "wrmsr", in("ecx") MSR_APIC_BASE, in("eax") base as u32, in("edx") (base >> 32) as u32,
            options(nostack, preserves_flags)
        );
    }
    write(LOCAL_SPURIOUS, SOFTWARE_ENABLE | u32::from(SPURIOUS));
}

/// Routes the pin `gsi`, which must be one of the IOAPIC's, to its vector on this CPU: edge
/// triggered, active high.
pub fn route(gsi: u8) {
    let destination = read(LOCAL_ID) & 0xff00_0000;
    let register = IO_REDIRECTION + 2 * u32::from(gsi);
    write_io(register + 1, destination);
    // All other bits 0: fixed delivery, physical destination, not masked.
    write_io(register, u32::from(FIRST_INTERRUPT + gsi));
}

/// Tells the local APIC that an interrupt has been handled.
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Has [`send`] send to the CPU whose local APIC has this ID.
pub fn send_to(apic_id: u8) {
    write(COMMAND_HIGH, u32::from(apic_id) << 24);
}

/// Interrupts another CPU.
pub fn send(vector: u8) {
    write(COMMAND, u32::from(vector));
}

/// Starts another CPU, in real mode at the page of this number. (The second start-up interrupt that
/// old CPUs needed is none that a hypervisor would lose.)
pub fn start_cpu(page: u8) {
    write(COMMAND, INIT | ASSERT);
    let begin = cpu::ticks();
    while cpu::ticks() - begin < INIT_TICKS {}
    write(COMMAND, START_UP | ASSERT | u32::from(page));
}

/// Has the timer interrupt by a vector, at a moment of the TSC or after a count; or not at all.
pub fn set_timer(interrupt: Option<(u8, bool)>) {
    let entry = match interrupt {
        None => TIMER_MASKED,
        Some((vector, false)) => u32::from(vector),
        Some((vector, true)) => u32::from(vector) | TIMER_DEADLINE,
    };
    write(LOCAL_TIMER, entry);
    write(TIMER_DIVIDE, DIVIDE_BY_1);
}

/// Has the timer count down from `count`, once; 0 stops it.
pub fn count_down(count: u32) {
    write(TIMER_INITIAL, count);
}

/// Where the timer is, counting down.
pub fn timer_count() -> u32 {
    read(TIMER_CURRENT)
}

fn write_io(register: u32, value: u32) {
    write(IO_SELECT, register);
    write(IO_WINDOW, value);
}

fn read(address: u64) -> u32 {
    // SAFETY: the addresses in this file are those of the APICs' registers on every PC; they are
    // identity-mapped and uncached, and are no memory.
    unsafe { ptr::read_volatile(ptr::with_exposed_provenance(address as usize)) }
}

fn write(address: u64, value: u32) {
    // SAFETY: as for `read`.
    unsafe { ptr::write_volatile(ptr::with_exposed_provenance_mut(address as usize), value) }
}
