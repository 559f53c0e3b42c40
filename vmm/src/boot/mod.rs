//! Loads a kernel into guest RAM and says with which registers it is to be entered. One file per
//! protocol, chosen by the image's content. Touches guest RAM alone: registers are `arch`'s.

mod boot_params;
mod bzimage;
mod elf;
mod flat;
mod image;
mod initrd;
mod linux64;
mod pvh;
mod reset_vector;
mod start_info;

use std::ffi::CStr;
use std::io;
use std::path::Path;

use linux_loader::loader::bootparam::setup_header;
use spec::board::HOLE_START;
use thiserror::Error;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap, GuestMemoryRegion,
};

pub use image::Image;
pub use initrd::InitrdError;

use crate::layout::{self, MemoryType, Range};

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
    /// The command line cannot be written into guest RAM.
    #[error("writing the command line into guest RAM: {0}")]
    Cmdline(#[from] GuestMemoryError),
    /// There is nothing to load.
    #[error("the file is empty")]
    Empty,
    /// The file begins like something that no machine boots.
    #[error("no kernel: it begins like {0}")]
    NoKernel(&'static str),
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
    /// The file begins like a bzImage, but is not one that can be booted.
    #[error("not a bootable bzImage: {0}")]
    BzImage(#[from] bzimage::BzImageError),
}

/// A kernel in guest RAM, which has not been told of the machine yet.
#[derive(Debug)]
pub struct Kernel {
    state: BootState,
    /// First address after what the kernel takes up until it knows of an initrd.
    end: u64,
    /// Highest address that a byte of the initrd may have.
    initrd_max: u64,
    /// What `boot_params` begins with, where the protocol has them.
    setup_header: Option<setup_header>,
}

/// Loads the kernel `image` and `cmdline` into `memory`.
///
/// # Errors
/// Where the image is not one that can be loaded, see [`LoadError`]. `memory` may then hold parts
/// of it.
pub fn load(
    image: &Image<'_>,
    memory: &GuestMemoryMmap,
    cmdline: &CStr,
) -> Result<Kernel, LoadError> {
    if image.is_empty() {
        return Err(LoadError::Empty);
    }
    memory.write_slice(cmdline.to_bytes_with_nul(), GuestAddress(layout::CMDLINE))?;

    if let Some(elf) = elf::Elf::parse(image)? {
        elf.load(image, memory)?;
        let (state, setup_header) = match pvh::entry(&elf, image)? {
            Some(entry) => (pvh::boot_state(entry), None),
            None => (
                linux64::boot_state(&elf)?,
                Some(linux64::setup_header(cmdline)),
            ),
        };
        return Ok(Kernel {
            state,
            end: elf.end(),
            initrd_max: u32::MAX.into(),
            setup_header,
        });
    }
    match bzimage::load(image, memory, cmdline)? {
        Some(kernel) => Ok(kernel),
        None => flat::load(image, memory),
    }
}

impl Kernel {
    /// Loads the initrd `path` into `memory`, which holds this kernel, and returns where it is.
    ///
    /// # Errors
    /// Where it cannot be read, or there is no room for it.
    pub fn load_initrd(&self, path: &Path, memory: &GuestMemoryMmap) -> Result<Range, InitrdError> {
        initrd::load(path, memory, self)
    }

    /// Writes into `memory` what the kernel's protocol promises, and returns how the kernel is to
    /// be entered.
    ///
    /// # Errors
    /// Where there is no RAM for it.
    pub fn tell_of_machine(
        &self,
        memory: &GuestMemoryMmap,
        initrd: Option<Range>,
    ) -> Result<BootState, GuestMemoryError> {
        reset_vector::write(memory)?;
        start_info::write(memory, initrd)?;
        if let Some(header) = &self.setup_header {
            boot_params::write(memory, header, initrd)?;
        }
        Ok(self.state)
    }
}

/// The memory map that a kernel is told of.
fn memory_map(memory: &GuestMemoryMmap) -> Vec<(Range, MemoryType)> {
    layout::memory_map(memory.iter().map(|region| region.len()).sum())
}

/// First address after RAM below the hole.
fn low_ram_end(memory: &GuestMemoryMmap) -> u64 {
    memory.last_addr().0.saturating_add(1).min(HOLE_START)
}

#[cfg(test)]
mod test_bzimage;
#[cfg(test)]
mod test_elf;
#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
