use linux_loader::loader::bootparam::boot_params;
use linux_loader::loader::elf::start_info::{hvm_memmap_table_entry, hvm_start_info};
use proptest::prelude::*;
use std::fs;

use super::test_elf::{TestElf, note};
use super::*;
use crate::memory;

const MIB: u64 = 1 << 20;

fn load_bytes(bytes: &[u8]) -> (GuestMemoryMmap, Result<BootState, LoadError>) {
    let memory = memory::allocate(4 * MIB).unwrap();
    let state = load(&Image::Bytes(bytes), &memory, c"run=info")
        .and_then(|kernel| Ok(kernel.tell_of_machine(&memory, None)?));
    (memory, state)
}

#[track_caller]
fn assert_refused(bytes: &[u8], reason: &str) {
    let refusal = load_bytes(bytes).1.unwrap_err().to_string();
    assert!(refusal.contains(reason), "{refusal}");
}

fn read<T: vm_memory::ByteValued>(memory: &GuestMemoryMmap, address: u64) -> T {
    memory.read_obj(GuestAddress(address)).unwrap()
}

#[test]
fn what_is_no_elf_is_a_flat_binary_at_1_mib_entered_in_64_bit_mode() {
    let (memory, state) = load_bytes(&[0xfa, 0xf4]);
    assert_eq!(read::<[u8; 3]>(&memory, MIB), [0xfa, 0xf4, 0]);
    assert_eq!(
        state.unwrap(),
        BootState {
            mode: CpuMode::Long64,
            rip: MIB,
            rsp: layout::BOOT_STACK_TOP,
            rbx: layout::START_INFO,
            rsi: 0
        }
    );
}

#[test]
fn a_flat_binary_may_fill_ram_and_is_refused_when_longer() {
    let mut bytes = vec![0x90; 3 * MIB as usize];
    load_bytes(&bytes).1.unwrap();
    bytes.push(0x90);
    assert_refused(
        &bytes,
        "3145729 bytes does not fit into the 3145728 bytes of RAM",
    );
}

