//! Access to a range of guest RAM. Nearly every range lies in one region, and is reached there
//! at once; vm-memory's iterators, which take several times as long, do the others. A range that
//! is reached often is found once and held.

use std::io;
use std::sync::Arc;

use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MmapRegion,
    VolatileSlice,
};

/// A range of guest RAM in one region, which stays mapped for as long as this lives.
#[derive(Clone, Debug)]
pub struct HeldRange {
    mapping: Arc<MmapRegion>,
    /// Where the range begins in the mapping; all of its `len` bytes are inside.
    offset: usize,
    len: usize,
}

impl HeldRange {
    /// The `len` bytes from `addr`; `None` if they are not all RAM, or not in one region. Between
    /// two regions of a machine there is a hole, so that no RAM of the guest's is in two.
    #[must_use]
    pub fn new(memory: &GuestMemoryMmap, addr: u64, len: u64) -> Option<Self> {
        let (region, offset) = memory.to_region_addr(GuestAddress(addr))?;
        let end = offset.0.checked_add(len)?;
        (end <= region.len()).then_some(Self {
            mapping: region.get_mmap(),
            offset: usize::try_from(offset.0).ok()?,
            len: usize::try_from(len).ok()?,
        })
    }

    /// The bytes. The guest may write them at any time.
    #[must_use]
    pub fn slice(&self) -> VolatileSlice<'_> {
        let start = self.mapping.as_ptr().wrapping_add(self.offset);
        // SAFETY: `new` has checked that the `len` bytes from `offset` are in the mapping, and no
        // mapping changes its size. The mapping, which is readable and writable, lives as long as
        // `self`, and the slice cannot outlive the borrow of that. All access to guest RAM in this
        // process is volatile.
        unsafe { VolatileSlice::new(start, self.len) }
    }
}

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
