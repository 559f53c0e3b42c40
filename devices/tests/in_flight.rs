//! A disk with requests in flight: an engine ends their transfers when it likes and in any order, and
//! the guest finds what a disk that does one thing after the other would have left.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::thread;

use common::engine::Call;
use common::machine::{ALL, Machine};
use common::*;
use devices::BusDevice;
use devices::virtio::block::engine::TRANSFERS_MAX;
use devices::virtio::block::stats::DrainCause;
use spec::block::{request_type, status};
use spec::mmio::Register;

/// Where the size of the disk is in the configuration space.
const CAPACITY: u64 = spec::mmio::CONFIG_OFFSET;

/// Sectors that are not neighbours.
fn apart(index: u16) -> u64 {
    2 * u64::from(index) % SECTORS
}

#[test]
fn requests_complete_as_their_transfers_end_and_each_with_an_interrupt_that_is_wanted() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 16, ALL, 3);
        for index in 0..8 {
            machine.offer(index, request_type::IN, apart(index));
        }
        machine.driver.notify();
        machine.gate.wait_for(8);
        assert_eq!(machine.driver.used_idx(), 0);
        let mut heads = Vec::new();
        for _ in 0..8 {
            machine.gate.let_go(1);
            let used = machine.driver.wait_used();
            assert_eq!(used.len, 513);
            machine.assert_read(used.head as u16, apart(used.head as u16));
            heads.push(used.head);
        }
        assert_ne!(
            heads,
            [0, 1, 2, 3, 4, 5, 6, 7],
            "the engine has an order of its own"
        );
        heads.sort_unstable();
        assert_eq!(heads, [0, 1, 2, 3, 4, 5, 6, 7]);
        machine.driver.reset();
        let stats = machine.driver.stats.snapshot();
        assert!(mode != Mode::IoEventFd || stats.drains(DrainCause::Completion) > 0);
    }
}

#[test]
fn what_is_made_available_while_requests_are_in_flight_joins_them() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 16, ALL, 1);
        for index in 0..4 {
            machine.offer(index, request_type::IN, apart(index));
            machine.driver.notify();
            machine.gate.wait_for(u64::from(index) + 1);
        }
        machine.gate.open();
        machine.driver.wait_for_many(4);
    }
}

#[test]
fn a_flush_begins_when_all_before_it_has_ended_and_nothing_after_it_has_begun() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 16, ALL, 7);
        for index in 0..3 {
            machine.offer(index, request_type::OUT, apart(index));
        }
        machine
            .driver
            .offer_one_of_many(3, request_type::FLUSH, 0, &[]);
        machine.offer(4, request_type::OUT, 40);
        machine.driver.notify();
        machine.gate.wait_for(3);
        machine.gate.let_go(2);
        machine.gate.wait_for(1);
        assert!(!machine.disk.take_calls().contains(&Call::Flush));
        machine.gate.let_go(1);
        let used = machine.driver.wait_for_many(4);
        assert_eq!(used[3].head, 3);
        let calls = machine.disk.take_calls();
        assert_eq!((calls.len(), calls[1]), (2, Call::Flush), "{calls:?}");
        machine.gate.open();
        assert_eq!(machine.driver.wait_used().head, 4);
        assert_eq!(machine.disk.take_calls(), [Call::Write(40 * 512, 512)]);
    }
}

#[test]
fn a_slow_disk_keeps_no_vcpu_from_the_registers_and_from_notifying() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 16, ALL, 0);
        machine.offer(0, request_type::IN, 5);
        machine.driver.notify();
        machine.gate.wait_for(1);
        for _ in 0..3 {
            machine.driver.write(Register::QueueNotify, 0);
            machine.driver.notify();
            assert_eq!(machine.driver.read(Register::Status), 15);
        }
        assert_eq!(machine.gate.in_flight(), 1);
        machine.gate.open();
        assert_eq!(machine.driver.wait_used().head, 0);
        machine.assert_read(0, 5);
    }
}

