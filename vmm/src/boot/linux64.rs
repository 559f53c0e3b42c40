//! The 64-bit entry of an ELF64 kernel: long mode at `e_entry`, with Linux's `boot_params` in RSI
//! (the kernel's Documentation/arch/x86/boot.rst, "64-bit Boot Protocol") and, for kernels that
//! prefer it, `hvm_start_info` in RBX.

use std::ffi::CStr;

use linux_loader::loader::bootparam::setup_header;

use super::boot_params::{BOOT_FLAG, HEADER};
use super::elf::{Elf, ElfError};
use super::{BootState, CpuMode};
use crate::layout;

/// Version 2.15 of the boot protocol.
const VERSION: u16 = 0x020f;
/// The kernel is loaded at or above 1 MiB.
const LOADED_HIGH: u8 = 1;
const KERNEL_ALIGNMENT: u32 = 0x20_0000;

/// The state in which `elf` is entered.
pub fn boot_state(elf: &Elf) -> Result<BootState, ElfError> {
    Ok(BootState {
        mode: CpuMode::Long64,
        rip: elf.checked_entry(elf.entry)?,
        rsp: layout::BOOT_STACK_TOP,
        rbx: layout::START_INFO,
        rsi: layout::BOOT_PARAMS,
    })
}

/// A setup header for a kernel that, as an ELF, has lost its own.
pub fn setup_header(cmdline: &CStr) -> setup_header {
    setup_header {
        boot_flag: BOOT_FLAG,
        header: HEADER,
        version: VERSION,
        loadflags: LOADED_HIGH,
        kernel_alignment: KERNEL_ALIGNMENT,
        cmdline_size: cmdline.count_bytes() as u32,
        ..Default::default()
    }
}
