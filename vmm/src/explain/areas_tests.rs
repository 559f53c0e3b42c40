use super::*;

const QUEUE: Queue = Queue {
    index: 0,
    size: 32,
    descriptor_area: 0x1000,
    driver_area: 0x2000,
    device_area: 0x3000,
    event_idx: true,
    indirect: true,
};

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap()
}

fn put(memory: &GuestMemoryMmap, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
    let descriptor = Descriptor {
        addr,
        len,
        flags: DescFlags::from_bits_retain(flags),
        next,
    };
    let place = GuestAddress(QUEUE.descriptor_area + DESC_SIZE * u64::from(index));
    memory.write_slice(&descriptor.to_bytes(), place).unwrap();
}

fn store(memory: &GuestMemoryMmap, address: u64, value: u16) {
    memory
        .write_obj(value.to_le(), GuestAddress(address))
        .unwrap();
}

#[test]
fn the_fields_of_the_areas_are_where_the_specification_has_them() {
    let memory = memory();
    for (offset, value) in [(0, 1), (2, 40), (4 + 2 * 7, 9), (4 + 2 * 32, 39)] {
        store(&memory, QUEUE.driver_area + offset, value);
    }
    for (offset, value) in [(0, 0), (2, 38), (4 + 8 * 32, 41)] {
        store(&memory, QUEUE.device_area + offset, value);
    }
    memory
        .write_obj(5_u32, GuestAddress(QUEUE.device_area + 4 + 8 * 6))
        .unwrap();
    memory
        .write_obj(513_u32, GuestAddress(QUEUE.device_area + 8 + 8 * 6))
        .unwrap();
    let areas = Areas::read(&memory, &QUEUE);
    assert_eq!((areas.avail_flags(), areas.avail_idx()), (1, 40));
    assert_eq!((areas.slot(39), areas.available(7)), (7, 9));
    assert_eq!((areas.used_event(), areas.avail_event()), (39, 41));
    assert_eq!((areas.used_flags(), areas.used_idx()), (0, 38));
    assert_eq!(areas.used(6), (5, 513));
    let before = areas.with_available_index(39);
    assert_eq!((before.avail_idx(), before.available(7)), (39, 9));
}

#[test]
fn of_a_long_ring_the_entries_about_the_index_are_shown_and_of_the_table_the_chain() {
    let memory = memory();
    put(&memory, 3, 0x5000, 16, 1, 30);
    put(&memory, 30, 0x6000, 1, 2, 0);
    store(&memory, QUEUE.driver_area + 2, 33);
    let areas = Areas::read(&memory, &QUEUE);
    let parts = Parts {
        table: areas.chain(3),
        indirect: None,
        buffers: vec![(Role::Header, 0x5000, 16), (Role::Status, 0xffff, 100)],
    };
    let shown = areas.show(&memory, &parts);
    let indices: Vec<u16> = shown.descriptors.iter().map(|entry| entry.index).collect();
    assert_eq!(indices, [3, 30]);
    assert_eq!(shown.descriptors[0].descriptor.flag_names, ["NEXT"]);
    let slots: Vec<u16> = shown
        .available
        .entries
        .iter()
        .map(|entry| entry.slot)
        .collect();
    assert_eq!(slots, [0, 1, 2, 3, 4, 29, 30, 31]);
    assert_eq!(shown.buffers[0].bytes, [0; 16]);
    assert!(shown.buffers[1].bytes.is_empty(), "not in RAM");
}

#[test]
fn a_chain_without_an_end_is_no_longer_than_the_table() {
    let memory = memory();
    put(&memory, 0, 0, 0, 1, 1);
    put(&memory, 1, 0, 0, 1, 0);
    put(&memory, 2, 0, 0, 1, 99);
    let areas = Areas::read(&memory, &QUEUE);
    assert_eq!(areas.chain(0).len(), 32);
    assert_eq!(areas.chain(2), vec![2_u16]);
    assert!(areas.chain(32).is_empty());
}

#[test]
fn an_indirect_table_is_shown_as_far_as_it_is_ram() {
    let memory = memory();
    let table = indirect_table(&memory, 0x8000, 48);
    assert_eq!((table.len, table.entries.len()), (3, 3));
    let long = indirect_table(&memory, 0x8000, 16 * 128);
    assert_eq!((long.len, long.entries.len()), (128, 16));
    assert_eq!(indirect_table(&memory, 0xfff8, 48).entries, []);
    assert_eq!(indirect_table(&memory, u64::MAX, u32::MAX).entries, []);
}