#[test]
fn no_more_is_in_flight_than_may_be_and_the_rest_follows_when_some_has_ended() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 512, PLAIN, 5);
        let driver = &mut machine.driver;
        // All read the same sector, so that no two are neighbours: each with a first descriptor of its
        // own, and the others in common.
        driver.header(request_type::IN, 9);
        driver.chain_at(509, &read_chain());
        let header = linked(&read_chain(), 509)[0];
        let many = 2 * TRANSFERS_MAX as u16 + 10;
        for head in 0..many {
            driver.descriptor(head, header);
            driver.offer(head);
        }
        driver.notify();
        machine.gate.wait_for(TRANSFERS_MAX as u64);
        assert_eq!(driver.used_idx(), 0);
        machine.gate.open();
        let used = driver.wait_for_many(many.into());
        let mut heads: Vec<_> = used.iter().map(|used| used.head).collect();
        heads.sort_unstable();
        assert!(heads.into_iter().eq(0..u32::from(many)));
        assert_eq!(machine.gate.most(), TRANSFERS_MAX as u64);
        driver.assert_serves();
    }
}

#[test]
fn a_reset_waits_for_what_is_in_flight_and_nothing_is_written_after_it() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 16, ALL, 11);
        for index in 0..4 {
            machine.offer(index, request_type::IN, apart(index));
        }
        machine.driver.notify();
        machine.gate.wait_for(4);
        let gate = Arc::clone(&machine.gate);
        let resetting = thread::spawn(move || {
            machine.driver.reset();
            machine
        });
        gate.let_go(3);
        gate.wait_for(1);
        assert!(!resetting.is_finished());
        gate.let_go(1);
        let mut machine = resetting.join().unwrap();
        let before = machine.driver.snapshot();
        assert_eq!(machine.gate.in_flight(), 0);
        machine.gate.open();
        assert!(machine.driver.snapshot() == before);
        machine.driver.initialize(ALL);
        machine.driver.assert_serves();
    }
}

#[test]
fn a_queue_that_the_vcpu_serves_has_nothing_in_flight_when_it_goes_on() {
    let mut machine = Machine::new(Mode::Trap, 16, ALL, 2);
    for index in 0..6 {
        machine.offer(index, request_type::IN, apart(index));
    }
    let gate = Arc::clone(&machine.gate);
    let vcpu = thread::spawn(move || {
        machine.driver.notify();
        machine
    });
    gate.wait_for(6);
    assert!(!vcpu.is_finished());
    gate.open();
    let mut machine = vcpu.join().unwrap();
    assert_eq!(
        (machine.gate.in_flight(), machine.driver.used_idx()),
        (0, 6)
    );
    assert_eq!(machine.driver.wait_for_many(6).len(), 6);
}

#[test]
fn a_disk_gets_another_size_when_nothing_that_was_held_against_the_old_one_is_in_flight() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 16, ALL, 2);
        let last = SECTORS - 1;
        machine.offer(0, request_type::OUT, last);
        machine.driver.notify();
        machine.gate.wait_for(1);
        machine.disk.disk.bytes().truncate(512 * 32);
        machine.driver.transport.refresh().unwrap();
        let capacity = |machine: &mut Machine| {
            let mut capacity = [0; 8];
            machine.driver.transport.read(CAPACITY, &mut capacity);
            u64::from_le_bytes(capacity)
        };
        assert_eq!(capacity(&mut machine), SECTORS);
        machine.gate.open();
        machine.driver.wait_used();
        let edges = Arc::clone(&machine.driver.edges);
        edges.wait_until(|| capacity(&mut machine) == 32);
        machine.offer(1, request_type::IN, last);
        machine.driver.notify();
        machine.driver.wait_used();
        assert_eq!(machine.driver.status_of(1), status::IOERR);
    }
}

#[test]
fn a_device_that_is_dropped_with_requests_in_flight_waits_for_them() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 16, ALL, 2);
        machine.offer(0, request_type::IN, 3);
        machine.driver.notify();
        machine.gate.wait_for(1);
        let gate = Arc::clone(&machine.gate);
        let driver = machine.into_driver();
        let dropping = thread::spawn(move || drop(driver));
        assert!(!dropping.is_finished());
        gate.open();
        dropping.join().unwrap();
        assert_eq!(gate.in_flight(), 0);
    }
}
