//! The driver's side of the virtqueue against a device's side that a test plays by hand: what is
//! in the rings, what becomes of indices that wrap, and what a device cannot do to the driver.

use super::*;
use proptest::prelude::*;
use spec::queue::{AVAIL_F_NO_INTERRUPT, USED_F_NO_NOTIFY};
use spec::queue::{avail_entry, avail_event, used_entry, used_event};
use std::vec::Vec;

const MEMORY: usize = 2 << 20;

/// Runs `test` with an arena of its own.
fn with_arena(test: impl FnOnce(&mut Arena<'_>)) {
    let mut memory = std::vec![0u64; MEMORY / 8];
    // SAFETY: the memory is used by nothing else and outlives the arena.
    let mut arena = unsafe { Arena::new(memory.as_mut_ptr().cast(), MEMORY) };
    test(&mut arena);
}

/// A device that does what it is told.
struct Device {
    avail_idx: u16,
    used_idx: u16,
}

impl Device {
    const fn new() -> Self {
        Self {
            avail_idx: 0,
            used_idx: 0,
        }
    }

    /// The head of the next available chain.
    fn pop(&mut self, queue: &VirtQueue<'_>) -> Option<u16> {
        let driver = queue.driver_area;
        if driver.load16(queue::RING_IDX as usize, Ordering::Acquire) == self.avail_idx {
            return None;
        }
        let entry = avail_entry(self.avail_idx, queue.size) as usize;
        self.avail_idx = self.avail_idx.wrapping_add(1);
        Some(driver.load16(entry, Ordering::Relaxed))
    }

    /// Returns a chain.
    fn push(&mut self, queue: &VirtQueue<'_>, id: u32, len: u32) {
        let entry = used_entry(self.used_idx, queue.size) as usize;
        queue.device_area.write(entry, &id.to_le_bytes());
        queue.device_area.write(entry + 4, &len.to_le_bytes());
        self.used_idx = self.used_idx.wrapping_add(1);
        let offset = queue::RING_IDX as usize;
        queue
            .device_area
            .store16(offset, self.used_idx, Ordering::Release);
    }
}

fn read_descriptor(table: Region<'_>, index: u16) -> Descriptor {
    let mut bytes = [0; 16];
    table.read(usize::from(index) * 16, &mut bytes);
    Descriptor::from_bytes(bytes)
}

#[test]
fn a_direct_chain_is_linked_by_next_and_ends() {
    with_arena(|arena| {
        let buffer = arena.alloc(64, 1).unwrap();
        let mut queue = VirtQueue::new(8, true, false, arena).unwrap();
        let (header, status) = (buffer.part(0, 16), buffer.part(63, 1));
        let parts: [&[_]; 2] = [&[Buffer::readable(header)], &[Buffer::writable(status)]];
        let head = queue.add(&parts).unwrap();

        let first = read_descriptor(queue.descriptor_area, head);
        assert_eq!((first.addr, first.len), (header.addr(), 16));
        assert_eq!(first.flags, DescFlags::NEXT);
        let last = read_descriptor(queue.descriptor_area, first.next);
        assert_eq!((last.addr, last.len), (status.addr(), 1));
        assert_eq!(last.flags, DescFlags::WRITE);
    });
}

#[test]
fn an_indirect_chain_takes_one_descriptor_of_the_queue() {
    with_arena(|arena| {
        let buffer = Buffer::writable(arena.alloc(64, 1).unwrap());
        let mut queue = VirtQueue::new(8, true, true, arena).unwrap();
        for _ in 0..8 {
            queue.add(&[&[buffer; 3]]).unwrap();
        }
        assert_eq!(queue.add(&[&[buffer; 3]]), Err(Error::QueueFull));

        let indirect = read_descriptor(queue.descriptor_area, 5);
        assert_eq!(indirect.flags, DescFlags::INDIRECT);
        assert_eq!(indirect.len, 3 * 16);
        let tables = queue.tables.unwrap();
        let table = tables.part((indirect.addr - tables.addr()) as usize, 3 * 16);
        let flags: Vec<_> = (0..3).map(|i| read_descriptor(table, i).flags).collect();
        let more = DescFlags::WRITE | DescFlags::NEXT;
        assert_eq!(flags, [more, more, DescFlags::WRITE]);
    });
}

#[test]
fn a_chain_that_can_never_fit_is_refused_as_such() {
    with_arena(|arena| {
        let buffer = Buffer::writable(arena.alloc(64, 1).unwrap());
        for indirect in [false, true] {
            let mut queue = VirtQueue::new(4, true, indirect, arena).unwrap();
            assert_eq!(queue.add(&[&[buffer; 5]]), Err(Error::ChainLength(5)));
            assert_eq!(queue.add(&[&[], &[]]), Err(Error::ChainLength(0)));
            assert_eq!(queue.in_flight(), 0);
        }
    });
}

#[test]
fn a_size_that_is_no_power_of_two_is_refused() {
    with_arena(|arena| {
        for size in [0, 3, 512, 65535] {
            let error = VirtQueue::new(size, true, false, arena).err();
            let max = MAX_QUEUE_SIZE;
            assert_eq!(error, Some(Error::QueueSize { size, min: 1, max }));
        }
    });
}

#[test]
fn a_queue_holds_no_chain_that_is_longer_than_itself() {
    with_arena(|arena| {
        for (indirect, capacity) in [(false, [4, 2, 1, 1, 0, 0]), (true, [4, 4, 4, 4, 0, 0])] {
            let queue = VirtQueue::new(4, true, indirect, arena).unwrap();
            assert_eq!(
                [1, 2, 3, 4, 5, u16::MAX].map(|len| queue.capacity(len)),
                capacity
            );
        }
        let queue = VirtQueue::new(MAX_QUEUE_SIZE, true, true, arena).unwrap();
        assert_eq!(queue.capacity(MAX_CHAIN as u16 + 1), 0);
    });
}

#[test]
fn every_16_bit_index_wraps() {
    with_arena(|arena| {
        let buffer = Buffer::writable(arena.alloc(64, 1).unwrap());
        for (event_idx, indirect) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut queue = VirtQueue::new(4, event_idx, indirect, arena).unwrap();
            let mut device = Device::new();
            for i in 0..70_000u32 {
                let head = queue.add(&[&[buffer; 2]]).unwrap();
                // The device wants to be told of this one, and only of this one.
                let event = avail_event(4) as usize;
                let wants = device.avail_idx.wrapping_sub(u16::from(i % 2 == 1));
                queue.device_area.store16(event, wants, Ordering::Relaxed);
                assert_eq!(queue.needs_notification(), !event_idx || i % 2 == 0);

                assert!(queue.request_interrupt(1), "nothing is used yet");
                assert_eq!(device.pop(&queue), Some(head));
                device.push(&queue, head.into(), i);
                assert!(!queue.request_interrupt(1), "something is used");
                assert_eq!(queue.pop_used(), Ok(Some(Used { head, len: i })));
                assert_eq!(queue.pop_used(), Ok(None));
            }
        }
    });
}

