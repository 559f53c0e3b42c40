use vm_memory::{Bytes, GuestMemoryBackend};

use super::*;

#[test]
fn ram_is_zero_and_both_its_ends_can_be_written() {
    let memory = allocate(8 << 20).unwrap();
    for address in [0, (8 << 20) - 8] {
        let address = GuestAddress(address);
        assert_eq!(memory.read_obj::<u64>(address).unwrap(), 0);
        memory
            .write_obj(0x0123_4567_89ab_cdef_u64, address)
            .unwrap();
    }
    assert!(!memory.address_in_range(GuestAddress(8 << 20)));
}

#[test]
fn ram_of_more_than_3_gib_leaves_the_hole_free() {
    let memory = allocate(5 << 30).unwrap();
    assert!(memory.address_in_range(GuestAddress(spec::board::HOLE_START - 1)));
    assert!(!memory.address_in_range(GuestAddress(spec::board::HOLE_START)));
    assert!(!memory.address_in_range(GuestAddress(spec::board::HOLE_END - 1)));
    assert!(memory.address_in_range(GuestAddress(spec::board::HOLE_END)));
    assert_eq!(memory.last_addr(), GuestAddress((6 << 30) - 1));
}

#[test]
fn more_ram_than_kvm_takes_is_refused_with_both_sizes() {
    // Where this much cannot be mapped, the host says so.
    if let Err(error) = allocate(layout::MAX_MEMORY) {
        assert!(matches!(error, MemoryError::Map { .. }), "{error}");
    }
    for size in [layout::MAX_MEMORY + layout::PAGE_SIZE, 1 << 62] {
        let error = allocate(size).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{size} bytes")), "{error}");
        assert!(error.contains(" 8799314243584 "), "{error}");
    }
}
