//! A bzImage, the compressed form in which distributions ship Linux: its setup header says where
//! it wants to be loaded, and it is entered in 64-bit mode with `boot_params` in RSI. (The kernel's
//! Documentation/arch/x86/boot.rst, "64-bit Boot Protocol".)

use std::ffi::CStr;

use linux_loader::loader::bootparam::{XLF_KERNEL_64, setup_header};
use thiserror::Error;
use vm_memory::{ByteValued, GuestMemoryMmap};

use super::{BootState, CpuMode, Image, Kernel, LoadError, low_ram_end};
use crate::layout;

/// Where the setup header starts in the file, as in `boot_params`.
const HEADER_START: u64 = 0x1f1;
/// Where `boot_flag` is in the file.
const BOOT_FLAG_OFFSET: u64 = 0x1fe;
/// Where the setup header's jump over itself counts from.
const HEADER_JUMP_BASE: u64 = 0x202;
/// End of the fields up to `init_size`, the last one that is needed here.
const HEADER_END_MIN: u64 = 0x264;
/// The first version of the protocol that has a 64-bit entry point.
const VERSION_MIN: u16 = 0x020c;
/// Size of a sector, the unit of `setup_sects`, in bytes.
const SECTOR: u64 = 512;
/// What `setup_sects` means when it is 0.
const SETUP_SECTS_DEFAULT: u8 = 4;
/// Size of a paragraph, the unit of `syssize`, in bytes.
const PARAGRAPH: u64 = 16;
/// Offset of the 64-bit entry point from where the kernel is loaded.
const ENTRY_64: u64 = 0x200;

/// Why a bzImage cannot be booted. Addresses and lengths are in bytes.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BzImageError {
    /// The file ends too early.
    #[error("truncated: the file of {len} bytes ends inside {what}")]
    Truncated {
        /// Where it ends.
        what: &'static str,
        /// Length of the file.
        len: u64,
    },
    /// The setup header lacks fields that its version of the protocol has.
    #[error("its setup header ends at {0:#x}, before init_size")]
    ShortHeader(u64),
    /// Older than the 64-bit entry point.
    #[error(
        "it speaks version {}.{:02} of the Linux boot protocol; the 64-bit entry came with 2.12",
        .0 >> 8, .0 & 0xff
    )]
    TooOld(u16),
    /// A 32-bit kernel.
    #[error("it has no 64-bit entry point (XLF_KERNEL_64): only 64-bit kernels can be booted")]
    No64BitEntry,
    /// The kernel itself is too short to have an entry point.
    #[error("its kernel is {0} bytes long, too short to have an entry point")]
    NoCode(u64),
    /// It would be loaded over the boot data or the ACPI tables.
    #[error("it wants to be loaded at {0:#x}, below 1 MiB")]
    LoadAddress(u64),
    /// There is too little RAM.
    #[error("it needs RAM from {start:#x} to {end:#x}, and RAM ends at {ram_end:#x}")]
    NoRam {
        /// Where it wants to be loaded.
        start: u64,
        /// First address after what it needs to unpack itself.
        end: u64,
        /// First address after RAM below the hole.
        ram_end: u64,
    },
    /// The kernel would cut the command line off.
    #[error("it takes a command line of {max} bytes, and this one has {len}")]
    Cmdline {
        /// Length of the command line.
        len: usize,
        /// `cmdline_size`.
        max: u32,
    },
}

/// Loads `image` into `memory`; `None` where it is no bzImage at all.
pub fn load(
    image: &Image<'_>,
    memory: &GuestMemoryMmap,
    cmdline: &CStr,
) -> Result<Option<Kernel>, LoadError> {
    let Some(header) = setup_header(image)? else {
        return Ok(None);
    };
    let max = header.cmdline_size;
    let len = cmdline.count_bytes();
    if len as u64 > max.into() {
        return Err(BzImageError::Cmdline { len, max }.into());
    }

    let setup_sects = match header.setup_sects {
        0 => SETUP_SECTS_DEFAULT,
        sectors => sectors,
    };
    let offset = (u64::from(setup_sects) + 1) * SECTOR;
    let len = u64::from(header.syssize) * PARAGRAPH;
    if len <= ENTRY_64 {
        return Err(BzImageError::NoCode(len).into());
    }
    if !image.holds(offset, len) {
        let what = "the kernel (syssize)";
        let len = image.len();
        return Err(BzImageError::Truncated { what, len }.into());
    }

    // Where a kernel is loaded lower than it prefers, it moves itself up there.
    let start = header.pref_address;
    if start < layout::LEGACY_END {
        return Err(BzImageError::LoadAddress(start).into());
    }
    let end = start.saturating_add(len.max(header.init_size.into()));
    let ram_end = low_ram_end(memory);
    if end > ram_end {
        return Err(BzImageError::NoRam {
            start,
            end,
            ram_end,
        }
        .into());
    }
    image.copy_to(offset, len, memory, start)?;
    Ok(Some(Kernel {
        state: BootState {
            mode: CpuMode::Long64,
            rip: start + ENTRY_64,
            rsp: layout::BOOT_STACK_TOP,
            rbx: layout::START_INFO,
            rsi: layout::BOOT_PARAMS,
        },
        end,
        initrd_max: header.initrd_addr_max.into(),
        setup_header: Some(header),
    }))
}

/// The setup header of `image`, of a version and kind that can be booted; `None` where there is
/// no setup header.
fn setup_header(image: &Image<'_>) -> Result<Option<setup_header>, LoadError> {
    if !image.holds(BOOT_FLAG_OFFSET, 8) {
        return Ok(None);
    }
    // `boot_flag`, a jump over the header, and `header`.
    let [0x55, 0xaa, _, jump, b'H', b'd', b'r', b'S'] = image.read(BOOT_FLAG_OFFSET, 8)?[..] else {
        return Ok(None);
    };
    let end = HEADER_JUMP_BASE + u64::from(jump);
    if end > image.len() {
        let what = "the setup header";
        let len = image.len();
        return Err(BzImageError::Truncated { what, len }.into());
    }
    // What this kernel's version of the header lacks is 0.
    let mut header = setup_header::default();
    let room = header.as_mut_slice();
    let len = room.len().min((end - HEADER_START) as usize);
    for (to, from) in room.iter_mut().zip(image.read(HEADER_START, len)?) {
        *to = from;
    }

    if header.version < VERSION_MIN {
        return Err(BzImageError::TooOld(header.version).into());
    }
    if end < HEADER_END_MIN {
        return Err(BzImageError::ShortHeader(end).into());
    }
    if header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(BzImageError::No64BitEntry.into());
    }
    Ok(Some(header))
}

#[cfg(test)]
#[path = "bzimage_tests.rs"]
mod tests;
