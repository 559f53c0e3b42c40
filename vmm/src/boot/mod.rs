//! Loads a kernel into guest RAM and says with which registers it is to be entered. One file per
//! protocol, chosen by the image's content. Touches guest RAM alone: registers are `arch`'s.

mod elf;
mod flat;
mod image;
mod linux64;
mod pvh;
mod start_info;

use std::ffi::CStr;
use std::io;

use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

pub use image::Image;

use crate::layout;

/// How a kernel is to be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootState {
    /// The mode of the CPU.
    pub mode: CpuMode,
    /// Instruction pointer: guest-physical, which is also virtual in either mode.
    pub rip: u64,
    /// Stack pointer; 0 where the protocol leaves the stack to the kernel.
    pub rsp: u64,
    /// RBX: guest-physical address of `hvm_start_info`.
    pub rbx: u64,
    /// RSI: guest-physical address of `boot_params`; 0 where the protocol has none.
    pub rsi: u64,
}

/// The mode a CPU is in when the kernel is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuMode {
    /// Flat 32-bit segments, paging off.
    Protected32,
    /// 64-bit code, with the first 4 GiB mapped to themselves.
    Long64,
}

/// Why a kernel cannot be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The image cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// The VMM's own data cannot be written into guest RAM.
    #[error("writing the boot data into guest RAM: {0}")]
    BootData(#[from] GuestMemoryError),
    /// There is nothing to load.
    #[error("the file is empty")]
    Empty,
    /// A flat binary is longer than the RAM from 1 MiB on.
    #[error("a flat binary of {len} bytes does not fit into the {room} bytes of RAM from 1 MiB on")]
    FlatTooLarge {
        /// Length of the binary.
        len: u64,
        /// Length of the RAM.
        room: u64,
    },
    /// The file begins like an ELF, but is not one that can be booted.
    #[error("not a bootable ELF: {0}")]
    Elf(#[from] elf::ElfError),
}

/// Loads the kernel `image` into `memory`, with `cmdline` and what else its protocol promises.
///
/// # Errors
/// Where the image is not one that can be loaded, see [`LoadError`]. `memory` may then hold parts
/// of it.
pub fn load(
    image: &Image<'_>,
    memory: &GuestMemoryMmap,
    cmdline: &CStr,
) -> Result<BootState, LoadError> {
    if image.is_empty() {
        return Err(LoadError::Empty);
    }
    memory.write_slice(cmdline.to_bytes_with_nul(), GuestAddress(layout::CMDLINE))?;
    start_info::write(memory)?;

    let Some(elf) = elf::Elf::parse(image)? else {
        return flat::load(image, memory);
    };
    elf.load(image, memory)?;
    match pvh::entry(&elf, image)? {
        Some(entry) => Ok(pvh::boot_state(entry)),
        None => linux64::prepare(&elf, memory, cmdline),
    }
}

/// The ranges of RAM that a kernel is told of.
fn usable_ram(memory: &GuestMemoryMmap) -> Vec<layout::Range> {
    use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};
    layout::usable_ram(memory.iter().map(|region| region.len()).sum())
}

#[cfg(test)]
mod test_elf;
#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
