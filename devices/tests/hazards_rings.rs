//! What a hostile guest does to the rings' indices, and how the device notifies: that it yields,
//! asks for a reset where it must, and neither loses nor sends a notification that it should not.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use common::backend::Hooks;
use common::*;
use devices::Response;
use spec::block::request_type;
use spec::mmio::Register;
use spec::queue::{self, need_event};
use vm_memory::{Bytes, GuestAddress};

// Indices

#[test]
fn avail_idx_jump_of_more_than_the_queue_size_sets_needs_reset_and_a_reset_brings_the_device_back()
{
    in_every_mode(|mode| {
        for jump in [SIZE + 1, 1000, 0x8000, u16::MAX] {
            let mut driver = Driver::live(mode, PLAIN);
            driver.assert_serves();
            driver.write(Register::InterruptACK, 1);

            let idx = driver.used_idx().wrapping_add(jump);
            driver.store_u16(AVAIL + queue::RING_IDX, idx);
            let edges = driver.edges.count();
            driver.notify();
            driver.edges.wait_for(edges + 1);
            assert_eq!(driver.read(Register::Status), 15 | 64, "jump of {jump}");
            assert_eq!(driver.read(Register::InterruptStatus), 2, "jump of {jump}");

            // It does not look at the rings again, nor interrupt, until it is reset.
            driver.store_u16(AVAIL + queue::RING_IDX, driver.used_idx());
            let used = driver.used_idx();
            driver.offer(0);
            driver.notify();
            driver.reset();
            assert_eq!(driver.used_idx(), used);
            assert_eq!(driver.edges.count(), edges + 1);

            driver.initialize(PLAIN);
            assert_eq!(driver.read(Register::InterruptStatus), 0);
            driver.assert_serves();
        }
    });
}

#[test]
fn one_drain_handles_at_most_queue_size_chains_then_yields_to_come_back() {
    let (mut driver, _) = refilling(Mode::Trap, 100);
    driver.initialize(PLAIN);
    offer_first(&mut driver);
    let response = driver.try_write(Register::QueueNotify, 0);
    assert!(matches!(response, Response::Again), "{response:?}");
    let drained = driver.used_idx();
    assert!(drained <= SIZE, "{drained} chains in one drain");
    assert_eq!(
        driver.load_u16(USED),
        1,
        "notifications are suppressed still"
    );

    driver.write(Register::QueueNotify, 0);
    assert_eq!(driver.load_u16(USED), 0, "notifications are wanted again");
    assert_eq!(driver.used_idx(), driver.load_u16(AVAIL + queue::RING_IDX));
}

#[test]
fn a_drain_at_driver_ok_yields_too_and_comes_back_with_the_same_write() {
    let (mut driver, _) = refilling(Mode::Trap, 100);
    driver.negotiate(PLAIN);
    driver.set_up_queue();
    offer_first(&mut driver);
    let response = driver.try_write(Register::Status, 15);
    assert!(matches!(response, Response::Again), "{response:?}");
    driver.write(Register::Status, 15);
    assert_eq!(driver.used_idx(), 100);
}

#[test]
fn a_guest_that_refills_for_ever_does_not_keep_a_reset_from_coming_through() {
    THREADS.into_iter().for_each(refill_for_ever_and_reset);
}

fn refill_for_ever_and_reset(mode: Mode) {
    let (mut driver, hooks) = refilling(mode, u64::MAX);
    driver.initialize(PLAIN);
    offer_first(&mut driver);
    driver.notify();
    driver.edges.wait_until(|| driver.used_idx() > SIZE);
    driver.reset();
    hooks.lock().unwrap().before_read = None;
    driver.initialize(PLAIN);
    driver.assert_serves();
}

/// A driver that offers a chain whenever one is being served, up to this `limit`: heads 0 and 3 in turn.
fn refilling(mode: Mode, limit: u64) -> (Driver, Arc<Mutex<Hooks>>) {
    let (driver, hooks) = Driver::hooked(mode);
    let memory = driver.memory.clone();
    let mut served = 0_u64;
    hooks.lock().unwrap().before_read = Some(Box::new(move || {
        served += 1;
        if served < limit {
            let next = served as u16;
            let entry = GuestAddress(AVAIL + queue::avail_entry(next, SIZE));
            memory.write_obj(3 * (next % 2), entry).unwrap();
            let idx = GuestAddress(AVAIL + queue::RING_IDX);
            memory.write_obj(next.wrapping_add(1), idx).unwrap();
        }
    }));
    (driver, hooks)
}

