#![allow(clippy::unwrap_used)]

use std::thread;

use super::*;

#[test]
fn a_size_that_is_held_does_not_change_until_it_is_let_go_of() {
    let capacity = Capacity::new(8);
    let mut hold = capacity.holder();
    assert_eq!(hold.sectors(), 8);
    thread::scope(|scope| {
        let changes = scope.spawn(|| capacity.change(|sectors| *sectors = 4));
        while !capacity.0.gate.is_closing() {
            thread::yield_now();
        }
        assert!(!changes.is_finished());
        assert_eq!(hold.sectors(), 8, "who holds it asks again");
        // Whoever comes later waits for the change.
        let comes_later = scope.spawn(|| capacity.holder().sectors());
        hold.release();
        assert_eq!(comes_later.join().unwrap(), 4);
        changes.join().unwrap();
    });
    assert_eq!(hold.sectors(), 4);
}

#[test]
fn many_who_hold_a_size_and_many_who_change_it_all_come_to_their_end() {
    let capacity = Capacity::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut hold = capacity.holder();
                for _ in 0..10_000 {
                    let sectors = hold.sectors();
                    assert_eq!(capacity.0.sectors.load(Ordering::Relaxed), sectors);
                    hold.release();
                }
            });
            scope.spawn(|| {
                for _ in 0..1000 {
                    capacity.change(|sectors| *sectors += 1);
                }
            });
        }
    });
    assert_eq!(capacity.holder().sectors(), 2000);
}

#[test]
fn a_holder_that_is_dropped_holds_nothing() {
    let capacity = Capacity::new(1);
    let mut hold = capacity.holder();
    let _ = hold.sectors();
    drop(hold);
    capacity.change(|sectors| *sectors = 2);
    assert_eq!(capacity.holder().sectors(), 2);
}