#[test]
fn an_interrupt_is_asked_for_at_the_next_used_buffer() {
    with_arena(|arena| {
        let mut queue = VirtQueue::new(4, true, false, arena).unwrap();
        for used in [0, 1, 0x7fff, 0xffff] {
            queue.used_idx = used;
            queue.device_area.store16(2, used, Ordering::Relaxed);
            assert!(queue.request_interrupt(1));
            let event = || {
                queue
                    .driver_area
                    .load16(used_event(4) as usize, Ordering::Relaxed)
            };
            assert!(queue::need_event(event(), used.wrapping_add(1), used));
        }
    });
}

#[test]
fn an_interrupt_is_asked_for_when_so_many_buffers_are_used_and_not_before() {
    with_arena(|arena| {
        let buffer = Buffer::writable(arena.alloc(64, 1).unwrap());
        for first in [0, 1, 0x7ffc, 0x7fff, 0xfffa, 0xfffc, 0xffff] {
            for chains in 1..=8u16 {
                let mut queue = VirtQueue::new(8, true, true, arena).unwrap();
                let mut device = Device::new();
                (queue.used_idx, device.used_idx) = (first, first);
                let start = queue::RING_IDX as usize;
                queue.device_area.store16(start, first, Ordering::Relaxed);
                for _ in 0..8 {
                    queue.add(&[&[buffer]]).unwrap();
                }
                for used in 0..8u16 {
                    // What is used already is not waited for.
                    assert_eq!(queue.request_interrupt(chains), used < chains);
                    let offset = used_event(8) as usize;
                    let event = queue.driver_area.load16(offset, Ordering::Relaxed);
                    device.push(&queue, used.into(), 0);
                    let (new, old) = (device.used_idx, device.used_idx.wrapping_sub(1));
                    assert_eq!(queue::need_event(event, new, old), used + 1 == chains);
                }
            }
        }
    });
}

#[test]
fn without_event_indices_any_used_buffer_ends_a_wait_for_more() {
    with_arena(|arena| {
        let buffer = Buffer::writable(arena.alloc(64, 1).unwrap());
        let mut queue = VirtQueue::new(4, false, false, arena).unwrap();
        let mut device = Device::new();
        for _ in 0..4 {
            queue.add(&[&[buffer]]).unwrap();
        }
        device.push(&queue, 0, 0);
        queue.suppress_interrupts();
        assert!(queue.request_interrupt(2), "another is to come");
        assert_eq!(queue.driver_area.load16(0, Ordering::Relaxed), 0);
        device.push(&queue, 1, 0);
        assert!(!queue.request_interrupt(2));
    });
}

