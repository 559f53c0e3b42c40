//! Guest RAM: anonymous memory of this process, laid out as `layout` says. KVM is told of it
//! elsewhere.

use std::io;

use thiserror::Error;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use crate::layout::{self, MAX_MEMORY};

/// Size of a huge page, in bytes.
const HUGE_PAGE_SIZE: usize = 2 << 20;

/// Why there is no guest RAM of the size asked for.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// KVM does not take that much.
    #[error("{size} bytes of guest RAM are more than the {MAX_MEMORY} that KVM takes")]
    TooLarge {
        /// Size of the RAM, in bytes.
        size: u64,
    },
    /// The host refused the mapping.
    #[error("the host has no room for {size} bytes of guest RAM: {source}")]
    Map {
        /// Size of the RAM, in bytes.
        size: u64,
        /// Why.
        source: io::Error,
    },
    /// The host does not leave it out of core files.
    #[error("cannot leave the guest's RAM out of core files: {0}")]
    Dump(io::Error),
    /// The ranges do not make a guest memory.
    #[error("{size} bytes of guest RAM cannot be laid out: {reason}")]
    Layout {
        /// Size of the RAM, in bytes.
        size: u64,
        /// Why.
        reason: String,
    },
}

/// `size` bytes of guest RAM, all zero. The host gives a page when it is first touched.
///
/// # Errors
/// Where this process cannot have that much address space, or KVM does not take it.
pub fn allocate(size: u64) -> Result<GuestMemoryMmap, MemoryError> {
    if size > MAX_MEMORY {
        return Err(MemoryError::TooLarge { size });
    }
    let layout_error = |reason: String| MemoryError::Layout { size, reason };
    let mut regions = Vec::new();
    for range in layout::ram(size) {
        let len = usize::try_from(range.len).map_err(|e| layout_error(e.to_string()))?;
        let mapping = map(len).map_err(|error| match error {
            MmapRegionError::Mmap(source) => MemoryError::Map { size, source },
            other => layout_error(other.to_string()),
        })?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(range.start))
            .ok_or_else(|| layout_error("it wraps the address space".into()))?;
        regions.push(region);
    }
    GuestMemoryMmap::from_regions(regions).map_err(|e| layout_error(e.to_string()))
}

/// Has a core file of this process hold nothing of `memory`.
///
/// # Errors
/// Where the host refuses.
pub fn leave_out_of_cores(memory: &GuestMemoryMmap) -> Result<(), MemoryError> {
    for region in memory.iter() {
        // SAFETY: the range is the mapping of `region`, which lives, and whose content stays.
        if unsafe { libc::madvise(region.as_ptr().cast(), region.size(), libc::MADV_DONTDUMP) } != 0
        {
            return Err(MemoryError::Dump(io::Error::last_os_error()));
        }
    }
    Ok(())
}

/// `len` bytes, private and without reserve: what is not touched costs nothing.
///
/// They begin where a huge page can, if the host's choice of addresses allows: KVM then maps 2 MiB
/// at a time, where else each 4 KiB that the guest touches first cost an exit.
fn map(len: usize) -> Result<MmapRegion, MmapRegionError> {
    let first = MmapRegion::new(len)?;
    let out_of_line = first.as_ptr() as usize % HUGE_PAGE_SIZE;
    if out_of_line == 0 {
        return Ok(first);
    }
    // The host maps from high addresses to low ones: what comes next lies right below the filler,
    // which is as long, so that it falls into the same gap.
    drop(first);
    let filler = MmapRegion::<()>::new(len.next_multiple_of(HUGE_PAGE_SIZE) + out_of_line);
    let second = MmapRegion::new(len);
    drop(filler);
    second
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
