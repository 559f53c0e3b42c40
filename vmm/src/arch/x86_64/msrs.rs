//! Model-specific registers, as a PC's firmware leaves them on every CPU: kernels look at these and
//! go without what they find switched off. All others keep what KVM gives them.

use kvm_bindings::{Msrs, kvm_msr_entry};
use kvm_ioctls::VcpuFd;

use crate::kvm::{KvmError, failed_to};

const MISC_ENABLE: u32 = 0x1a0;
/// `REP MOVS` and `REP STOS` move more than one element at a time.
const FAST_STRINGS: u64 = 1;

const MTRR_DEF_TYPE: u32 = 0x2ff;
/// The MTRRs are in use. Linux does without page attributes if not.
const MTRR_ENABLE: u64 = 1 << 11;
/// Memory of no other type is write-back.
const WRITE_BACK: u64 = 6;

/// Sets these registers of `vcpu`.
///
/// # Errors
/// Where KVM refuses.
pub fn set(vcpu: &VcpuFd) -> Result<(), KvmError> {
    let misc_enable = read(vcpu, MISC_ENABLE)?;
    write(vcpu, MISC_ENABLE, misc_enable | FAST_STRINGS)?;
    write(vcpu, MTRR_DEF_TYPE, MTRR_ENABLE | WRITE_BACK)
}

fn read(vcpu: &VcpuFd, index: u32) -> Result<u64, KvmError> {
    let mut msrs = list(index, 0)?;
    let count = vcpu.get_msrs(&mut msrs).map_err(failed_to("tell an MSR"))?;
    match msrs.as_slice() {
        [msr] if count == 1 => Ok(msr.data),
        _ => Err(KvmError::Msr(index)),
    }
}

fn write(vcpu: &VcpuFd, index: u32, data: u64) -> Result<(), KvmError> {
    let count = vcpu
        .set_msrs(&list(index, data)?)
        .map_err(failed_to("set an MSR"))?;
    if count == 1 {
        Ok(())
    } else {
        Err(KvmError::Msr(index))
    }
}

/// The list of one register that KVM wants.
fn list(index: u32, data: u64) -> Result<Msrs, KvmError> {
    let entry = kvm_msr_entry {
        index,
        data,
        ..Default::default()
    };
    Msrs::from_entries(&[entry]).map_err(|_| KvmError::Msr(index))
}
