//! The address map: where RAM lies, what of it the VMM fills before the guest runs, and what is in
//! the hole below 4 GiB. Constants and arithmetic; what guests may rely on is in `spec::board`.

use devices::virtio::page::WINDOW_OFFSET;
use spec::board;

/// Size of a page, in bytes: what RAM sizes must be a multiple of.
pub const PAGE_SIZE: u64 = 4096;
/// The least RAM a machine can have, in bytes: the VMM's data, and room for a kernel at 1 MiB.
pub const MIN_MEMORY: u64 = 2 << 20;
/// The most RAM a machine can have, in bytes: what is above the hole is one memory slot of KVM,
/// which has no more than 2^31 - 1 pages (KVM_MEM_MAX_NR_PAGES).
pub const MAX_MEMORY: u64 = board::HOLE_START + ((1 << 31) - 1) * PAGE_SIZE;

/// Global descriptor table: six entries of eight bytes.
pub const GDT: u64 = 0x1000;
/// The task state segment of a kernel that is entered in 64-bit mode: all zero, never switched to.
pub const TSS: u64 = 0x1100;
/// `hvm_start_info`.
pub const START_INFO: u64 = 0x2000;
/// The memory map that `hvm_start_info` points to.
pub const START_INFO_MEMMAP: u64 = 0x2100;
/// The list of modules, the initrd alone, that `hvm_start_info` points to.
pub const START_INFO_MODLIST: u64 = 0x2200;
/// Linux's `boot_params`, the "zero page".
pub const BOOT_PARAMS: u64 = 0x3000;
/// The kernel command line, with its terminating NUL.
pub const CMDLINE: u64 = 0x4000;
/// Room for the kernel command line, in bytes.
pub const CMDLINE_SIZE: usize = 0x1000;
/// First stack pointer of a kernel that is entered in 64-bit mode: a page, growing down.
pub const BOOT_STACK_TOP: u64 = 0x6000;
/// Page tables: a PML4, a PDPT, and four page directories.
pub const PAGE_TABLES: u64 = 0x9000;
/// End of what the VMM writes, from address 0: no kernel may be loaded below.
pub const BOOT_DATA_END: u64 = 0x1_0000;

/// Where a PC has its video memory and firmware. There is RAM here too, but it is no guest's to
/// use.
pub const LEGACY_START: u64 = 0xa_0000;
/// The ACPI tables, up to [`RESET_VECTOR`]: where a PC's firmware has them. The RSDP is the first of
/// them, and a guest that is not told of it finds it by its signature.
pub const ACPI_TABLES: u64 = 0xe_0000;
/// Where a CPU of a PC begins in real mode: the last 16 bytes of the firmware.
pub const RESET_VECTOR: u64 = 0xf_fff0;
/// End of the legacy area.
pub const LEGACY_END: u64 = 0x10_0000;

/// Registers of KVM's IOAPIC.
pub const IO_APIC: u32 = 0xfec0_0000;
/// Registers of each CPU's local APIC.
pub const LOCAL_APIC: u32 = 0xfee0_0000;

/// Guest-physical address of the first two pages of registers that are memory.
pub const MAPPED_VIRTIO_MMIO: u64 = board::VIRTIO_MMIO_BASE + 0x8_0000;

/// One page in the hole that KVM needs for itself on Intel: a page table for real mode.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages in the hole that KVM needs for itself on Intel: a task state segment for real mode.
pub const KVM_TSS: u64 = 0xfffb_d000;

/// Where a virtio-mmio device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtioMmio {
    /// Guest-physical address of its register window.
    pub base: u64,
    /// The interrupt it raises.
    pub gsi: u32,
}

/// Where virtio-mmio device `index` is, from 0 to [`board::VIRTIO_MMIO_MAX`] - 1.
#[must_use]
pub const fn virtio_mmio(index: usize) -> VirtioMmio {
    let gsi = board::VIRTIO_MMIO_GSI + index as u32;
    VirtioMmio {
        base: board::VIRTIO_MMIO_BASE + board::VIRTIO_MMIO_SIZE * index as u64,
        gsi: gsi + (gsi >= board::RTC_GSI) as u32,
    }
}

/// Where it is if its registers are memory: in two pages that no other device has a part of.
#[must_use]
pub const fn mapped_virtio_mmio(index: usize) -> VirtioMmio {
    let pages = MAPPED_VIRTIO_MMIO + 2 * PAGE_SIZE * index as u64;
    VirtioMmio {
        base: pages + WINDOW_OFFSET as u64,
        gsi: virtio_mmio(index).gsi,
    }
}

/// A range of guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Length, in bytes.
    pub len: u64,
}

/// Where `size` bytes of RAM are: from 0 up to the hole, and the rest from 4 GiB.
#[must_use]
pub fn ram(size: u64) -> Vec<Range> {
    let low = size.min(board::HOLE_START);
    let ranges = [(0, low), (board::HOLE_END, size - low)];
    ranges
        .into_iter()
        .filter(|&(_, len)| len > 0)
        .map(|(start, len)| Range { start, len })
        .collect()
}

/// What a range of the memory map is, by the type number that both e820 and PVH give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum MemoryType {
    /// RAM that the guest may use as it likes.
    Ram = 1,
    /// RAM that holds the ACPI tables and the reset vector.
    Acpi = 3,
}

/// The memory map that a guest with `size` bytes of RAM is given, in the order of addresses.
#[must_use]
pub fn memory_map(size: u64) -> Vec<(Range, MemoryType)> {
    let low = size.min(board::HOLE_START);
    let ram = |start, len| (Range { start, len }, MemoryType::Ram);
    let acpi = Range {
        start: ACPI_TABLES,
        len: LEGACY_END - ACPI_TABLES,
    };
    let mut map = vec![
        ram(0, low.min(LEGACY_START)),
        (acpi, MemoryType::Acpi),
        ram(LEGACY_END, low.saturating_sub(LEGACY_END)),
        ram(board::HOLE_END, size - low),
    ];
    map.retain(|(range, _)| range.len > 0);
    map
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
