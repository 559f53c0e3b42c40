use spec::queue::{
    AVAIL_F_NO_INTERRUPT, RING_ENTRIES, RING_IDX, USED_F_NO_NOTIFY, avail_entry, avail_event,
    need_event, used_entry, used_event,
};

use vm_memory::GuestAddress;

use super::*;

const DESC: u64 = 0x1000;
const DRIVER: u64 = 0x2000;
const DEVICE: u64 = 0x3000;
const SIZE: u16 = 4;

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap()
}

fn queue(memory: &GuestMemoryMmap, features: Features) -> SplitQueue {
    let registers = QueueRegisters {
        num: SIZE.into(),
        desc: DESC,
        driver: DRIVER,
        device: DEVICE,
    };
    let layout = QueueLayout::new(&registers, 256, memory).unwrap();
    SplitQueue::new(layout, features)
}

fn store(memory: &GuestMemoryMmap, addr: u64, value: u16) {
    memory.write_obj(value, GuestAddress(addr)).unwrap();
}

fn load(memory: &GuestMemoryMmap, addr: u64) -> u16 {
    memory.read_obj(GuestAddress(addr)).unwrap()
}

/// Puts `heads` into the available ring, which has been at `idx`.
fn offer(memory: &GuestMemoryMmap, idx: u16, heads: &[u16]) {
    let mut idx = idx;
    for head in heads {
        store(memory, DRIVER + avail_entry(idx, SIZE), *head);
        idx = idx.wrapping_add(1);
    }
    store(memory, DRIVER + RING_IDX, idx);
}

#[test]
fn heads_are_taken_in_order_and_no_more_than_the_limit() {
    let memory = memory();
    let mut queue = queue(&memory, Features::empty());
    let mut batch = Batch::default();
    offer(&memory, 0, &[2, 0, 3]);
    assert_eq!(queue.take(2, &mut batch).unwrap(), 2);
    assert_eq!((batch.heads.clone(), batch.refused), (vec![2, 0].into(), 0));
    assert_eq!(queue.take(2, &mut batch).unwrap(), 1);
    assert_eq!((batch.heads.clone(), batch.refused), (vec![3].into(), 0));
    assert_eq!(queue.take(2, &mut batch).unwrap(), 0);
    assert!(batch.heads.is_empty());
}

#[test]
fn an_entry_that_is_no_head_or_in_flight_is_refused_until_its_chain_was_used() {
    let memory = memory();
    let mut queue = queue(&memory, Features::empty());
    let mut batch = Batch::default();
    offer(&memory, 0, &[1, SIZE, 1, u16::MAX]);
    assert_eq!(queue.take(SIZE, &mut batch).unwrap(), 4);
    assert_eq!((batch.heads.clone(), batch.refused), (vec![1].into(), 3));
    offer(&memory, 4, &[1]);
    queue.take(SIZE, &mut batch).unwrap();
    assert_eq!((batch.heads.clone(), batch.refused), (vec![].into(), 1));
    queue.add_used(1, 0);
    offer(&memory, 5, &[1]);
    queue.take(SIZE, &mut batch).unwrap();
    assert_eq!((batch.heads.clone(), batch.refused), (vec![1].into(), 0));
}

#[test]
fn an_avail_idx_ahead_by_more_than_the_size_is_an_error() {
    let memory = memory();
    let mut queue = queue(&memory, Features::empty());
    let mut batch = Batch::default();
    store(&memory, DRIVER + RING_IDX, SIZE + 1);
    queue.take(SIZE, &mut batch).unwrap_err();
    store(&memory, DRIVER + RING_IDX, u16::MAX);
    queue.take(SIZE, &mut batch).unwrap_err();
    store(&memory, DRIVER + RING_IDX, SIZE);
    assert_eq!(queue.take(SIZE, &mut batch).unwrap(), SIZE);
}

#[test]
fn a_used_chain_is_in_the_used_ring_with_its_length() {
    let memory = memory();
    let mut queue = queue(&memory, Features::empty());
    queue.add_used(3, 513);
    assert_eq!(load(&memory, DEVICE + RING_IDX), 1);
    let entry: [u32; 2] = memory
        .read_obj(GuestAddress(DEVICE + RING_ENTRIES))
        .unwrap();
    assert_eq!(entry, [3, 513]);
}

