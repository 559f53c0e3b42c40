//! CPUID: what the host's KVM supports, which describes the host's CPU that was asked, changed to
//! describe the guest's one and only. Sets no feature that KVM does not support.

use kvm_bindings::kvm_cpuid_entry2;

/// Leaf 1, ECX: there is a hypervisor.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX: the package has more than one APIC id, and EBX says how many.
const HTT: u32 = 1 << 28;
/// Leaf 0x8000_0001, ECX: as HTT, in AMD's words.
const CMP_LEGACY: u32 = 1 << 1;
/// Leaves 0xb and 0x1f, ECX: the type of level that a subleaf is of.
const LEVEL_SMT: u32 = 1 << 8;
const LEVEL_CORE: u32 = 2 << 8;

/// Changes `entries` to describe a machine of a single CPU, whose APIC id is 0.
pub fn describe_single_cpu(entries: &mut [kvm_cpuid_entry2]) {
    for entry in entries {
        match entry.function {
            0x1 => {
                // Initial APIC id 0, one logical processor; the brand and the CLFLUSH size stay.
                entry.ebx = entry.ebx & 0xffff | 1 << 16;
                entry.ecx |= HYPERVISOR;
                entry.edx &= !HTT;
            }
            // Caches: shared by no other thread, in a package of one core.
            0x4 => entry.eax &= 0x3fff,
            0xb | 0x1f => {
                // Each level: one logical processor, no bits of the APIC id.
                let level = match entry.index {
                    0 => LEVEL_SMT,
                    1 => LEVEL_CORE,
                    _ => 0,
                };
                entry.eax = 0;
                entry.ebx = u32::from(level != 0);
                entry.ecx = level | entry.index;
                entry.edx = 0;
            }
            0x8000_0001 => entry.ecx &= !CMP_LEGACY,
            // One core, no bits of the APIC id for it.
            0x8000_0008 => entry.ecx &= !0xf0ff,
            // Caches: shared by no other thread.
            0x8000_001d => entry.eax &= 0x3fff,
            // Extended APIC id, compute unit and node: all 0, one of each.
            0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (0, 0, 0),
            _ => {}
        }
    }
}

/// Width of a physical address, in bits: 36 where CPUID does not say.
pub fn physical_address_bits(entries: &[kvm_cpuid_entry2]) -> u32 {
    let sizes = entries.iter().find(|entry| entry.function == 0x8000_0008);
    sizes.map_or(36, |entry| entry.eax & 0xff)
}
