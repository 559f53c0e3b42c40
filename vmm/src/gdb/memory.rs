//! Guest memory by virtual address, as the page tables of a vCPU have it. All of a range or nothing:
//! what is not mapped, or is no RAM, is an error.

use kvm_bindings::kvm_sregs;
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::layout::PAGE_SIZE;

/// Not all of a range is mapped RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRam;

/// EFER.LMA: in long mode.
const EFER_LMA: u64 = 1 << 10;
/// CR4.LA57: page tables of five levels.
const CR4_LA57: u64 = 1 << 12;

/// Where the virtual address `address` of `vcpu` is, if it is mapped.
#[must_use]
pub fn translate(vcpu: &VcpuFd, address: u64) -> Option<GuestAddress> {
    if !is_virtual(address, &vcpu.get_sregs().ok()?) {
        return None;
    }
    let page = vcpu.translate_gva(address).ok()?;
    (page.valid != 0).then_some(GuestAddress(page.physical_address))
}

/// Whether a CPU with these registers has `address` at all: in long mode one that is canonical (SDM
/// volume 1, 3.3.7.1), elsewhere one of 32 bits. KVM_TRANSLATE looks at no more bits than the page
/// tables.
fn is_virtual(address: u64, sregs: &kvm_sregs) -> bool {
    if sregs.efer & EFER_LMA == 0 {
        return u32::try_from(address).is_ok();
    }
    let bits = if sregs.cr4 & CR4_LA57 == 0 { 48 } else { 57 };
    let from_sign = address.cast_signed() >> (bits - 1);
    [0, -1].contains(&from_sign)
}

/// Reads the bytes at the virtual address `address`.
///
/// # Errors
/// [`NotRam`].
pub fn read(
    vcpu: &VcpuFd,
    memory: &GuestMemoryMmap,
    address: u64,
    bytes: &mut [u8],
) -> Result<(), NotRam> {
    let mut rest = bytes;
    for (place, len) in places(vcpu, memory, address, rest.len())? {
        let (piece, after) = rest.split_at_mut_checked(len).ok_or(NotRam)?;
        memory.read_slice(piece, place).map_err(|_| NotRam)?;
        rest = after;
    }
    Ok(())
}

/// Writes `bytes` at the virtual address `address`, whether the guest may write there or not.
///
/// # Errors
/// [`NotRam`], and nothing has been written.
pub fn write(
    vcpu: &VcpuFd,
    memory: &GuestMemoryMmap,
    address: u64,
    bytes: &[u8],
) -> Result<(), NotRam> {
    let mut rest = bytes;
    for (place, len) in places(vcpu, memory, address, rest.len())? {
        let (piece, after) = rest.split_at_checked(len).ok_or(NotRam)?;
        memory.write_slice(piece, place).map_err(|_| NotRam)?;
        rest = after;
    }
    Ok(())
}

/// Where the parts of a range are that lie in one page each, if all are RAM. The end of a range is
/// an address too: the last byte of the address space is in none.
fn places(
    vcpu: &VcpuFd,
    memory: &GuestMemoryMmap,
    address: u64,
    len: usize,
) -> Result<Vec<(GuestAddress, usize)>, NotRam> {
    use vm_memory::GuestMemoryBackend;
    let end = address.checked_add(len as u64).ok_or(NotRam)?;
    let mut places = Vec::new();
    let mut start = address;
    while start < end {
        let page_end = (start | (PAGE_SIZE - 1)).saturating_add(1);
        let len = (page_end.min(end) - start) as usize;
        let place = translate(vcpu, start).ok_or(NotRam)?;
        if !memory.check_range(place, len) {
            return Err(NotRam);
        }
        places.push((place, len));
        start = page_end;
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_canonical_in_long_mode_and_has_32_bits_elsewhere() {
        let sregs = |efer, cr4| kvm_sregs {
            efer,
            cr4,
            ..Default::default()
        };
        for (sregs, last, first_high) in [
            (sregs(0, 0), 0xffff_ffff, None),
            (sregs(EFER_LMA, 0), (1 << 47) - 1, Some(!0 << 47)),
            (sregs(EFER_LMA, CR4_LA57), (1 << 56) - 1, Some(!0 << 56)),
        ] {
            assert!(is_virtual(0, &sregs));
            assert!(is_virtual(last, &sregs));
            assert!(!is_virtual(last + 1, &sregs), "{last:#x}");
            assert_eq!(is_virtual(u64::MAX, &sregs), first_high.is_some());
            if let Some(first) = first_high {
                assert!(is_virtual(first, &sregs));
                assert!(!is_virtual(first - 1, &sregs), "{first:#x}");
            }
        }
    }
}
