use spec::bench;
use spec::mmio::Register;

use super::*;

const GIB: u64 = 1 << 30;

fn range(start: u64, len: u64) -> Range {
    Range { start, len }
}

#[test]
fn ram_up_to_3_gib_is_one_range_from_0() {
    assert_eq!(ram(MIN_MEMORY), [range(0, MIN_MEMORY)]);
    assert_eq!(ram(3 * GIB), [range(0, 3 * GIB)]);
}

#[test]
fn ram_beyond_3_gib_goes_on_at_4_gib() {
    let page = PAGE_SIZE;
    assert_eq!(
        ram(3 * GIB + page),
        [range(0, 3 * GIB), range(4 * GIB, page)]
    );
    assert_eq!(ram(8 * GIB), [range(0, 3 * GIB), range(4 * GIB, 5 * GIB)]);
}

#[test]
fn no_range_of_the_most_ram_has_more_pages_than_a_memory_slot() {
    let pages = |size| ram(size).iter().map(|range| range.len / PAGE_SIZE).max();
    assert_eq!(pages(MAX_MEMORY), Some((1 << 31) - 1));
    assert_eq!(pages(MAX_MEMORY + PAGE_SIZE), Some(1 << 31));
}

#[test]
fn no_byte_of_ram_is_lost_or_made_up() {
    for size in [MIN_MEMORY, 128 << 20, 3 * GIB, 3 * GIB + PAGE_SIZE, 1 << 44] {
        assert_eq!(ram(size).iter().map(|r| r.len).sum::<u64>(), size);
        let told = memory_map(size);
        let usable = told.iter().filter(|(_, kind)| *kind == MemoryType::Ram);
        let usable: u64 = usable.map(|(range, _)| range.len).sum();
        assert_eq!(usable, size - (LEGACY_END - LEGACY_START));
    }
}

#[test]
fn of_the_legacy_area_guests_are_told_of_the_acpi_tables_alone() {
    assert_eq!(
        memory_map(4 * GIB),
        [
            (range(0, LEGACY_START), MemoryType::Ram),
            (
                range(ACPI_TABLES, LEGACY_END - ACPI_TABLES),
                MemoryType::Acpi
            ),
            (range(LEGACY_END, 3 * GIB - LEGACY_END), MemoryType::Ram),
            (range(4 * GIB, GIB), MemoryType::Ram),
        ]
    );
}

#[test]
fn devices_and_kvms_own_pages_are_in_the_hole_and_apart() {
    let windows_end = virtio_mmio(board::VIRTIO_MMIO_MAX).base;
    let in_order = [
        board::HOLE_START,
        board::VIRTIO_MMIO_BASE,
        windows_end,
        IO_APIC.into(),
        LOCAL_APIC.into(),
        KVM_IDENTITY_MAP,
        KVM_IDENTITY_MAP + PAGE_SIZE,
        KVM_TSS,
        KVM_TSS + 3 * PAGE_SIZE,
        board::HOLE_END,
    ];
    assert!(in_order.is_sorted(), "{in_order:x?}");
}

#[test]
fn registers_that_are_memory_are_apart_from_all_else_in_the_hole_two_pages_for_each_device() {
    let mut pages: Vec<_> = (0..board::VIRTIO_MMIO_MAX)
        .map(|index| mapped_virtio_mmio(index).base / PAGE_SIZE)
        .flat_map(|page| [page, page + 1])
        .collect();
    assert!(pages.is_sorted_by(|a, b| a < b), "{pages:x?}");
    pages.insert(0, virtio_mmio(board::VIRTIO_MMIO_MAX - 1).base / PAGE_SIZE);
    pages.push(bench::MMIO_BASE / PAGE_SIZE);
    pages.push(u64::from(IO_APIC) / PAGE_SIZE);
    assert!(pages.is_sorted_by(|a, b| a < b), "{pages:x?}");
    assert!(MAPPED_VIRTIO_MMIO.is_multiple_of(PAGE_SIZE));
}

#[test]
fn of_registers_that_are_memory_the_second_page_has_what_a_handler_accesses_and_the_configuration()
{
    for index in 0..board::VIRTIO_MMIO_MAX {
        let VirtioMmio { base, gsi } = mapped_virtio_mmio(index);
        let second = (base / PAGE_SIZE + 1) * PAGE_SIZE;
        assert_eq!(base + Register::InterruptStatus.offset(), second);
        assert!(base + Register::QueueNotify.offset() < second);
        // What is behind the window, on that page, is no device's.
        assert!(base + board::VIRTIO_MMIO_SIZE <= second + PAGE_SIZE);
        assert_eq!(gsi, virtio_mmio(index).gsi);
    }
}

#[test]
fn each_device_has_a_pin_of_its_own_and_none_the_clocks() {
    let gsis: Vec<_> = (0..board::VIRTIO_MMIO_MAX)
        .map(|index| virtio_mmio(index).gsi)
        .collect();
    assert!(gsis.is_sorted_by(|a, b| a < b), "{gsis:?}");
    assert_eq!(gsis.first(), Some(&board::VIRTIO_MMIO_GSI));
    assert_eq!(gsis.last(), Some(&(u32::from(board::IOAPIC_PINS) - 1)));
    assert!(!gsis.contains(&board::RTC_GSI), "{gsis:?}");
}

#[test]
fn the_boot_data_lies_in_order_below_the_flat_kernel() {
    let in_order = [
        PAGE_SIZE,
        GDT,
        GDT + 8 * 6,
        TSS,
        TSS + 0x68,
        START_INFO,
        START_INFO + 56,
        START_INFO_MEMMAP,
        START_INFO_MEMMAP + 24 * 4,
        START_INFO_MODLIST,
        START_INFO_MODLIST + 32,
        BOOT_PARAMS,
        BOOT_PARAMS + PAGE_SIZE,
        CMDLINE,
        CMDLINE + CMDLINE_SIZE as u64,
        BOOT_STACK_TOP,
        PAGE_TABLES,
        PAGE_TABLES + 6 * PAGE_SIZE,
        BOOT_DATA_END,
        LEGACY_START,
        ACPI_TABLES,
        RESET_VECTOR,
        LEGACY_END,
        board::FLAT_LOAD_ADDR,
        MIN_MEMORY,
    ];
    assert!(in_order.is_sorted(), "{in_order:x?}");
}
