use super::super::test_elf::{DATA_OFFSET, TestElf, load};
use super::*;
use crate::memory;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Parses `elf`, and loads it into 128 MiB of RAM.
fn refusal(elf: &TestElf) -> String {
    refusal_in(128 * MIB, &elf.bytes())
}

fn refusal_in(ram: u64, bytes: &[u8]) -> String {
    let image = Image::Bytes(bytes);
    let memory = memory::allocate(ram).unwrap();
    let error = match Elf::parse(&image) {
        Ok(elf) => elf.unwrap().load(&image, &memory).unwrap_err(),
        Err(error) => error,
    };
    error.to_string()
}

#[track_caller]
fn assert_refused(elf: &TestElf, reason: &str) {
    let refusal = refusal(elf);
    assert!(refusal.contains(reason), "{refusal}");
}

#[test]
fn what_does_not_begin_with_the_magic_number_is_no_elf() {
    for bytes in [&b""[..], b"\x7fEL", b"MZ\0\0\0\0", &[0; 64]] {
        assert!(Elf::parse(&Image::Bytes(bytes)).unwrap().is_none());
    }
}

#[test]
fn an_elf_cut_anywhere_in_its_headers_is_refused_as_truncated() {
    let bytes = TestElf::at(MIB).bytes();
    for len in 4..64 {
        let refusal = refusal_in(4 * MIB, &bytes[..len]);
        assert!(refusal.contains("ends inside the ELF header"), "{refusal}");
    }
    for len in 64..120 {
        let refusal = refusal_in(4 * MIB, &bytes[..len]);
        assert!(
            refusal.contains("ends inside the program headers"),
            "{refusal}"
        );
    }
}

#[test]
fn a_segment_that_ends_past_the_file_is_refused_as_truncated() {
    let mut elf = TestElf::at(MIB);
    elf.phdrs[0].filesz = 17;
    elf.phdrs[0].memsz = 17;
    assert_refused(&elf, "truncated: segment 0 ends past the end of the file");
    elf.phdrs[0].offset = u64::MAX;
    assert_refused(&elf, "truncated: segment 0 ends past the end of the file");
}

#[test]
fn elfs_of_another_class_endianness_or_machine_are_refused_as_such() {
    let good = TestElf::at(MIB);
    assert_refused(
        &TestElf {
            class: 1,
            ..good.clone()
        },
        "32-bit",
    );
    assert_refused(
        &TestElf {
            class: 9,
            ..good.clone()
        },
        "Class",
    );
    assert_refused(
        &TestElf {
            data: 2,
            ..good.clone()
        },
        "Endianness",
    );
    assert_refused(
        &TestElf {
            machine: 183,
            ..good
        },
        "EM_AARCH64",
    );
}

#[test]
fn a_32_bit_elf_shorter_than_a_64_bit_header_is_still_called_32_bit() {
    let elf = TestElf {
        class: 1,
        ..TestElf::at(MIB)
    };
    assert!(refusal_in(4 * MIB, &elf.bytes()[..52]).contains("32-bit"));
}

#[test]
fn object_files_and_core_dumps_are_refused() {
    for kind in [0, 1, 4] {
        assert_refused(
            &TestElf {
                kind,
                ..TestElf::at(MIB)
            },
            "not linked to run",
        );
    }
}

#[test]
fn program_headers_of_another_size_or_without_end_are_refused() {
    let good = TestElf::at(MIB);
    assert_refused(
        &TestElf {
            phentsize: 32,
            ..good.clone()
        },
        "32 bytes each",
    );
    assert_refused(
        &TestElf {
            phnum: Some(0xffff),
            ..good
        },
        "65534",
    );
}

#[test]
fn an_elf_with_nothing_to_load_is_refused() {
    let mut elf = TestElf::at(MIB);
    elf.phdrs[0].memsz = 0;
    elf.phdrs[0].filesz = 0;
    assert_refused(&elf, "no segment to load");
    elf.phdrs.clear();
    assert_refused(&elf, "no segment to load");
}

