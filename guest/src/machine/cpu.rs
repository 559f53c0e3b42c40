//! What the CPU says of itself, its clock, and its interrupt flag.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, CpuidResult};

const HYPERVISOR: u32 = 1 << 31;
const HYPERVISOR_LEAF: u32 = 0x4000_0000;
const EXTENDED_LEAF: u32 = 0x8000_0000;
const MSR_TSC_DEADLINE: u32 = 0x6e0;
const BRAND_LEAVES: [u32; 3] = [0x8000_0002, 0x8000_0003, 0x8000_0004];

unsafe extern "C" {
    /// In `vectors.s`: lets interrupts in, and returns after the next one. To be called with
    /// interrupts held off; changes no register.
    pub fn wait_for_interrupt();
}

/// Lets interrupts in.
pub fn enable_interrupts() {
    // SAFETY: the caller has put the handlers in place; nothing here is undone by an interrupt.
    unsafe { asm!("sti", options(nostack)) }
}

/// Holds interrupts off.
pub fn disable_interrupts() {
    // SAFETY: nothing is touched but the interrupt flag.
    unsafe { asm!("cli", options(nostack)) }
}

/// Halts until interrupts have made `done` true, which is asked for with interrupts held off.
/// They are let in when this returns.
pub fn halt_until(done: impl FnMut() -> bool) {
    halt_held_off_until(done);
    enable_interrupts();
}

/// The same, but they are held off when this returns.
pub fn halt_held_off_until(mut done: impl FnMut() -> bool) {
    loop {
        // The interrupt may come between the look and the HLT, which would then sleep through
        // it. So it is held off while we look, and let in only when the CPU is halted.
        disable_interrupts();
        if done() {
            return;
        }
        // SAFETY: the handlers are in place.
        unsafe { wait_for_interrupt() }
    }
}

/// Halts for good: no interrupt is let in.
pub fn halt_for_good() -> ! {
    loop {
        // SAFETY: with interrupts off the CPU stops here; no memory is touched.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}

/// The time stamp counter. The CPU may read it a little before, or after, it does what is next to
/// it in the program.
pub fn ticks() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the counter is read, no memory. (Yet memory is not to be accessed on its other side.)
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nostack, preserves_flags)) }
    u64::from(high) << 32 | u64::from(low)
}

/// The time stamp counter, once everything before is done. What orders it is a MOV to CR2, which
/// every CPU does in order and no hypervisor intercepts: LFENCE is no instruction of a software
/// KVM, and CPUID leaves the guest.
pub fn ticks_in_order() -> u64 {
    // SAFETY: only the handler of a page fault reads CR2, and the fault writes it first.
    unsafe { asm!("mov cr2, {}", in(reg) 0u64, options(nostack, preserves_flags)) }
    ticks()
}

/// Has the timer of the local APIC, in its mode for that, fire at this moment of the TSC.
pub fn set_tsc_deadline(moment: u64) {
    // SAFETY: the caller has put the handler in place, and seen that the CPU has the register.
    unsafe {
        asm!(
            "wrmsr", in("ecx") MSR_TSC_DEADLINE,
            in("eax") moment as u32, in("edx") (moment >> 32) as u32,
            options(nostack, preserves_flags)
        );
    }
}

/// The vendor of the CPU, such as `GenuineIntel`.
pub fn vendor() -> [u8; 12] {
    let leaf = __cpuid(0);
    bytes([leaf.ebx, leaf.edx, leaf.ecx])
}

/// The name of the CPU, filled up with zeros; all zeros where it has none.
pub fn brand() -> [u8; 48] {
    if __cpuid(EXTENDED_LEAF).eax < BRAND_LEAVES[2] {
        return [0; 48];
    }
    let leaves = BRAND_LEAVES.map(|leaf| {
        let CpuidResult { eax, ebx, ecx, edx } = __cpuid(leaf);
        [eax, ebx, ecx, edx]
    });
    let mut brand = [0; 48];
    for (to, word) in brand.chunks_mut(4).zip(leaves.as_flattened()) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    brand
}

/// The signature of the hypervisor, such as `KVMKVMKVM` and zeros, if there is one.
pub fn hypervisor() -> Option<[u8; 12]> {
    if __cpuid(1).ecx & HYPERVISOR == 0 {
        return None;
    }
    let leaf = __cpuid(HYPERVISOR_LEAF);
    Some(bytes([leaf.ebx, leaf.ecx, leaf.edx]))
}

fn bytes(words: [u32; 3]) -> [u8; 12] {
    let mut bytes = [0; 12];
    for (to, word) in bytes.chunks_mut(4).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
