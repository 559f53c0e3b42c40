//! A flat binary: bytes at 1 MiB, entered at the first one in 64-bit mode with the address of
//! `hvm_start_info` in RBX. This project's own and simplest protocol.

use spec::board::{FLAT_LOAD_ADDR, HOLE_START};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};

use super::{BootState, CpuMode, Image, LoadError};
use crate::layout;

/// Loads the flat binary `image`.
pub fn load(image: &Image<'_>, memory: &GuestMemoryMmap) -> Result<BootState, LoadError> {
    let low_ram_end = (memory.last_addr().0 + 1).min(HOLE_START);
    let room = low_ram_end.saturating_sub(FLAT_LOAD_ADDR);
    if image.len() > room {
        return Err(LoadError::FlatTooLarge {
            len: image.len(),
            room,
        });
    }
    image.copy_to(0, image.len(), memory, FLAT_LOAD_ADDR)?;
    Ok(BootState {
        mode: CpuMode::Long64,
        rip: FLAT_LOAD_ADDR,
        rsp: layout::BOOT_STACK_TOP,
        rbx: layout::START_INFO,
        rsi: 0,
    })
}