#[test]
fn a_segment_with_more_bytes_in_the_file_than_in_memory_is_refused() {
    let mut elf = TestElf::at(MIB);
    elf.phdrs[0].memsz = 15;
    assert_refused(
        &elf,
        "segment 0 has 16 bytes in the file but only 15 in memory",
    );
}

#[test]
fn a_segment_that_wraps_the_address_space_is_refused() {
    assert_refused(&TestElf::at(u64::MAX - 3), "past the last address");
    let mut elf = TestElf::at(MIB);
    elf.phdrs[0].memsz = u64::MAX;
    assert_refused(&elf, "past the last address");
}

#[test]
fn a_segment_where_the_vmm_puts_its_own_data_is_refused() {
    for paddr in [0, BOOT_DATA_END - 1, ACPI_TABLES - 1, LEGACY_END - 1] {
        assert_refused(&TestElf::at(paddr), "overlaps what the VMM puts into RAM");
    }
    for paddr in [BOOT_DATA_END, ACPI_TABLES - 16, LEGACY_END] {
        let image = TestElf::at(paddr).bytes();
        let image = Image::Bytes(&image);
        let memory = memory::allocate(4 * MIB).unwrap();
        let elf = Elf::parse(&image).unwrap().unwrap();
        elf.load(&image, &memory).unwrap();
    }
}

#[test]
fn a_segment_past_the_end_of_ram_is_refused() {
    let mut elf = TestElf::at(MIB);
    elf.phdrs[0].memsz = 3 * MIB;
    assert!(refusal_in(2 * MIB, &elf.bytes()).contains("ends past RAM, which ends at 0x200000"));
    elf.phdrs[0].memsz = MIB + 1;
    assert!(refusal_in(2 * MIB, &elf.bytes()).contains("0x100000 to 0x200001"));
}

#[test]
fn a_segment_that_reaches_into_the_hole_is_refused() {
    for paddr in [HOLE_START - 1, HOLE_START, HOLE_END - 1] {
        let refusal = refusal_in(5 * GIB, &TestElf::at(paddr).bytes());
        assert!(refusal.contains("hole for devices"), "{refusal}");
    }
}

#[test]
fn segments_that_overlap_are_refused_in_whatever_order_they_come() {
    let (low, high) = (load(MIB, 16), load(MIB + 15, 16));
    for phdrs in [vec![low, high], vec![high, low]] {
        let elf = TestElf {
            phdrs,
            ..TestElf::at(MIB)
        };
        assert_refused(&elf, "segments 0 and 1 overlap in memory, at 0x10000f");
    }
    let mut around = load(MIB, 16);
    around.memsz = MIB;
    let elf = TestElf {
        phdrs: vec![around, load(MIB + 100, 8), load(MIB + 200, 8)],
        ..TestElf::at(MIB)
    };
    assert_refused(&elf, "overlap in memory");
}

#[test]
fn segments_are_copied_to_their_physical_addresses_and_the_rest_is_zero() {
    use vm_memory::Bytes;
    let mut second = load(2 * MIB, 8);
    second.offset = DATA_OFFSET + 8;
    second.memsz = 32;
    let elf = TestElf {
        phdrs: vec![second, load(MIB, 8)],
        ..TestElf::at(MIB)
    };
    let bytes = elf.bytes();
    let image = Image::Bytes(&bytes);
    let memory = memory::allocate(4 * MIB).unwrap();
    Elf::parse(&image)
        .unwrap()
        .unwrap()
        .load(&image, &memory)
        .unwrap();

    let read = |address| memory.read_obj::<[u8; 9]>(GuestAddress(address)).unwrap();
    assert_eq!(read(MIB), [1, 2, 3, 4, 5, 6, 7, 8, 0]);
    assert_eq!(read(2 * MIB), [9, 10, 11, 12, 13, 14, 15, 16, 0]);
}
