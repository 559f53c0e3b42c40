use std::collections::BTreeMap;

use super::*;
use crate::layout::{ACPI_TABLES, RESET_VECTOR};
use crate::memory;

/// The tables of a machine, as a kernel finds them: by way of the RSDP and the XSDT.
struct Tables(BTreeMap<[u8; 4], Vec<u8>>);

fn u64_at(table: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(table[offset..offset + 8].try_into().unwrap())
}

fn u32_at(table: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(table[offset..offset + 4].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// Reads the table at `address`, which must be whole and in the range for tables.
fn table(memory: &GuestMemoryMmap, address: u64) -> Vec<u8> {
    let len: u32 = memory.read_obj(GuestAddress(address + 4)).unwrap();
    assert!(ACPI_TABLES < address && address + u64::from(len) <= RESET_VECTOR);
    let mut bytes = vec![0; len as usize];
    memory
        .read_slice(&mut bytes, GuestAddress(address))
        .unwrap();
    assert_eq!(sum(&bytes), 0, "checksum of {}", bytes[..4].escape_ascii());
    bytes
}

fn tables(cpus: u8, disks: usize) -> Tables {
    let windows: Vec<_> = (0..disks).map(layout::virtio_mmio).collect();
    tables_of(cpus, &windows)
}

fn tables_of(cpus: u8, windows: &[VirtioMmio]) -> Tables {
    let memory = memory::allocate(layout::MIN_MEMORY).unwrap();
    write(&memory, cpus, windows).unwrap();
    let mut rsdp = [0; 36];
    memory
        .read_slice(&mut rsdp, GuestAddress(ACPI_TABLES))
        .unwrap();
    assert_eq!(&rsdp[..8], b"RSD PTR ");
    assert_eq!(rsdp[15], 2, "revision");
    assert_eq!((sum(&rsdp[..20]), sum(&rsdp)), (0, 0));

    let xsdt = table(&memory, u64_at(&rsdp, 24));
    assert_eq!(&xsdt[..4], b"XSDT");
    let mut tables = BTreeMap::new();
    for entry in xsdt[36..].chunks(8) {
        let table = table(&memory, u64_at(entry, 0));
        tables.insert(table[..4].try_into().unwrap(), table);
    }
    let dsdt = table(&memory, u64_at(&tables[b"FACP"], 140));
    tables.insert(*b"DSDT", dsdt);
    Tables(tables)
}

impl Tables {
    fn get(&self, signature: &[u8; 4]) -> &[u8] {
        &self.0[signature]
    }
}

fn count(haystack: &[u8], needle: &[u8]) -> usize {
    let windows = haystack.windows(needle.len());
    windows.filter(|window| *window == needle).count()
}

#[test]
fn the_tables_are_found_from_the_rsdp_with_right_checksums() {
    for (cpus, disks) in [(1, 0), (1, 1), (4, 2), (255, board::VIRTIO_MMIO_MAX)] {
        let tables = tables(cpus, disks);
        let signatures: Vec<_> = tables.0.keys().collect();
        assert_eq!(signatures, [b"APIC", b"DSDT", b"FACP"]);
    }
}

#[test]
fn the_fadt_tells_of_reduced_hardware_and_of_how_to_reset_and_to_power_off() {
    let tables = tables(1, 0);
    let fadt = tables.get(b"FACP");
    let flags = u32_at(fadt, 112);
    assert_ne!(flags & 1 << 20, 0, "HW_REDUCED_ACPI");
    assert_ne!(flags & 1 << 10, 0, "RESET_REG_SUP");
    let boot_arch = u16::from_le_bytes([fadt[109], fadt[110]]);
    assert_eq!(boot_arch, 0x2c, "no VGA, no MSI, no RTC, and no 8042");
    let byte_port = |port: u16| {
        let mut register = vec![1, 8, 0, 1];
        register.extend(u64::from(port).to_le_bytes());
        register
    };
    assert_eq!(fadt[116..128], byte_port(0x64));
    assert_eq!(fadt[128], 0xfe);
    assert_eq!(fadt[244..256], byte_port(board::SLEEP_CONTROL_PORT));
    assert_eq!(fadt[256..268], byte_port(board::SLEEP_STATUS_PORT));
}

#[test]
fn the_madt_has_a_local_apic_for_each_cpu_and_the_ioapic() {
    for cpus in [1, 4, 255_u8] {
        let tables = tables(cpus, 0);
        let madt = tables.get(b"APIC");
        assert_eq!(u32_at(madt, 36), layout::LOCAL_APIC);
        let mut structures = &madt[44..];
        for id in 0..cpus {
            assert_eq!(structures[..8], [0, 8, id, id, 1, 0, 0, 0]);
            structures = &structures[8..];
        }
        assert_eq!(structures[..4], [1, 12, 0, 0]);
        assert_eq!(u32_at(structures, 4), layout::IO_APIC);
        assert_eq!(u32_at(structures, 8), 0, "its first GSI");
        assert_eq!(structures.len(), 12);
    }
}

#[test]
fn the_dsdt_has_the_serial_port_s5_and_a_device_for_each_disk() {
    for disks in [0, 1, board::VIRTIO_MMIO_MAX] {
        let tables = tables(1, disks);
        let dsdt = tables.get(b"DSDT");
        assert_eq!(count(dsdt, b"\x08_S5_\x12\x04\x01\x0a\x05"), 1);
        // PNP0501, compressed as EISA ids are; ports 0x3f8 to 0x3ff; edge-triggered GSI 4.
        assert_eq!(count(dsdt, b"\x0c\x41\xd0\x05\x01"), 1);
        assert_eq!(count(dsdt, b"\x47\x01\xf8\x03\xf8\x03\x01\x08"), 1);
        assert_eq!(count(dsdt, b"\x89\x06\x00\x03\x01\x04\x00\x00\x00"), 1);
        assert_eq!(count(dsdt, b"LNRO0005"), disks);
        for index in 0..disks {
            let resources = resources(layout::virtio_mmio(index));
            assert_eq!(count(dsdt, &resources), 1, "disk {index}");
        }
    }
}

#[test]
fn the_dsdt_has_registers_that_are_memory_where_they_are() {
    let windows = [layout::virtio_mmio(0), layout::mapped_virtio_mmio(1)];
    let tables = tables_of(1, &windows);
    for window in windows {
        let count = count(tables.get(b"DSDT"), &resources(window));
        assert_eq!(count, 1, "{window:x?}");
    }
}

/// What a device in `window` has: 4 KiB of registers, and an edge-triggered interrupt.
fn resources(window: VirtioMmio) -> Vec<u8> {
    let mut resources = b"\x86\x09\x00\x01".to_vec();
    resources.extend((window.base as u32).to_le_bytes());
    resources.extend(0x1000_u32.to_le_bytes());
    resources.extend(b"\x89\x06\x00\x03\x01");
    resources.extend(window.gsi.to_le_bytes());
    resources
}
