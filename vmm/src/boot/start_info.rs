//! `hvm_start_info`, version 1: where every protocol here finds the command line, the initrd, the
//! memory map and the ACPI tables. The structure is Xen's
//! (`xen/include/public/arch-x86/hvm/start_info.h`).

use linux_loader::loader::elf::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::memory_map;
use crate::layout::{self, Range};

/// Writes the structure and the tables that it points to into `memory`.
pub fn write(memory: &GuestMemoryMmap, initrd: Option<Range>) -> Result<(), GuestMemoryError> {
    let mut info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: 1,
        cmdline_paddr: layout::CMDLINE,
        rsdp_paddr: layout::ACPI_TABLES,
        memmap_paddr: layout::START_INFO_MEMMAP,
        ..Default::default()
    };
    let mut address = GuestAddress(layout::START_INFO_MEMMAP);
    for (range, kind) in memory_map(memory) {
        let entry = hvm_memmap_table_entry {
            addr: range.start,
            size: range.len,
            type_: kind as u32,
            reserved: 0,
        };
        memory.write_obj(entry, address)?;
        address.0 += size_of_val(&entry) as u64;
        info.memmap_entries += 1;
    }
    if let Some(initrd) = initrd {
        let module = hvm_modlist_entry {
            paddr: initrd.start,
            size: initrd.len,
            ..Default::default()
        };
        memory.write_obj(module, GuestAddress(layout::START_INFO_MODLIST))?;
        info.modlist_paddr = layout::START_INFO_MODLIST;
        info.nr_modules = 1;
    }
    memory.write_obj(info, GuestAddress(layout::START_INFO))
}
