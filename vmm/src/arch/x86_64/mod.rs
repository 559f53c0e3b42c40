//! Makes a vCPU what a guest finds: CPUID and MSRs, and on the one that boots the registers of a
//! [`BootState`], with the tables in guest RAM that they point to. The only place that sets
//! registers; which ones a protocol asks for is `boot`'s to say.

mod cpuid;
mod msrs;
mod paging;
mod segments;

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_regs};
use kvm_ioctls::{Cap, Kvm, VcpuFd};
use vm_memory::{GuestMemoryError, GuestMemoryMmap};

use crate::boot::{BootState, CpuMode};
use crate::kvm::{KvmError, failed_to};
use cpuid::GuestCpu;

/// Protected mode is on.
const CR0_PE: u64 = 1;
/// There is an x87 FPU; fixed to 1 on every CPU of today.
const CR0_ET: u64 = 1 << 4;
/// Paging is on.
const CR0_PG: u64 = 1 << 31;
/// Page table entries are 64 bits wide, as long mode needs them.
const CR4_PAE: u64 = 1 << 5;
/// Long mode is enabled.
const EFER_LME: u64 = 1 << 8;
/// Long mode is active: enabled, and paging is on.
const EFER_LMA: u64 = 1 << 10;
/// The bit of RFLAGS that is always 1. Interrupts are off.
const RFLAGS_RESERVED: u64 = 1 << 1;

/// Writes into `memory` the tables that [`set_registers`] points the vCPU to.
///
/// # Errors
/// Where there is no RAM for them.
pub fn write_tables(memory: &GuestMemoryMmap, mode: CpuMode) -> Result<(), GuestMemoryError> {
    segments::write(memory, mode)?;
    match mode {
        CpuMode::Protected32 => Ok(()),
        CpuMode::Long64 => paging::write(memory),
    }
}

/// The CPUID leaves that the host's KVM supports.
///
/// # Errors
/// Where KVM refuses.
pub fn supported_cpuid(kvm: &Kvm) -> Result<CpuId, KvmError> {
    let mut supported = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(failed_to("say which CPUID it supports"))?;
    if kvm.check_extension(Cap::TscDeadlineTimer) {
        cpuid::add_tsc_deadline(supported.as_mut_slice());
    }
    Ok(supported)
}

/// Width of a physical address of a CPU with this CPUID, in bits.
#[must_use]
pub fn physical_address_bits(cpuid: &CpuId) -> u32 {
    cpuid::physical_address_bits(cpuid.as_slice())
}

/// Makes `vcpu` CPU `index` of `count`, with the CPUID that it has among what KVM supports, and
/// sets its MSRs.
///
/// # Errors
/// Where KVM refuses.
pub fn set_up(vcpu: &VcpuFd, supported: &CpuId, index: u8, count: u8) -> Result<(), KvmError> {
    let cpu = GuestCpu {
        apic_id: index.into(),
        count: count.into(),
        tsc_khz: tsc_khz(vcpu)?,
    };
    let entries = cpuid::describe(supported.as_slice(), cpu);
    let cpuid = CpuId::from_entries(&entries).map_err(|_| KvmError::LongCpuid(entries.len()))?;
    vcpu.set_cpuid2(&cpuid)
        .map_err(failed_to("set the CPUID"))?;
    msrs::set(vcpu)
}

/// Frequency of the TSC of `vcpu`, in kHz; `None` where the host's is not stable.
///
/// # Errors
/// Where KVM refuses.
pub fn tsc_khz(vcpu: &VcpuFd) -> Result<Option<u32>, KvmError> {
    match vcpu.get_tsc_khz() {
        Ok(khz) => Ok(Some(khz)),
        Err(error) if error.errno() == libc::EIO => Ok(None),
        Err(error) => Err(failed_to("tell the frequency of the TSC")(error)),
    }
}

/// Sets the registers of `vcpu`, the one that boots, to `state`. The tables must have been
/// written. All other vCPUs wait as after a reset, until the guest starts them by INIT and SIPI.
///
/// # Errors
/// Where KVM refuses.
pub fn set_registers(vcpu: &VcpuFd, state: &BootState) -> Result<(), KvmError> {
    let mut sregs = vcpu
        .get_sregs()
        .map_err(failed_to("tell the segment registers"))?;
    segments::set(&mut sregs, state.mode);
    match state.mode {
        CpuMode::Protected32 => {
            sregs.cr0 = CR0_PE | CR0_ET;
            sregs.cr4 = 0;
            sregs.efer = 0;
        }
        CpuMode::Long64 => {
            sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
            sregs.cr3 = paging::ROOT;
            sregs.cr4 = CR4_PAE;
            sregs.efer = EFER_LME | EFER_LMA;
        }
    }
    vcpu.set_sregs(&sregs)
        .map_err(failed_to("set the segment and control registers"))?;

    let regs = kvm_regs {
        rip: state.rip,
        rsp: state.rsp,
        rbx: state.rbx,
        rsi: state.rsi,
        rflags: RFLAGS_RESERVED,
        ..Default::default()
    };
    vcpu.set_regs(&regs)
        .map_err(failed_to("set the general registers"))
}

#[cfg(test)]
#[path = "x86_64_tests.rs"]
mod tests;
