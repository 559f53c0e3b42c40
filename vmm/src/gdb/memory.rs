//! Guest memory by virtual address, as the page tables of a vCPU have it. All of a range or nothing:
//! what is not mapped, or is no RAM, is an error.

use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::layout::PAGE_SIZE;

/// Not all of a range is mapped RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotRam;

/// Where the virtual address `address` of `vcpu` is, if it is mapped.
#[must_use]
pub fn translate(vcpu: &VcpuFd, address: u64) -> Option<GuestAddress> {
    let page = vcpu.translate_gva(address).ok()?;
    (page.valid != 0).then_some(GuestAddress(page.physical_address))
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
