//! Access to a range of guest RAM. Nearly every range lies in one region, and is reached there
//! at once; vm-memory's iterators, which take several times as long, do the others.

use std::io;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileSlice};

/// Whether all of the `len` bytes from `addr` are RAM.
#[must_use]
pub fn is_ram(memory: &GuestMemoryMmap, addr: u64, len: u64) -> bool {
    let (Some(_), Ok(len)) = (addr.checked_add(len), usize::try_from(len)) else {
        return false;
    };
    let addr = GuestAddress(addr);
    memory.get_slice(addr, len).is_ok() || GuestMemoryBackend::check_range(memory, addr, len)
}

/// Appends to `slices` the host memory of the `len` bytes from `addr`: a slice for each region.
///
/// # Errors
/// A part of the range is not in RAM.
pub fn slices<'m>(
    memory: &'m GuestMemoryMmap,
    addr: GuestAddress,
    len: usize,
    slices: &mut Vec<VolatileSlice<'m>>,
) -> io::Result<()> {
    if let Ok(slice) = memory.get_slice(addr, len) {
        slices.push(slice);
        return Ok(());
    }
    for slice in GuestMemoryBackend::get_slices(memory, addr, len) {
        slices.push(slice.map_err(io::Error::other)?);
    }
    Ok(())
}

/// Fills `to` from `addr`. The guest may write the same bytes at the same time.
///
/// # Errors
/// A part of the range is not in RAM.
pub fn read(memory: &GuestMemoryMmap, addr: GuestAddress, to: &mut [u8]) -> io::Result<()> {
    match memory.get_slice(addr, to.len()) {
        Ok(slice) => {
            slice.copy_to(to);
            Ok(())
        }
        Err(_) => memory.read_slice(to, addr).map_err(io::Error::other),
    }
}

/// Writes `from` at `addr`.
///
/// # Errors
/// A part of the range is not in RAM.
pub fn write(memory: &GuestMemoryMmap, addr: GuestAddress, from: &[u8]) -> io::Result<()> {
    match memory.get_slice(addr, from.len()) {
        Ok(slice) => {
            slice.copy_from(from);
            Ok(())
        }
        Err(_) => memory.write_slice(from, addr).map_err(io::Error::other),
    }
}

#[cfg(test)]
#[path = "ram_tests.rs"]
mod tests;
