//! A flat binary: bytes at 1 MiB, entered at the first one in 64-bit mode with the address of
//! `hvm_start_info` in RBX. This project's own and simplest protocol. It has no mark of its own, so
//! what is plainly something else is refused.

use spec::board::FLAT_LOAD_ADDR;
use vm_memory::GuestMemoryMmap;

use super::{BootState, CpuMode, Image, Kernel, LoadError, low_ram_end};
use crate::layout;

/// How files begin that users take for kernels, and what they are.
const NO_KERNELS: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "gzip data (a kernel must be unpacked)"),
    (b"\xfd7zXZ\0", "xz data (a kernel must be unpacked)"),
    (b"\x28\xb5\x2f\xfd", "zstd data (a kernel must be unpacked)"),
    (b"\x02\x21\x4c\x18", "lz4 data (a kernel must be unpacked)"),
    (b"07070", "a cpio archive, like an initrd"),
    (b"MZ", "a PE executable"),
    (b"QFI\xfb", "a qcow2 disk image"),
    (&[0; PROBED], "zeros"),
];

/// How many bytes tell that a file is text or zeros.
const PROBED: usize = 64;

/// Loads the flat binary `image`.
pub fn load(image: &Image<'_>, memory: &GuestMemoryMmap) -> Result<Kernel, LoadError> {
    let start = image.read(0, image.len().min(PROBED as u64) as usize)?;
    if let Some(other) = no_kernel(&start) {
        return Err(LoadError::NoKernel(other));
    }
    let room = low_ram_end(memory).saturating_sub(FLAT_LOAD_ADDR);
    if image.len() > room {
        return Err(LoadError::FlatTooLarge {
            len: image.len(),
            room,
        });
    }
    image.copy_to(0, image.len(), memory, FLAT_LOAD_ADDR)?;
    Ok(Kernel {
        state: BootState {
            mode: CpuMode::Long64,
            rip: FLAT_LOAD_ADDR,
            rsp: layout::BOOT_STACK_TOP,
            rbx: layout::START_INFO,
            rsi: 0,
        },
        end: FLAT_LOAD_ADDR + image.len(),
        initrd_max: u32::MAX.into(),
        setup_header: None,
    })
}

/// What a file that begins with `start` is, if that is plain and it is no kernel.
fn no_kernel(start: &[u8]) -> Option<&'static str> {
    let is_text = |&byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    if start.len() == PROBED && start.iter().all(is_text) {
        return Some("text");
    }
    let mut known = NO_KERNELS.iter();
    known
        .find(|(magic, _)| start.starts_with(magic))
        .map(|&(_, name)| name)
}
