use kvm_bindings::{kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::{layout, memory};

fn tables(mode: CpuMode) -> GuestMemoryMmap {
    let memory = memory::allocate(layout::MIN_MEMORY).unwrap();
    write_tables(&memory, mode).unwrap();
    memory
}

fn read(memory: &GuestMemoryMmap, address: u64) -> u64 {
    memory.read_obj(GuestAddress(address)).unwrap()
}

fn registers(mode: CpuMode) -> kvm_sregs {
    let mut sregs = kvm_sregs::default();
    segments::set(&mut sregs, mode);
    sregs
}

#[test]
fn the_gdt_holds_the_descriptors_that_manuals_give_for_these_segments() {
    for (mode, code, task) in [
        (
            CpuMode::Protected32,
            0x00cf_9b00_0000_ffff,
            0x0000_8b00_0000_0067,
        ),
        (
            CpuMode::Long64,
            0x00af_9b00_0000_ffff,
            0x0000_8b00_1100_0067,
        ),
    ] {
        let memory = tables(mode);
        let sregs = registers(mode);
        let entry = |segment: &kvm_segment| {
            assert!(segment.selector + 7 <= sregs.gdt.limit);
            read(&memory, sregs.gdt.base + u64::from(segment.selector))
        };
        assert_eq!(read(&memory, sregs.gdt.base), 0, "the null descriptor");
        assert_eq!(entry(&sregs.cs), code);
        assert_eq!(entry(&sregs.ss), 0x00cf_9300_0000_ffff);
        assert_eq!(entry(&sregs.tr), task);
        assert_eq!(
            read(&memory, sregs.gdt.base + 0x28),
            0,
            "upper half of the TSS"
        );
    }
}

#[test]
fn segments_of_a_pvh_kernel_are_those_of_its_document() {
    let sregs = registers(CpuMode::Protected32);
    for (segment, kind) in [(sregs.cs, 11), (sregs.ds, 3), (sregs.es, 3), (sregs.ss, 3)] {
        assert_eq!((segment.base, segment.limit), (0, u32::MAX));
        assert_eq!((segment.type_, segment.db, segment.l), (kind, 1, 0));
    }
    assert_eq!((sregs.tr.base, sregs.tr.limit), (0, 0x67));
}

#[test]
fn segment_registers_pass_the_checks_of_vm_entry() {
    for mode in [CpuMode::Protected32, CpuMode::Long64] {
        let sregs = registers(mode);
        assert!(sregs.cs.l == 0 || sregs.cs.db == 0, "CS.L with CS.D");
        assert_eq!(sregs.tr.type_, 11, "TR is a busy TSS");
        assert_eq!((sregs.tr.s, sregs.tr.present, sregs.tr.unusable), (0, 1, 0));
        assert_eq!(sregs.ldt.unusable, 1);
        for segment in [sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss] {
            assert_eq!((segment.type_, segment.s, segment.present), (3, 1, 1));
            assert_eq!((segment.limit, segment.g), (u32::MAX, 1));
        }
    }
}

#[test]
fn the_page_tables_map_every_address_below_4_gib_to_itself() {
    let memory = tables(CpuMode::Long64);
    let entry = |table: u64, virt: u64, shift: u32| {
        let entry = read(&memory, (table & !0xfff) + (virt >> shift & 511) * 8);
        assert_eq!(entry & 3, 3, "{virt:#x} is not present and writable");
        entry
    };
    for virt in [
        0,
        0x10_0000,
        0x3fff_ffff,
        0x4000_0000,
        0xd000_0050,
        0xfee0_0000,
        0xffff_ffff,
    ] {
        let page = entry(entry(entry(paging::ROOT, virt, 39), virt, 30), virt, 21);
        assert_ne!(page & 1 << 7, 0, "no large page");
        assert_eq!((page & !0x1f_ffff) + (virt & 0x1f_ffff), virt);
    }
    assert_eq!(read(&memory, paging::ROOT + 8), 0, "nothing beyond");
}
