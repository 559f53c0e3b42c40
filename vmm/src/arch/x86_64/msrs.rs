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
    write(
        vcpu,
        &[
            entry(MISC_ENABLE, misc_enable | FAST_STRINGS),
            entry(MTRR_DEF_TYPE, MTRR_ENABLE | WRITE_BACK),
        ],
    )
}

fn read(vcpu: &VcpuFd, index: u32) -> Result<u64, KvmError> {
    let mut msrs = list(&[entry(index, 0)])?;
    let count = vcpu.get_msrs(&mut msrs).map_err(failed_to("tell an MSR"))?;
    match msrs.as_slice() {
        [msr] if count == 1 => Ok(msr.data),
        _ => Err(KvmError::Msr(index)),
    }
}

/// Writes all of `entries`, in one call: each is an entry to the vCPU, and many exits on a host that
/// is a guest itself.
fn write(vcpu: &VcpuFd, entries: &[kvm_msr_entry]) -> Result<(), KvmError> {
    let count = vcpu
        .set_msrs(&list(entries)?)
        .map_err(failed_to("set an MSR"))?;
    check_taken(entries, count)
}

/// Sees that KVM has taken all of `entries`, if it has taken the first `count`: it stops at one that it
/// does not take.
fn check_taken(entries: &[kvm_msr_entry], count: usize) -> Result<(), KvmError> {
    match entries.get(count) {
        None => Ok(()),
        Some(refused) => Err(KvmError::Msr(refused.index)),
    }
}

fn entry(index: u32, data: u64) -> kvm_msr_entry {
    kvm_msr_entry {
        index,
        data,
        ..Default::default()
    }
}

/// The list that KVM wants.
fn list(entries: &[kvm_msr_entry]) -> Result<Msrs, KvmError> {
    let first = entries.first().map_or(0, |entry| entry.index);
    Msrs::from_entries(entries).map_err(|_| KvmError::Msr(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_msrs_the_first_that_is_not_taken_is_named() {
        let entries = [entry(MISC_ENABLE, 1), entry(MTRR_DEF_TYPE, 6)];
        for (taken, name) in [(0, "0x1a0"), (1, "0x2ff")] {
            let error = check_taken(&entries, taken).unwrap_err().to_string();
            assert!(error.ends_with(name), "{error}");
        }
        check_taken(&entries, 2).unwrap();
    }
}
