//! What the CPU says of itself, and its interrupt flag.

use core::arch::asm;
use core::arch::x86_64::{__cpuid, CpuidResult};

const HYPERVISOR: u32 = 1 << 31;
const HYPERVISOR_LEAF: u32 = 0x4000_0000;
const EXTENDED_LEAF: u32 = 0x8000_0000;
const BRAND_LEAVES: [u32; 3] = [0x8000_0002, 0x8000_0003, 0x8000_0004];

/// Lets interrupts in.
pub fn enable_interrupts() {
    // SAFETY: the caller has put the handlers in place; nothing here is undone by an interrupt.
    unsafe { asm!("sti", options(nostack)) }
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
