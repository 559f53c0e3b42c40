//! The interrupt controllers: the old PICs switched off, the local APIC switched on, and the
//! IOAPIC's pins routed to vectors. A GSI is the number of a pin. Knows nothing of who interrupts.

use core::arch::asm;
use core::ptr;

use super::descriptors::{FIRST_INTERRUPT, SPURIOUS};
use super::port::out8;

const PIC_DATA: [u16; 2] = [0x21, 0xa1];

const MSR_APIC_BASE: u32 = 0x1b;
const APIC_ENABLE: u64 = 1 << 11;

const LOCAL_APIC: u64 = 0xfee0_0000;
const LOCAL_ID: u64 = LOCAL_APIC + 0x20;
const LOCAL_EOI: u64 = LOCAL_APIC + 0xb0;
const LOCAL_SPURIOUS: u64 = LOCAL_APIC + 0xf0;
const SOFTWARE_ENABLE: u32 = 1 << 8;

const IO_APIC: u64 = 0xfec0_0000;
const IO_SELECT: u64 = IO_APIC;
const IO_WINDOW: u64 = IO_APIC + 0x10;
/// The first register of the redirection table; each pin has two.
const IO_REDIRECTION: u32 = 0x10;

/// Switches the PICs off and the local APIC on.
pub fn init() {
    for port in PIC_DATA {
        out8(port, 0xff);
    }
    // SAFETY: the local APIC is enabled where it already is: nothing else changes.
    unsafe {
        let (low, high): (u32, u32);
        asm!(
            "rdmsr", in("ecx") MSR_APIC_BASE, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags)
        );
        let base = u64::from(low) | u64::from(high) << 32 | APIC_ENABLE;
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
    write(LOCAL_EOI, 0);
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
