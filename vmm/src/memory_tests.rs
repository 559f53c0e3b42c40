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
fn more_ram_than_the_host_can_map_is_refused_with_the_size() {
    let error = allocate(1 << 62).unwrap_err();
    assert!(
        error.to_string().contains("4611686018427387904 bytes"),
        "{error}"
    );
}
