//! Linux's `boot_params`, the "zero page": the setup header of a kernel, and what the kernel is
//! told of the machine. (The kernel's Documentation/arch/x86/boot.rst and zero-page.rst.)

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::memory_map;
use crate::layout::{self, Range};

/// `boot_flag`: the last two bytes of a boot sector.
pub const BOOT_FLAG: u16 = 0xaa55;
/// `header`: the magic number of a setup header.
pub const HEADER: u32 = u32::from_le_bytes(*b"HdrS");
/// `type_of_loader`: a boot loader without a number of its own.
const TYPE_OF_LOADER: u8 = 0xff;

/// Writes the structure into `memory`: `header` as the kernel has it, with the boot loader's
/// fields filled in. The initrd lies below 4 GiB.
pub fn write(
    memory: &GuestMemoryMmap,
    header: &setup_header,
    initrd: Option<Range>,
) -> Result<(), GuestMemoryError> {
    let mut params = boot_params {
        hdr: *header,
        acpi_rsdp_addr: layout::ACPI_TABLES,
        ..Default::default()
    };
    params.hdr.type_of_loader = TYPE_OF_LOADER;
    params.hdr.cmd_line_ptr = layout::CMDLINE as u32;
    if let Some(initrd) = initrd {
        params.hdr.ramdisk_image = initrd.start as u32;
        params.hdr.ramdisk_size = initrd.len as u32;
    }
    for (entry, (range, kind)) in params.e820_table.iter_mut().zip(memory_map(memory)) {
        *entry = boot_e820_entry {
            addr: range.start,
            size: range.len,
            r#type: kind as u32,
        };
        params.e820_entries += 1;
    }
    memory.write_obj(params, GuestAddress(layout::BOOT_PARAMS))
}
