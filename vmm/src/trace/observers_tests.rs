use devices::virtio::block::request::Refusal;

use super::super::ring::Home;
use super::*;
use crate::stats::exits::ExitKind;

const SITE: ExitSite = ExitSite {
    kind: ExitKind::PioOut,
    address: Some(0x3f8),
};

#[test]
fn an_exit_in_which_the_thread_panics_is_in_the_trace() {
    let home = Home::new(4);
    let mut tracer = ExitTracer::new(home.writer(), Clock::start());
    let thread = thread::spawn(move || {
        tracer.begins(SITE);
        panic!("as expected");
    });
    let id = thread.thread().id();
    thread.join().unwrap_err();
    let ring = home.take();
    assert_eq!(ring.thread, Some(id));
    let exits: Vec<_> = ring.events().collect();
    let [
        Event {
            time,
            what:
                What::Exit {
                    end,
                    kind: ExitKind::PioOut,
                    address: 0x3f8,
                    ..
                },
        },
    ] = exits[..]
    else {
        panic!("{exits:?}");
    };
    assert!(time <= end);
}

#[test]
fn a_vcpu_that_ends_between_exits_has_none_in_the_trace_that_was_not() {
    let home = Home::new(4);
    drop(ExitTracer::new(home.writer(), Clock::start()));
    assert_eq!(home.take().written(), 0);
}

#[test]
fn what_a_queue_observer_is_told_is_written_down_in_its_order() {
    let home = Home::new(16);
    let mut tracer = QueueTracer::new(home.writer(), Clock::start());
    let refusal = ParseError {
        reason: Refusal::NoStatus,
        status: None,
    };
    tracer.drain_begins(DrainCause::Poll, 7);
    tracer.taken(&Batch {
        refused: 2,
        ..Batch::default()
    });
    tracer.submitted(3, &[Descriptor::default(); 2], &Err(refusal));
    tracer.completed(3, 9, &Answer::default());
    tracer.refused(4, &ChainError::TooLong);
    tracer.drain_ends(Drain::More, true);
    tracer.interrupted(InterruptStatus::CONFIG_CHANGE);
    drop(tracer);

    let ring = home.take();
    let whats: Vec<What> = ring.events().map(|event| event.what).collect();
    let submitted = |head, descriptors| What::Submitted {
        head,
        descriptors,
        sector: None,
        bytes: 0,
    };
    assert_eq!(
        whats,
        [
            What::DrainBegins {
                cause: DrainCause::Poll,
                thread: thread::current().id(),
            },
            What::Taken { refused: 2 },
            submitted(3, 2),
            What::Completed {
                head: 3,
                kind: Answer::default().kind,
                failed: false,
                status: None,
                written: 0,
                used: 9,
            },
            submitted(4, 0),
            What::DrainEnds {
                more: true,
                interrupts: true,
            },
            What::Interrupted { used_buffer: false },
        ]
    );
    assert!(ring.events().is_sorted_by_key(|event| event.time));
}
