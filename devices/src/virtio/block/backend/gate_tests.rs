use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::*;

#[test]
fn many_are_in_at_once_and_nobody_gets_in_while_it_is_closed() {
    let gate = Gate::default();
    assert!(gate.try_enter());
    gate.enter();
    gate.leave();
    gate.leave();
    let closed = gate.close();
    assert!(!gate.try_enter());
    drop(closed);
    assert!(gate.try_enter());
}

#[test]
fn one_who_closes_waits_for_those_who_are_in_and_lets_in_nobody_meanwhile() {
    let gate = Gate::default();
    gate.enter();
    thread::scope(|scope| {
        let (sender, closed) = channel();
        let gate = &gate;
        scope.spawn(move || {
            let held = gate.close();
            sender.send(()).unwrap();
            drop(held);
        });
        while gate.try_enter() {
            gate.leave();
            thread::yield_now();
        }
        let early = closed.recv_timeout(Duration::from_millis(10));
        assert_eq!(early, Err(RecvTimeoutError::Timeout));
        gate.leave();
        closed.recv_timeout(Duration::from_secs(10)).unwrap();
        gate.enter();
    });
}

#[test]
fn those_who_close_it_do_so_one_after_the_other_and_all_get_their_turn() {
    let (gate, inside, done) = (Gate::default(), AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let closed = gate.close();
                    assert_eq!(inside.fetch_add(1000, SeqCst), 0);
                    inside.fetch_sub(1000, SeqCst);
                    drop(closed);
                    gate.enter();
                    assert!(inside.fetch_add(1, SeqCst) < 1000);
                    inside.fetch_sub(1, SeqCst);
                    gate.leave();
                    done.fetch_add(1, SeqCst);
                }
            });
        }
    });
    assert_eq!(done.load(SeqCst), 600);
}

#[test]
fn one_who_panics_while_in_is_in_no_more() {
    let gate = Gate::default();
    thread::scope(|scope| {
        let panics = scope.spawn(|| {
            let _inside = gate.pass();
            assert_eq!(gate.inside.load(SeqCst), 0, "a panic that is wanted");
        });
        assert!(panics.join().is_err());
    });
    assert_eq!(gate.inside.load(SeqCst), 0);
}
