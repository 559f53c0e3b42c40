//! CPUID: what the host's KVM supports, which describes the host's CPU that was asked, changed to
//! describe one of the guest's: its APIC id, the machine it is part of, and its clock. Sets no
//! feature that KVM does not support.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Leaf 1, ECX: the local APIC's timer can be set to a value of the TSC.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1, ECX: there is a hypervisor.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX: the package has more than one APIC id, and EBX says how many.
const HTT: u32 = 1 << 28;
/// Leaf 0x8000_0001, ECX: as HTT, in AMD's words.
const CMP_LEGACY: u32 = 1 << 1;
/// Leaves 4 and 0x8000_001d (AMD), EAX: the type of a cache, 0 behind the last one.
const CACHE_TYPE: u32 = 0x1f;
/// In the same: how many APIC ids there are for the CPUs that share the cache, less one.
const CACHE_SHARING: u32 = 0xfff << 14;
/// Leaf 4, EAX: how many APIC ids there are for the cores of the package, less one.
const CORE_IDS: u32 = 0x3f << 26;

/// The leaves that enumerate the levels of the topology: the older one, and its extension.
const TOPOLOGY_LEAVES: [u32; 2] = [0xb, 0x1f];
/// Types of a level, in ECX.
const LEVEL_SMT: u32 = 1 << 8;
const LEVEL_CORE: u32 = 2 << 8;

/// How the names of the vendors begin whose CPUs follow AMD's manual.
const AMD: [[u8; 4]; 2] = [*b"Auth", *b"Hygo"];

/// The TSC's frequency, as a ratio to that of the APIC timer's clock.
const TSC_RATIO_LEAF: u32 = 0x15;
/// The first of KVM's leaves: EAX is the last.
const KVM_SIGNATURE_LEAF: u32 = 0x4000_0000;
/// The frequencies of the TSC and of the APIC timer's clock, in kHz: VMware's leaf, which guests
/// look for under KVM too.
const TIMING_LEAF: u32 = 0x4000_0010;
/// Frequency of the APIC timer's clock under KVM, in kHz.
const APIC_BUS_KHZ: u32 = 1_000_000;

/// One CPU of the guest. They are cores of a single thread each, in one package, and share its
/// last level of cache.
#[derive(Clone, Copy, Debug)]
pub struct GuestCpu {
    /// Its APIC id: from 0 to `count` - 1.
    pub apic_id: u32,
    /// How many CPUs the guest has, 1 to 255.
    pub count: u32,
    /// Frequency of its TSC, in kHz; `None` where the host's is not stable.
    pub tsc_khz: Option<u32>,
}

impl GuestCpu {
    /// How many bits of an APIC id tell the cores of the package apart.
    fn core_bits(self) -> u32 {
        self.count.next_power_of_two().trailing_zeros()
    }

    /// The highest APIC id of those bits.
    fn last_id(self) -> u32 {
        (1 << self.core_bits()) - 1
    }
}

/// Adds to the features that KVM supports the one that it tells of by KVM_CAP_TSC_DEADLINE_TIMER.
pub fn add_tsc_deadline(entries: &mut [kvm_cpuid_entry2]) {
    for entry in entries.iter_mut().filter(|entry| entry.function == 1) {
        entry.ecx |= TSC_DEADLINE;
    }
}

/// The CPUID of `cpu`, where KVM supports the leaves `supported`.
pub fn describe(supported: &[kvm_cpuid_entry2], cpu: GuestCpu) -> Vec<kvm_cpuid_entry2> {
    let basic = supported.iter().find(|entry| entry.function == 0);
    let last_basic_leaf = basic.map_or(0, |basic| basic.eax);
    let is_amd = basic.is_some_and(|basic| AMD.contains(&basic.ebx.to_le_bytes()));

    let mut entries: Vec<_> = supported
        .iter()
        .filter(|entry| !TOPOLOGY_LEAVES.contains(&entry.function))
        .map(|entry| on_cpu(*entry, cpu, is_amd))
        .collect();
    for leaf in TOPOLOGY_LEAVES {
        if leaf <= last_basic_leaf {
            entries.extend(topology(leaf, cpu));
        }
    }
    if let Some(khz) = cpu.tsc_khz {
        tell_frequency(&mut entries, khz);
    }
    entries
}