#[test]
fn a_chain_that_is_kept_comes_back_again_and_again_with_what_it_was_made_of() {
    with_arena(|arena| {
        let buffer = Buffer::writable(arena.alloc(64, 1).unwrap());
        for indirect in [false, true] {
            let mut queue = VirtQueue::new(8, true, indirect, arena).unwrap();
            let mut device = Device::new();
            let kept = queue.keep(&[&[buffer; 3]]).unwrap();
            assert_eq!((queue.in_flight(), device.pop(&queue)), (0, None));
            let taken = 8 - queue.free;
            for _ in 0..70_000 {
                queue.add_kept(kept);
                let other = queue.add(&[&[buffer; 2]]).unwrap();
                assert_eq!(queue.in_flight(), 2);
                for head in [kept, other] {
                    assert_eq!(device.pop(&queue), Some(head));
                    device.push(&queue, head.into(), 0);
                    assert_eq!(queue.pop_used(), Ok(Some(Used { head, len: 0 })));
                }
                assert_eq!(8 - queue.free, taken);
            }
            // One that is not in flight cannot be used.
            device.push(&queue, kept.into(), 0);
            queue.add(&[&[buffer]]).unwrap();
            assert_eq!(queue.pop_used(), Err(Error::UsedId(kept.into())));
        }
    });
}

#[test]
#[should_panic(expected = "in_flight")]
fn a_chain_that_is_kept_is_not_in_flight_twice() {
    with_arena(|arena| {
        let buffer = Buffer::writable(arena.alloc(64, 1).unwrap());
        let mut queue = VirtQueue::new(8, true, true, arena).unwrap();
        let kept = queue.keep(&[&[buffer; 3]]).unwrap();
        queue.add_kept(kept);
        queue.add_kept(kept);
    });
}

#[test]
fn suppressed_interrupts_are_not_asked_for_and_leave_the_flags_to_who_may_use_them() {
    with_arena(|arena| {
        let mut queue = VirtQueue::new(4, true, false, arena).unwrap();
        for used in [0u16, 1, 0x7fff, 0x8000, 0xffff] {
            queue.used_idx = used;
            queue.suppress_interrupts();
            let event = queue
                .driver_area
                .load16(used_event(4) as usize, Ordering::Relaxed);
            for old in 0..4 {
                let old = used.wrapping_sub(old);
                assert!(!queue::need_event(event, used.wrapping_add(4), old));
            }
            assert_eq!(queue.driver_area.load16(0, Ordering::Relaxed), 0);
        }
        let mut queue = VirtQueue::new(4, false, false, arena).unwrap();
        queue.suppress_interrupts();
        assert_eq!(
            queue.driver_area.load16(0, Ordering::Relaxed),
            AVAIL_F_NO_INTERRUPT
        );
        let _ = queue.request_interrupt(1);
        assert_eq!(queue.driver_area.load16(0, Ordering::Relaxed), 0);
    });
}

#[test]
fn no_notify_is_respected_and_only_without_event_indices() {
    with_arena(|arena| {
        let buffer = Buffer::writable(arena.alloc(64, 1).unwrap());
        for event_idx in [false, true] {
            let mut queue = VirtQueue::new(4, event_idx, false, arena).unwrap();
            queue
                .device_area
                .store16(0, USED_F_NO_NOTIFY, Ordering::Relaxed);
            queue.add(&[&[buffer]]).unwrap();
            assert_eq!(queue.needs_notification(), event_idx);
            assert!(!queue.needs_notification(), "nothing was added since");
        }
    });
}

#[test]
fn a_device_that_sleeps_is_notified_however_many_chains_it_took_without_that() {
    with_arena(|arena| {
        let buffer = Buffer::writable(arena.alloc(64, 1).unwrap());
        for taken in [0, 1, 0xffff, 0x1_0000, 0x1_0001, 0x2_0000] {
            let mut queue = VirtQueue::new(4, true, false, arena).unwrap();
            let mut device = Device::new();
            for _ in 0..taken {
                let head = queue.add(&[&[buffer]]).unwrap();
                device.push(&queue, head.into(), 0);
                queue.pop_used().unwrap().unwrap();
            }
            // It goes to sleep here, and there is more for it.
            queue
                .device_area
                .store16(avail_event(4) as usize, queue.avail_idx, Ordering::Relaxed);
            queue.add(&[&[buffer]]).unwrap();
            queue.add(&[&[buffer]]).unwrap();
            assert!(queue.needs_notification(), "{taken}");
            assert!(!queue.needs_notification(), "{taken}: once");
        }
    });
}

