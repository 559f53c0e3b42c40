use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use super::*;
use crate::kvm::KvmError;

/// A gate that awaits `count`.
fn gate(count: usize) -> Arc<StartGate> {
    let gate = Arc::new(StartGate::default());
    (0..count).for_each(|_| gate.await_one());
    gate
}

/// A thread that comes and waits, and what tells when it has passed.
fn comer(gate: &Arc<StartGate>) -> (JoinHandle<bool>, Receiver<()>) {
    let (gate, (passing, passed)) = (Arc::clone(gate), mpsc::channel());
    let thread = thread::spawn(move || {
        gate.arrive();
        let open = gate.pass();
        passing.send(()).unwrap();
        open
    });
    (thread, passed)
}

fn reason(number: u32) -> Error {
    Error::Kvm(KvmError::Msr(number))
}

#[test]
fn nobody_passes_before_the_last_has_come() {
    let gate = gate(3);
    let comers = [comer(&gate), comer(&gate)];
    let closer = {
        let gate = Arc::clone(&gate);
        thread::spawn(move || gate.complete())
    };
    while !gate.lock().complete || gate.lock().awaited > 1 {
        thread::yield_now();
    }
    assert!(comers.iter().all(|(_, passed)| passed.try_recv().is_err()));
    assert!(!closer.is_finished());
    gate.arrive();
    closer.join().unwrap().unwrap();
    for (thread, passed) in comers {
        assert!(thread.join().unwrap());
        passed.recv().unwrap();
    }
}

#[test]
fn nobody_passes_while_others_may_still_be_awaited() {
    let gate = gate(1);
    let (thread, passed) = comer(&gate);
    while gate.lock().awaited > 0 {
        thread::yield_now();
    }
    assert!(passed.try_recv().is_err());
    gate.await_one();
    gate.arrive();
    gate.complete().unwrap();
    assert!(thread.join().unwrap());
}

#[test]
fn where_one_does_not_come_nobody_passes_and_the_first_reason_is_told() {
    let gate = gate(3);
    let (thread, _passed) = comer(&gate);
    gate.bar(reason(1));
    gate.bar(reason(2));
    assert!(!thread.join().unwrap());
    let told = gate.complete().unwrap_err().to_string();
    assert_eq!(told, reason(1).to_string());
    assert!(!gate.pass());
}

#[test]
fn a_gate_that_is_abandoned_stays_shut_and_one_that_has_opened_stays_open() {
    let shut = gate(1);
    let (thread, _passed) = comer(&shut);
    shut.abandon();
    assert!(!thread.join().unwrap());

    let open = gate(0);
    open.complete().unwrap();
    open.abandon();
    assert!(open.pass());
}
