//! The initial RAM disk: where in RAM it goes, which is as high as the kernel takes it, out of the
//! way of what the kernel does first. What is in it is the kernel's business.

use std::io;
use std::path::Path;

use thiserror::Error;
use vm_memory::GuestMemoryMmap;

use super::{Image, Kernel, low_ram_end};
use crate::layout::{PAGE_SIZE, Range};

/// Why an initrd cannot be loaded.
#[derive(Debug, Error)]
pub enum InitrdError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// There is nothing to load.
    #[error("the file is empty")]
    Empty,
    /// There is too little RAM.
    #[error(
        "its {len} bytes do not fit into RAM from {start:#x}, where the kernel ends, to {end:#x}"
    )]
    TooLarge {
        /// Length of the initrd, in bytes.
        len: u64,
        /// First page after the kernel.
        start: u64,
        /// First address that the initrd cannot have.
        end: u64,
    },
}

/// Loads the file `path` into `memory`, where `kernel` has been loaded, and returns where it is.
pub fn load(path: &Path, memory: &GuestMemoryMmap, kernel: &Kernel) -> Result<Range, InitrdError> {
    let image = Image::open(path)?;
    if image.is_empty() {
        return Err(InitrdError::Empty);
    }
    let len = image.len();
    let limit = kernel.initrd_max.saturating_add(1);
    let end = low_ram_end(memory).min(limit);
    let start = kernel.end.next_multiple_of(PAGE_SIZE);
    let address = end
        .checked_sub(len)
        .map(|address| address & !(PAGE_SIZE - 1))
        .filter(|&address| address >= start)
        .ok_or(InitrdError::TooLarge { len, start, end })?;
    image.copy_to(0, len, memory, address)?;
    Ok(Range {
        start: address,
        len,
    })
}

#[cfg(test)]
#[path = "initrd_tests.rs"]
mod tests;
