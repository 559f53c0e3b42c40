//! Segments: flat code and data, and a TSS, in a GDT and in the registers that it would have been
//! loaded into. Selectors are those of Linux's 64-bit boot protocol; PVH leaves them open, but not
//! where the TSS is.

use kvm_bindings::{kvm_dtable, kvm_segment, kvm_sregs};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use crate::boot::CpuMode;
use crate::layout;

/// Selector of the code segment (Linux's `__BOOT_CS`).
const CODE: u16 = 0x10;
/// Selector of the data segment (Linux's `__BOOT_DS`).
const DATA: u16 = 0x18;
/// Selector of the TSS, whose descriptor takes two entries in 64-bit mode.
const TASK: u16 = 0x20;
/// Entries of the GDT.
const GDT_ENTRIES: u16 = 6;

/// Execute and read, accessed.
const TYPE_CODE: u8 = 11;
/// Read and write, accessed.
const TYPE_DATA: u8 = 3;
/// A TSS that TR is loaded with: busy, 32-bit, or 64-bit in long mode.
const TYPE_BUSY_TSS: u8 = 11;
/// Limit of a TSS without an I/O permission bitmap: its 104 bytes.
const TSS_LIMIT: u32 = 0x67;

/// Writes the GDT for `mode` into `memory`.
pub fn write(memory: &GuestMemoryMmap, mode: CpuMode) -> Result<(), GuestMemoryError> {
    let entry = |segment| (segment_selector_index(&segment), descriptor(&segment));
    let mut gdt = [0_u64; GDT_ENTRIES as usize];
    for (index, descriptor) in [code(mode), data(), task(mode)].map(entry) {
        if let Some(slot) = gdt.get_mut(index) {
            *slot = descriptor;
        }
    }
    let bytes: Vec<u8> = gdt.into_iter().flat_map(u64::to_le_bytes).collect();
    memory.write_slice(&bytes, GuestAddress(layout::GDT))
}

/// Sets the segment and descriptor table registers of `sregs` for `mode`. There is no IDT: a
/// kernel that meets an exception before it has set up its own ends in a triple fault.
pub fn set(sregs: &mut kvm_sregs, mode: CpuMode) {
    sregs.cs = code(mode);
    for register in [
        &mut sregs.ds,
        &mut sregs.es,
        &mut sregs.fs,
        &mut sregs.gs,
        &mut sregs.ss,
    ] {
        *register = data();
    }
    sregs.tr = task(mode);
    sregs.ldt = kvm_segment {
        unusable: 1,
        ..Default::default()
    };
    sregs.gdt = kvm_dtable {
        base: layout::GDT,
        limit: GDT_ENTRIES * 8 - 1,
        ..Default::default()
    };
    sregs.idt = kvm_dtable::default();
}

fn code(mode: CpuMode) -> kvm_segment {
    let long = mode == CpuMode::Long64;
    kvm_segment {
        selector: CODE,
        type_: TYPE_CODE,
        l: long.into(),
        db: (!long).into(),
        ..flat()
    }
}

fn data() -> kvm_segment {
    kvm_segment {
        selector: DATA,
        type_: TYPE_DATA,
        db: 1,
        ..flat()
    }
}

/// The TSS, which for PVH is at 0.
fn task(mode: CpuMode) -> kvm_segment {
    kvm_segment {
        base: match mode {
            CpuMode::Protected32 => 0,
            CpuMode::Long64 => layout::TSS,
        },
        limit: TSS_LIMIT,
        selector: TASK,
        type_: TYPE_BUSY_TSS,
        present: 1,
        ..Default::default()
    }
}

/// A code or data segment of all 4 GiB.
fn flat() -> kvm_segment {
    kvm_segment {
        limit: u32::MAX,
        present: 1,
        s: 1,
        g: 1,
        ..Default::default()
    }
}

fn segment_selector_index(segment: &kvm_segment) -> usize {
    usize::from(segment.selector / 8)
}

/// The descriptor that loads as `segment`: the lower half of it, for a TSS in 64-bit mode.
fn descriptor(segment: &kvm_segment) -> u64 {
    let pages = segment.g != 0;
    let limit = u64::from(if pages {
        segment.limit >> 12
    } else {
        segment.limit
    });
    let flag = |value: u8, bit: u32| u64::from(value) << bit;
    (limit & 0xffff)
        | (segment.base & 0xff_ffff) << 16
        | flag(segment.type_, 40)
        | flag(segment.s, 44)
        | flag(segment.dpl, 45)
        | flag(segment.present, 47)
        | (limit >> 16 & 0xf) << 48
        | flag(segment.l, 53)
        | flag(segment.db, 54)
        | flag(segment.g, 55)
        | (segment.base >> 24 & 0xff) << 56
}
