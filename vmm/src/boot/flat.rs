//! A flat binary: bytes at 1 MiB, entered at the first one in 64-bit mode with the address of
//! `hvm_start_info` in RBX. This project's own and simplest protocol.

use spec::board::FLAT_LOAD_ADDR;
use vm_memory::GuestMemoryMmap;

use super::{BootState, CpuMode, Image, Kernel, LoadError, low_ram_end};
use crate::layout;

/// Loads the flat binary `image`.
pub fn load(image: &Image<'_>, memory: &GuestMemoryMmap) -> Result<Kernel, LoadError> {
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
