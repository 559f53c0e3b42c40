use std::fs;

use linux_loader::loader::bootparam::boot_params;
use linux_loader::loader::elf::start_info::{hvm_modlist_entry, hvm_start_info};
use vm_memory::{Bytes, GuestAddress};

use super::super::load;
use super::super::test_bzimage::TestBzImage;
use super::super::test_elf::TestElf;
use super::*;
use crate::{layout, memory};

const MIB: u64 = 1 << 20;

fn read<T: vm_memory::ByteValued>(memory: &GuestMemoryMmap, address: u64) -> T {
    memory.read_obj(GuestAddress(address)).unwrap()
}

/// Loads `kernel` and an initrd of these bytes into `ram` bytes of RAM.
fn load_with(
    kernel: &[u8],
    initrd: &[u8],
    ram: u64,
) -> (GuestMemoryMmap, Kernel, Result<Range, InitrdError>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("initrd");
    fs::write(&path, initrd).unwrap();
    let memory = memory::allocate(ram).unwrap();
    let kernel = load(&Image::Bytes(kernel), &memory, c"").unwrap();
    let range = kernel.load_initrd(&path, &memory);
    (memory, kernel, range)
}

#[test]
fn the_initrd_lies_on_a_page_at_the_top_of_ram() {
    let (memory, _, range) = load_with(&[0xf4], b"initrd", 4 * MIB);
    let range = range.unwrap();
    assert_eq!((range.start, range.len), (4 * MIB - PAGE_SIZE, 6));
    assert_eq!(&read::<[u8; 6]>(&memory, range.start), b"initrd");
}

#[test]
fn the_initrd_lies_below_the_hole_and_below_what_a_bzimage_allows() {
    let (_, _, range) = load_with(&[0xf4], &[1], 5 << 30);
    assert_eq!(range.unwrap().start, (3 << 30) - PAGE_SIZE);

    let mut kernel = TestBzImage::default();
    kernel.header.initrd_addr_max = 0x00ff_ffff;
    let (_, _, range) = load_with(&kernel.bytes(), &[1; 5000], 5 << 30);
    assert_eq!(range.unwrap().start, 0x0100_0000 - 2 * PAGE_SIZE);
}

#[test]
fn an_initrd_fills_ram_down_to_the_kernel_and_is_refused_when_larger() {
    // One page of kernel, and all the RAM after it.
    let room = (3 * MIB - PAGE_SIZE) as usize;
    let (_, _, range) = load_with(&[0xf4], &vec![1; room], 4 * MIB);
    assert_eq!(range.unwrap().start, MIB + PAGE_SIZE);
    for len in [room + 1, 5 * MIB as usize] {
        let (_, _, range) = load_with(&[0xf4], &vec![1; len], 4 * MIB);
        let refusal = range.unwrap_err().to_string();
        assert_eq!(
            refusal,
            format!(
                "its {len} bytes do not fit into RAM from 0x101000, where the kernel ends, to \
                 0x400000"
            )
        );
    }
}

#[test]
fn an_initrd_that_is_empty_missing_or_a_directory_is_refused() {
    let (memory, kernel, range) = load_with(&[0xf4], &[], 4 * MIB);
    assert_eq!(range.unwrap_err().to_string(), "the file is empty");
    let dir = tempfile::tempdir().unwrap();
    let refusal = |path: &Path| kernel.load_initrd(path, &memory).unwrap_err().to_string();
    assert_eq!(refusal(dir.path()), "is a directory");
    assert!(refusal(&dir.path().join("none")).contains("No such file"));
}

#[test]
fn every_protocol_is_told_where_the_initrd_is() {
    let elf = TestElf::at(MIB);
    for image in [
        vec![0xf4],
        elf.bytes(),
        elf.with_pvh(MIB as u32).bytes(),
        TestBzImage::default().bytes(),
    ] {
        let (memory, kernel, range) = load_with(&image, b"initrd", 4 * MIB);
        let range = range.unwrap();
        let state = kernel.tell_of_machine(&memory, Some(range)).unwrap();

        let info: hvm_start_info = read(&memory, state.rbx);
        assert_eq!(info.nr_modules, 1);
        let module: hvm_modlist_entry = read(&memory, info.modlist_paddr);
        assert_eq!((module.paddr, module.size), (range.start, range.len));
        if state.rsi != 0 {
            assert_eq!(state.rsi, layout::BOOT_PARAMS);
            let header = read::<boot_params>(&memory, state.rsi).hdr;
            assert_eq!(u64::from(header.ramdisk_image), range.start);
            assert_eq!(u64::from(header.ramdisk_size), range.len);
        }
    }
}
