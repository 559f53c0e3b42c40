//! `hvm_start_info`, version 1: where every protocol here finds the command line and the memory
//! map. The structure is Xen's (`xen/include/public/arch-x86/hvm/start_info.h`).

use linux_loader::loader::elf::start_info::{
    XEN_HVM_MEMMAP_TYPE_RAM, XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_start_info,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::usable_ram;
use crate::layout;

/// Writes the structure and its memory map into `memory`.
pub fn write(memory: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
    let mut info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: 1,
        cmdline_paddr: layout::CMDLINE,
        memmap_paddr: layout::START_INFO_MEMMAP,
        ..Default::default()
    };
    let mut address = GuestAddress(layout::START_INFO_MEMMAP);
    for ram in usable_ram(memory) {
        let entry = hvm_memmap_table_entry {
            addr: ram.start,
            size: ram.len,
            type_: XEN_HVM_MEMMAP_TYPE_RAM,
            reserved: 0,
        };
        memory.write_obj(entry, address)?;
        address.0 += size_of_val(&entry) as u64;
        info.memmap_entries += 1;
    }
    memory.write_obj(info, GuestAddress(layout::START_INFO))
}
