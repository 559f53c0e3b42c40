use super::*;

/// RAM with a border at 0x8000 and a hole from 0x1_0000 to 0x2_0000.
fn memory() -> GuestMemoryMmap {
    let ranges = [(0, 0x8000), (0x8000, 0x8000), (0x2_0000, 0x1000)];
    GuestMemoryMmap::from_ranges(&ranges.map(|(base, len)| (GuestAddress(base), len))).unwrap()
}

#[test]
fn ram_is_what_lies_in_regions_from_the_first_byte_to_the_last() {
    let memory = memory();
    for (addr, len, expected) in [
        (0, 0x1_0000, true),
        (0x7fff, 2, true),
        (0xffff, 1, true),
        (0xffff, 2, false),
        (0, 0x2_1000, false),
        (0x1_ffff, 2, false),
        (0x2_0000, 0x1000, true),
        (0x2_0000, 0x1001, false),
        (u64::MAX, 1, false),
        (u64::MAX, 2, false),
        (1, u64::MAX, false),
    ] {
        assert_eq!(is_ram(&memory, addr, len), expected, "{addr:#x}+{len:#x}");
    }
}

#[test]
fn bytes_are_copied_within_a_region_and_over_a_border() {
    let memory = memory();
    for addr in [0x100, 0x7ffe, 0x8000] {
        write(&memory, GuestAddress(addr), b"bytes").unwrap();
        let mut bytes = [0; 5];
        read(&memory, GuestAddress(addr), &mut bytes).unwrap();
        assert_eq!(&bytes, b"bytes", "{addr:#x}");
    }
}

#[test]
fn a_range_that_is_not_all_ram_is_an_error() {
    let memory = memory();
    for addr in [0xfffe, 0x1_0000, 0x1_fffe, 0x2_0ffe, u64::MAX - 1] {
        let addr = GuestAddress(addr);
        read(&memory, addr, &mut [0; 5]).unwrap_err();
        write(&memory, addr, &[0; 5]).unwrap_err();
        slices(&memory, addr, 5, &mut Vec::new()).unwrap_err();
    }
}

#[test]
fn a_range_over_a_border_is_a_slice_for_each_region() {
    let memory = memory();
    let mut found = Vec::new();
    slices(&memory, GuestAddress(0x7ff0), 0x30, &mut found).unwrap();
    let lengths: Vec<_> = found.iter().map(VolatileSlice::len).collect();
    assert_eq!(lengths, [0x10, 0x20]);
}

#[test]
fn a_held_range_is_its_bytes_of_one_region_and_outlives_the_memory() {
    let memory = memory();
    for (addr, len) in [(0, 0x8000), (0x8000, 0x8000), (0x8100, 5), (0x2_0ffb, 5)] {
        write(&memory, GuestAddress(addr), b"bytes").unwrap();
        let held = HeldRange::new(&memory, addr, len).unwrap();
        assert_eq!(held.slice().len() as u64, len);
        let mut bytes = [0; 5];
        held.slice().copy_to(&mut bytes);
        assert_eq!(&bytes, b"bytes", "{addr:#x}");
    }
    for (addr, len) in [
        (0x7fff, 2),
        (0xffff, 2),
        (0x1_0000, 1),
        (0x2_0000, 0x1001),
        (1, u64::MAX),
        (u64::MAX, 1),
    ] {
        let held = HeldRange::new(&memory, addr, len);
        assert!(held.is_none(), "{addr:#x}+{len:#x}");
    }
    let held = HeldRange::new(&memory, 0x8100, 5).unwrap();
    drop(memory);
    let mut bytes = [0; 5];
    held.slice().copy_to(&mut bytes);
    assert_eq!(&bytes, b"bytes");
}