/// What the leaf `entry` is on `cpu`.
fn on_cpu(mut entry: kvm_cpuid_entry2, cpu: GuestCpu, is_amd: bool) -> kvm_cpuid_entry2 {
    match entry.function {
        0x1 => {
            // The brand and the CLFLUSH size stay.
            entry.ebx = entry.ebx & 0xffff | cpu.count << 16 | cpu.apic_id << 24;
            entry.ecx |= HYPERVISOR;
            entry.edx = with(entry.edx, HTT, cpu.count > 1);
        }
        0x4 if entry.eax & CACHE_TYPE != 0 => {
            let core_ids = cpu.last_id().min(0x3f) << 26;
            entry.eax = shared_cache(entry.eax, cpu) & !CORE_IDS | core_ids;
        }
        0x8000_0001 if is_amd => entry.ecx = with(entry.ecx, CMP_LEGACY, cpu.count > 1),
        // Bits of an APIC id that tell cores apart, and the number of cores less one.
        0x8000_0008 if is_amd => {
            entry.ecx = entry.ecx & !0xf0ff | cpu.core_bits() << 12 | (cpu.count - 1);
        }
        0x8000_001d if entry.eax & CACHE_TYPE != 0 => entry.eax = shared_cache(entry.eax, cpu),
        // APIC id; id of the core, which has one thread; node 0, the only one.
        0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (cpu.apic_id, cpu.apic_id, 0),
        _ => {}
    }
    entry
}

fn with(register: u32, bit: u32, set: bool) -> u32 {
    if set { register | bit } else { register & !bit }
}

/// EAX of a leaf about a cache: the third level belongs to the package, others to one core each.
fn shared_cache(eax: u32, cpu: GuestCpu) -> u32 {
    let is_shared = eax >> 5 & 7 >= 3;
    let sharing = if is_shared { cpu.last_id() } else { 0 };
    eax & !CACHE_SHARING | sharing << 14
}

/// The leaf `function`, 0xb or 0x1f: of each level of the topology, how far right an APIC id is
/// to be shifted to tell the next level's units apart, and how many CPUs a unit of it has.
fn topology(function: u32, cpu: GuestCpu) -> [kvm_cpuid_entry2; 3] {
    let level = |index, shift, cpus, level_type| kvm_cpuid_entry2 {
        function,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: cpus,
        ecx: level_type | index,
        edx: cpu.apic_id,
        ..Default::default()
    };
    [
        level(0, 0, 1, LEVEL_SMT),
        level(1, cpu.core_bits(), cpu.count, LEVEL_CORE),
        level(2, 0, 0, 0),
    ]
}

/// Adds that the TSC counts `khz` thousands a second, so that no guest need find out.
fn tell_frequency(entries: &mut Vec<kvm_cpuid_entry2>, khz: u32) {
    for entry in entries.iter_mut() {
        match entry.function {
            // The clock of the timer in Hz, and the ratio of the TSC to it.
            TSC_RATIO_LEAF => {
                (entry.eax, entry.ebx) = (APIC_BUS_KHZ, khz);
                entry.ecx = APIC_BUS_KHZ * 1000;
            }
            KVM_SIGNATURE_LEAF => entry.eax = entry.eax.max(TIMING_LEAF),
            _ => {}
        }
    }
    entries.push(kvm_cpuid_entry2 {
        function: TIMING_LEAF,
        eax: khz,
        ebx: APIC_BUS_KHZ,
        ..Default::default()
    });
}

/// Width of a physical address, in bits: 36 where CPUID does not say.
pub fn physical_address_bits(entries: &[kvm_cpuid_entry2]) -> u32 {
    let sizes = entries.iter().find(|entry| entry.function == 0x8000_0008);
    sizes.map_or(36, |entry| entry.eax & 0xff)
}

#[cfg(test)]
#[path = "cpuid_tests.rs"]
mod tests;