#[test]
fn whether_the_next_chain_will_need_a_notification_can_be_told_before_it_is_added() {
    with_arena(|arena| {
        let buffer = Buffer::writable(arena.alloc(64, 1).unwrap());
        for (event_idx, offset, value, expected) in [
            (false, 0, 0, true),
            (false, 0, USED_F_NO_NOTIFY, false),
            (true, avail_event(4), 0, true),
            (true, avail_event(4), 1, false),
            (true, avail_event(4), 0x8000, false),
        ] {
            let mut queue = VirtQueue::new(4, event_idx, false, arena).unwrap();
            queue
                .device_area
                .store16(offset as usize, value, Ordering::Relaxed);
            assert_eq!(queue.will_need_notification(), expected);
            assert!(!queue.needs_notification(), "nothing has been added");
            queue.add(&[&[buffer]]).unwrap();
            assert_eq!(queue.needs_notification(), expected);
        }
    });
}

#[test]
fn an_id_that_is_not_in_flight_is_an_error_and_not_a_panic() {
    with_arena(|arena| {
        let buffer = Buffer::writable(arena.alloc(64, 1).unwrap());
        for bad in [1, 3, 4, 0xffff, 0x1_0000, u32::MAX] {
            let mut queue = VirtQueue::new(4, true, false, arena).unwrap();
            assert_eq!(queue.add(&[&[buffer; 2]]), Ok(0));
            Device::new().push(&queue, bad, 0);
            assert_eq!(queue.pop_used(), Err(Error::UsedId(bad)));
        }
    });
}

#[test]
fn a_used_index_past_what_is_in_flight_is_an_error() {
    with_arena(|arena| {
        let buffer = Buffer::writable(arena.alloc(64, 1).unwrap());
        let mut queue = VirtQueue::new(4, true, false, arena).unwrap();
        let head = queue.add(&[&[buffer]]).unwrap();
        let mut device = Device::new();
        device.push(&queue, head.into(), 0);
        device.push(&queue, head.into(), 0);
        assert_eq!(queue.pop_used(), Err(Error::UsedIndex { idx: 2, seen: 0 }));
    });
}

#[test]
fn what_the_device_writes_to_the_descriptor_table_does_not_confuse_the_driver() {
    with_arena(|arena| {
        let buffer = Buffer::writable(arena.alloc(64, 1).unwrap());
        let mut queue = VirtQueue::new(8, true, false, arena).unwrap();
        let mut device = Device::new();
        for _ in 0..100 {
            let head = queue.add(&[&[buffer; 3]]).unwrap();
            queue.descriptor_area.fill(0xee);
            queue.driver_area.part(4, 16).fill(0xee);
            device.push(&queue, head.into(), 0);
            assert_eq!(
                queue.pop_used().map(|used| used.map(|used| used.head)),
                Ok(Some(head))
            );
        }
        assert_eq!(queue.free, 8);
    });
}

proptest! {
    /// Chains of random lengths, completed in a random order: each comes back once, none shares a
    /// descriptor with another, and in the end all descriptors are free.
    #[test]
    fn chains_in_flight_never_overlap(
        indirect: bool,
        steps in proptest::collection::vec((1usize..6, any::<bool>(), any::<usize>()), 1..200),
    ) {
        with_arena(|arena| {
            let buffer = Buffer::writable(arena.alloc(64, 1).unwrap());
            let mut queue = VirtQueue::new(16, true, indirect, arena).unwrap();
            let mut device = Device::new();
            let mut in_flight = Vec::new();
            let mut complete = |queue: &mut VirtQueue<'_>, in_flight: &mut Vec<u16>, which| {
                let head = in_flight.swap_remove(which);
                device.push(queue, head.into(), 1);
                assert_eq!(queue.pop_used(), Ok(Some(Used { head, len: 1 })));
            };
            for (len, finish, which) in steps {
                match queue.add(&[&[buffer; 6][..len]]) {
                    Ok(head) => {
                        assert!(!in_flight.contains(&head));
                        in_flight.push(head);
                    }
                    Err(error) => assert_eq!(error, Error::QueueFull),
                }
                let mut owned = [false; 16];
                for &head in &in_flight {
                    let mut index = head;
                    loop {
                        assert!(!std::mem::replace(&mut owned[usize::from(index)], true));
                        let descriptor = read_descriptor(queue.descriptor_area, index);
                        if !descriptor.flags.contains(DescFlags::NEXT) {
                            break;
                        }
                        index = descriptor.next;
                    }
                }
                if finish {
                    let which = which % in_flight.len();
                    complete(&mut queue, &mut in_flight, which);
                }
            }
            while !in_flight.is_empty() {
                complete(&mut queue, &mut in_flight, 0);
            }
            assert_eq!((queue.free, queue.in_flight()), (16, 0));
        });
    }
}
