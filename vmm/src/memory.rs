//! Guest RAM: anonymous memory of this process, laid out as `layout` says. KVM is told of it
//! elsewhere.

use std::io;

use thiserror::Error;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use crate::layout::{self, MAX_MEMORY};

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
        // Private and without reserve: guest RAM that is not touched costs nothing.
        let mapping = MmapRegion::new(len).map_err(|error| match error {
            MmapRegionError::Mmap(source) => MemoryError::Map { size, source },
            other => layout_error(other.to_string()),
        })?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(range.start))
            .ok_or_else(|| layout_error("it wraps the address space".into()))?;
        regions.push(region);
    }
    GuestMemoryMmap::from_regions(regions).map_err(|e| layout_error(e.to_string()))
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