#[test]
fn what_is_plainly_something_else_is_no_flat_binary() {
    for (start, what) in [
        (&b"\x1f\x8b\x08"[..], "gzip"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x02\x21\x4c\x18", "lz4"),
        (b"070701", "a cpio"),
        (b"MZ", "a PE"),
        (b"QFI\xfb", "a qcow2"),
        (&[0; 64], "zeros"),
        (&[b'a'; 64], "text"),
    ] {
        assert_refused(start, &format!("no kernel: it begins like {what}"));
    }
    // A kernel of one letter, and one that reads like text as far as it goes.
    load_bytes(b"\xf4").1.unwrap();
    load_bytes(b"PQRSTUVW").1.unwrap();
}

#[test]
fn an_elf_with_a_pvh_note_is_entered_there_in_32_bit_mode() {
    let (_, state) = load_bytes(&TestElf::at(MIB).with_pvh(MIB as u32 + 4).bytes());
    assert_eq!(
        state.unwrap(),
        BootState {
            mode: CpuMode::Protected32,
            rip: MIB + 4,
            rsp: 0,
            rbx: layout::START_INFO,
            rsi: 0
        }
    );
}

#[test]
fn an_elf_without_a_pvh_note_is_entered_in_64_bit_mode_with_boot_params() {
    let other = note(b"GNU\0", 18, &[0; 4]);
    for elf in [TestElf::at(MIB), TestElf::at(MIB).with_notes(&other)] {
        let (memory, state) = load_bytes(&elf.bytes());
        assert_eq!(
            state.unwrap(),
            BootState {
                mode: CpuMode::Long64,
                rip: MIB,
                rsp: layout::BOOT_STACK_TOP,
                rbx: layout::START_INFO,
                rsi: layout::BOOT_PARAMS
            }
        );
        let params: boot_params = read(&memory, layout::BOOT_PARAMS);
        let header = params.hdr;
        assert_eq!({ header.boot_flag }, 0xaa55);
        assert_eq!({ header.header }.to_le_bytes(), *b"HdrS");
        assert_eq!(u64::from(header.cmd_line_ptr), layout::CMDLINE);
        assert_eq!({ header.cmdline_size }, 8);
        assert_eq!({ params.acpi_rsdp_addr }, layout::ACPI_TABLES);
        let e820: Vec<(u64, u64, u32)> = params.e820_table[..usize::from(params.e820_entries)]
            .iter()
            .map(|entry| (entry.addr, entry.size, entry.r#type))
            .collect();
        assert_eq!(e820, expected_map());
    }
}

#[test]
fn every_protocol_gets_the_command_line_and_the_memory_map_in_start_info() {
    let elf = TestElf::at(MIB);
    for image in [vec![0xf4], elf.bytes(), elf.with_pvh(MIB as u32).bytes()] {
        let (memory, state) = load_bytes(&image);
        let info: hvm_start_info = read(&memory, state.unwrap().rbx);
        assert_eq!(info.magic, 0x336e_c578);
        assert_eq!(info.version, 1);
        assert_eq!(&read::<[u8; 9]>(&memory, info.cmdline_paddr), b"run=info\0");
        assert_eq!(info.rsdp_paddr, layout::ACPI_TABLES);
        assert_eq!((info.nr_modules, info.modlist_paddr), (0, 0));
        let map: Vec<(u64, u64, u32)> = (0..u64::from(info.memmap_entries))
            .map(|i| {
                let size = size_of::<hvm_memmap_table_entry>() as u64;
                let entry: hvm_memmap_table_entry = read(&memory, info.memmap_paddr + i * size);
                (entry.addr, entry.size, entry.type_)
            })
            .collect();
        assert_eq!(map, expected_map());
    }
}

/// The memory map of the machine that [`load_bytes`] loads into.
fn expected_map() -> Vec<(u64, u64, u32)> {
    let map = layout::memory_map(4 * MIB).into_iter();
    map.map(|(range, kind)| (range.start, range.len, kind as u32))
        .collect()
}

#[test]
fn at_the_reset_vector_is_code_that_resets_the_machine() {
    let (memory, state) = load_bytes(&[0xf4]);
    state.unwrap();
    // mov al, 0xfe; out 0x64, al; hlt
    assert_eq!(
        read::<[u8; 5]>(&memory, 0xffff0),
        [0xb0, 0xfe, 0xe6, 0x64, 0xf4]
    );
}

#[test]
fn a_pvh_note_is_found_among_others_and_may_be_8_bytes() {
    let mut notes = note(b"GNU\0", 1, b"version");
    notes.extend(note(b"Xen\0", 6, b"linux\0"));
    notes.extend(note(b"Xen\0", 18, &MIB.to_le_bytes()));
    let (_, state) = load_bytes(&TestElf::at(MIB).with_notes(&notes).bytes());
    assert_eq!(state.unwrap().mode, CpuMode::Protected32);
}

#[test]
fn a_malformed_pvh_note_is_refused_and_not_taken_for_none() {
    let with = |notes: &[u8]| TestElf::at(MIB).with_notes(notes).bytes();
    assert_refused(
        &with(&note(b"Xen\0", 18, &[0; 2])),
        "is 2 bytes, not 4 or 8",
    );
    assert_refused(&with(&note(b"Xen\0", 18, &[])), "is 0 bytes, not 4 or 8");
    let beyond = note(b"Xen\0", 18, &(1_u64 << 32).to_le_bytes());
    assert_refused(&with(&beyond), "beyond 32 bits");
    let mut cut = note(b"Xen\0", 18, &[0; 4]);
    cut[4] = 0xff;
    assert_refused(&with(&cut), "goes on past their end");
}

#[test]
fn notes_past_the_end_of_the_file_are_refused_as_truncated() {
    let bytes = TestElf::at(MIB).with_pvh(MIB as u32).bytes();
    assert_refused(&bytes[..bytes.len() - 1], "ends inside the notes");
}

#[test]
fn an_entry_point_outside_every_segment_is_refused() {
    let elf = TestElf {
        entry: MIB + 16,
        ..TestElf::at(MIB)
    };
    assert_refused(&elf.bytes(), "entry point 0x100010 is in no loaded segment");
    let elf = TestElf::at(MIB).with_pvh(0x1234);
    assert_refused(&elf.bytes(), "entry point 0x1234 is in no loaded segment");
}

#[test]
fn an_empty_kernel_is_refused() {
    assert_refused(&[], "the file is empty");
}

#[test]
fn a_kernel_from_a_file_is_loaded_like_one_from_memory() {
    let elf = TestElf::at(MIB).with_pvh(MIB as u32);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kernel");
    fs::write(&path, elf.bytes()).unwrap();
    let memory = memory::allocate(4 * MIB).unwrap();
    let kernel = load(&Image::open(&path).unwrap(), &memory, c"").unwrap();
    assert_eq!(kernel.tell_of_machine(&memory, None).unwrap().rip, MIB);
    assert_eq!(read::<[u8; 4]>(&memory, MIB), [1, 2, 3, 4]);
}

#[test]
fn a_directory_a_pipe_and_a_missing_file_are_no_kernels() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |path: &std::path::Path| Image::open(path).unwrap_err().to_string();
    assert_eq!(refusal(dir.path()), "is a directory");
    assert_eq!(refusal("/dev/null".as_ref()), "not a regular file");
    assert!(refusal(&dir.path().join("none")).contains("No such file"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _ = load_bytes(&bytes);
    }

    #[test]
    fn an_elf_with_arbitrary_bytes_in_its_headers_never_panics(
        spoilt in prop::collection::vec((4..300_usize, any::<u8>()), 1..12),
        len in 4..1200_usize,
    ) {
        let mut bytes = TestElf::at(MIB).with_pvh(MIB as u32).bytes();
        for (at, byte) in spoilt {
            bytes[at] = byte;
        }
        bytes.truncate(len);
        let _ = load_bytes(&bytes);
    }

    #[test]
    fn a_segment_of_any_place_and_size_is_loaded_whole_or_refused(
        paddr in prop_oneof![any::<u64>(), 0..(5 * MIB)],
        memsz in prop_oneof![any::<u64>(), 0..(5 * MIB)],
    ) {
        let mut elf = TestElf::at(paddr);
        elf.phdrs[0].memsz = memsz;
        let fits = memsz >= 16
            && paddr >= layout::BOOT_DATA_END
            && (paddr.saturating_add(memsz) <= layout::ACPI_TABLES || paddr >= layout::LEGACY_END)
            && paddr.checked_add(memsz).is_some_and(|end| end <= 4 * MIB);
        prop_assert_eq!(load_bytes(&elf.bytes()).1.is_ok(), fits);
    }

    #[test]
    fn notes_of_arbitrary_bytes_never_panic(notes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = load_bytes(&TestElf::at(MIB).with_notes(&notes).bytes());
    }
}