/// Makes both chains, and offers the first.
fn offer_first(driver: &mut Driver) {
    driver.header(request_type::IN, 0);
    driver.chain_at(0, &read_chain());
    driver.chain_at(3, &read_chain());
    driver.offer(0);
}

// Notifications

#[test]
fn event_idx_interrupts_exactly_when_used_event_is_passed_across_the_wrap_at_65535() {
    let mut driver = Driver::live(Mode::Trap, EVENT_IDX);
    driver.header(request_type::GET_ID, 0);
    driver.chain_at(
        0,
        &[
            readable(HEADER, 16),
            writable(DATA, 20),
            writable(STATUS, 1),
        ],
    );
    let offsets = [0, 1, 5, 0x7fff, 0x8000, 0xffff];
    for round in 0..66_000_u32 {
        let old = driver.used_idx();
        assert_eq!(old, round as u16);
        let event = old.wrapping_add(offsets[round as usize % offsets.len()]);
        driver.store_u16(AVAIL + queue::used_event(SIZE), event);
        let edges = driver.edges.count();
        driver.offer(0);
        driver.notify();
        let new = driver.used_idx();
        assert_eq!(new, old.wrapping_add(1));
        let expected = u64::from(need_event(event, new, old));
        assert_eq!(
            driver.edges.count() - edges,
            expected,
            "{old} to {new}, event {event}"
        );
        let avail_event = driver.load_u16(USED + queue::avail_event(SIZE));
        assert_eq!(avail_event, driver.avail_idx, "avail_event");
    }
}

#[test]
fn event_idx_interrupts_once_for_a_drain_of_several_chains() {
    let mut driver = Driver::live(Mode::Trap, EVENT_IDX);
    driver.header(request_type::FLUSH, 0);
    for head in 0..4 {
        driver.chain_at(2 * head, &[readable(HEADER, 16), writable(STATUS, 1)]);
    }
    for (event, expected) in [(0, 1), (7, 1), (20, 0)] {
        driver.store_u16(AVAIL + queue::used_event(SIZE), event);
        let edges = driver.edges.count();
        (0..4).for_each(|head| driver.offer(2 * head));
        driver.notify();
        assert_eq!(driver.edges.count() - edges, expected, "used_event {event}");
    }
}

#[test]
fn no_interrupt_set_and_event_idx_not_negotiated_raises_no_interrupt() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.header(request_type::FLUSH, 0);
    driver.chain_at(0, &[readable(HEADER, 16), writable(STATUS, 1)]);
    driver.store_u16(AVAIL + queue::RING_FLAGS, queue::AVAIL_F_NO_INTERRUPT);
    driver.offer(0);
    driver.notify();
    assert_eq!(driver.used_idx(), 1);
    assert_eq!(driver.edges.count(), 0);
    assert_eq!(driver.read(Register::InterruptStatus), 0);

    driver.store_u16(AVAIL + queue::RING_FLAGS, 0);
    driver.offer(0);
    driver.notify();
    assert_eq!(driver.edges.count(), 1);
    assert_eq!(driver.read(Register::InterruptStatus), 1);
}

#[test]
fn a_drain_of_several_chains_raises_one_interrupt() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.header(request_type::FLUSH, 0);
    for head in 0..4 {
        driver.chain_at(2 * head, &[readable(HEADER, 16), writable(STATUS, 1)]);
        driver.offer(2 * head);
    }
    driver.notify();
    assert_eq!(driver.used_idx(), 4);
    assert_eq!(driver.edges.count(), 1);
    driver.notify();
    assert_eq!(driver.edges.count(), 1, "a drain that used nothing");
}

#[test]
fn an_event_that_was_not_acknowledged_does_not_keep_the_next_edge_from_coming() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.assert_serves();
    driver.assert_serves();
    assert_eq!(driver.edges.count(), 2);
    assert_eq!(driver.read(Register::InterruptStatus), 1);
}

#[test]
fn no_notification_is_lost_between_a_driver_that_offers_and_a_worker_that_goes_to_sleep() {
    for (mode, features) in [
        (Mode::IoEventFd, PLAIN),
        (Mode::IoEventFd, EVENT_IDX),
        (POLL, PLAIN),
        (POLL, EVENT_IDX),
    ] {
        let mut driver = Driver::live(mode, features);
        driver.header(request_type::FLUSH, 0);
        driver.chain_at(0, &[readable(HEADER, 16), writable(STATUS, 1)]);
        for _ in 0..20_000 {
            let old = driver.avail_idx;
            driver.offer(0);
            // Only where the device asks for it, as a driver does.
            if driver.wants_notification(features, old) {
                driver.notify();
            }
            driver.wait_used();
        }
    }
}
