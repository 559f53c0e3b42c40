//! The 64-bit entry of an ELF64 kernel: long mode at `e_entry`, with Linux's `boot_params` in RSI
//! (the kernel's Documentation/arch/x86/boot.rst, "64-bit Boot Protocol") and, for kernels that
//! prefer it, `hvm_start_info` in RBX.

use std::ffi::CStr;

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::elf::Elf;
use super::{BootState, CpuMode, LoadError, usable_ram};
use crate::layout;

const BOOT_FLAG: u16 = 0xaa55;
const HEADER: u32 = u32::from_le_bytes(*b"HdrS");
/// Version 2.15 of the boot protocol.
const VERSION: u16 = 0x020f;
/// A boot loader without a number of its own.
const TYPE_OF_LOADER: u8 = 0xff;
/// The kernel is loaded at or above 1 MiB.
const LOADED_HIGH: u8 = 1;
const KERNEL_ALIGNMENT: u32 = 0x20_0000;
const E820_RAM: u32 = 1;

/// Writes `boot_params`, and gives the state in which `elf`, already loaded, is entered.
pub fn prepare(
    elf: &Elf,
    memory: &GuestMemoryMmap,
    cmdline: &CStr,
) -> Result<BootState, LoadError> {
    let rip = elf.checked_entry(elf.entry)?;

    let mut params = boot_params::default();
    params.hdr.boot_flag = BOOT_FLAG;
    params.hdr.header = HEADER;
    params.hdr.version = VERSION;
    params.hdr.type_of_loader = TYPE_OF_LOADER;
    params.hdr.loadflags = LOADED_HIGH;
    params.hdr.kernel_alignment = KERNEL_ALIGNMENT;
    params.hdr.cmd_line_ptr = layout::CMDLINE as u32;
    params.hdr.cmdline_size = cmdline.count_bytes() as u32;
    for (entry, ram) in params.e820_table.iter_mut().zip(usable_ram(memory)) {
        *entry = boot_e820_entry {
            addr: ram.start,
            size: ram.len,
            r#type: E820_RAM,
        };
        params.e820_entries += 1;
    }
    memory.write_obj(params, GuestAddress(layout::BOOT_PARAMS))?;

    Ok(BootState {
        mode: CpuMode::Long64,
        rip,
        rsp: layout::BOOT_STACK_TOP,
        rbx: layout::START_INFO,
        rsi: layout::BOOT_PARAMS,
    })
}