#[test]
fn both_indices_go_on_across_the_wrap_at_65535() {
    let memory = memory();
    let mut queue = queue(&memory, Features::VIRTIO_F_EVENT_IDX);
    let mut batch = Batch::default();
    for idx in (0..=u16::MAX).chain(0..10) {
        let event = idx.wrapping_sub(u16::from(idx % 3 == 0));
        store(&memory, DRIVER + used_event(SIZE), event);
        offer(&memory, idx, &[idx % SIZE]);
        assert_eq!(queue.take(SIZE, &mut batch).unwrap(), 1);
        queue.add_used(idx % SIZE, u32::from(idx));
        let next = idx.wrapping_add(1);
        assert_eq!(load(&memory, DEVICE + RING_IDX), next);
        let entry = GuestAddress(DEVICE + used_entry(idx, SIZE) + 4);
        assert_eq!(memory.read_obj::<u32>(entry).unwrap(), u32::from(idx));
        let expected = need_event(event, next, idx);
        assert_eq!(queue.wants_interrupt(), expected, "at {idx}");
        assert!(!queue.rearm_notifications());
        assert_eq!(load(&memory, DEVICE + avail_event(SIZE)), next);
    }
}

#[test]
fn without_event_idx_a_flag_tells_the_driver_whether_to_notify() {
    let memory = memory();
    let mut queue = queue(&memory, Features::empty());
    queue.suppress_notifications();
    assert_eq!(load(&memory, DEVICE), USED_F_NO_NOTIFY);
    assert!(!queue.rearm_notifications());
    assert_eq!(load(&memory, DEVICE), 0);
}

#[test]
fn with_event_idx_no_batch_of_a_driver_reaches_the_event_of_a_suppressed_notification() {
    let memory = memory();
    let mut queue = queue(&memory, Features::VIRTIO_F_EVENT_IDX);
    let mut batch = Batch::default();
    for idx in (0..=u16::MAX).chain(0..10) {
        queue.suppress_notifications();
        assert_eq!(load(&memory, DEVICE), 0, "the flags must be 0");
        let event = load(&memory, DEVICE + avail_event(SIZE));
        for batch in 1..=SIZE {
            let new = idx.wrapping_add(batch);
            assert!(!need_event(event, new, idx), "{batch} after {idx}");
        }
        offer(&memory, idx, &[0]);
        assert!(queue.has_available());
        assert_eq!(queue.take(SIZE, &mut batch).unwrap(), 1);
        assert!(!queue.has_available());
        queue.add_used(0, 0);
    }
}

#[test]
fn rearming_tells_of_what_came_in_the_meantime() {
    for features in [Features::empty(), Features::VIRTIO_F_EVENT_IDX] {
        let memory = memory();
        let mut queue = queue(&memory, features);
        queue.suppress_notifications();
        offer(&memory, 0, &[0]);
        assert!(queue.rearm_notifications(), "{features:?}");
    }
}

#[test]
fn without_event_idx_no_interrupt_in_the_flags_is_honoured() {
    let memory = memory();
    let mut queue = queue(&memory, Features::empty());
    for (flags, expected) in [
        (AVAIL_F_NO_INTERRUPT, false),
        (0, true),
        (2, true),
        (3, false),
    ] {
        store(&memory, DRIVER, flags);
        queue.add_used(0, 0);
        assert_eq!(queue.wants_interrupt(), expected, "flags {flags}");
        assert!(!queue.wants_interrupt(), "nothing was used since");
    }
}

#[test]
fn with_event_idx_the_flags_have_no_meaning() {
    let memory = memory();
    let mut queue = queue(&memory, Features::VIRTIO_F_EVENT_IDX);
    store(&memory, DRIVER, AVAIL_F_NO_INTERRUPT);
    store(&memory, DRIVER + used_event(SIZE), 0);
    queue.add_used(0, 0);
    assert!(queue.wants_interrupt());
}

#[test]
fn each_refused_layout_says_why() {
    let memory = memory();
    let good = QueueRegisters {
        num: 4,
        desc: DESC,
        driver: DRIVER,
        device: DEVICE,
    };
    let refusal = |registers: QueueRegisters| {
        let error = QueueLayout::new(&registers, 256, &memory).unwrap_err();
        error.to_string()
    };
    for (registers, expected) in [
        (
            QueueRegisters {
                num: 0x1_0004,
                ..good
            },
            "the size is 65540, not a power of two up to 256",
        ),
        (
            QueueRegisters {
                desc: DESC + 8,
                ..good
            },
            "the Descriptor Area at 0x1008 is not aligned to 16",
        ),
        (
            QueueRegisters { driver: 0, ..good },
            "the Driver Area at 0x0 is not in RAM",
        ),
        (
            QueueRegisters {
                device: 0xfffc,
                ..good
            },
            "the Device Area at 0xfffc is not in RAM",
        ),
        (
            QueueRegisters {
                device: DESC + 16,
                ..good
            },
            "the Descriptor Area overlaps the Device Area",
        ),
    ] {
        assert_eq!(refusal(registers), expected);
    }
}
