//! Whoever watches a queue is told of every step that is taken with it, in the order in which they
//! are taken, however the device learns of available buffers.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use common::*;
use devices::virtio::Drain;
use devices::virtio::block::disk::Answer;
use devices::virtio::block::observe::QueueObserver;
use devices::virtio::block::request::{Operation, ParseError, Request};
use devices::virtio::block::stats::{DrainCause, RequestKind};
use devices::virtio::chain::ChainError;
use devices::virtio::queue::Batch;
use spec::block::{request_type, status};
use spec::mmio::InterruptStatus;
use spec::queue::{AVAIL_F_NO_INTERRUPT, DescFlags, Descriptor};

/// A step, as far as it does not depend on the mode.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Began(DrainCause, u16),
    Took(Vec<u16>, u16, u16),
    /// Head, length of each descriptor, and the position of what is read.
    Submitted(u16, Vec<u32>, Option<u64>),
    Refused(u16, ChainError),
    Answered(u16, Answer),
    Completed(u16, u16, Answer),
    Ended(Drain, bool),
    Interrupted(InterruptStatus),
    Dropped,
}

type Steps = Arc<Mutex<Vec<Step>>>;

/// Writes down what it is told, up to its end.
struct Witness(Steps);

impl Witness {
    fn saw(&self, step: Step) {
        self.0.lock().unwrap().push(step);
    }
}

impl QueueObserver for Witness {
    fn drain_begins(&mut self, cause: DrainCause, next_avail: u16) {
        self.saw(Step::Began(cause, next_avail));
    }

    fn taken(&mut self, batch: &Batch) {
        let heads = batch.heads.iter().copied().collect();
        self.saw(Step::Took(heads, batch.refused, batch.avail_idx));
    }

    fn submitted(
        &mut self,
        head: u16,
        descriptors: &[Descriptor],
        request: &Result<Request<'_>, ParseError>,
    ) {
        let lengths = descriptors
            .iter()
            .map(|descriptor| descriptor.len)
            .collect();
        let position = match request {
            Ok(Request {
                operation: Operation::In { position, .. },
                ..
            }) => Some(*position),
            _ => None,
        };
        self.saw(Step::Submitted(head, lengths, position));
    }

    fn refused(&mut self, head: u16, error: &ChainError) {
        self.saw(Step::Refused(head, *error));
    }

    fn answered(&mut self, head: u16, answer: &Answer) {
        self.saw(Step::Answered(head, *answer));
    }

    fn completed(&mut self, head: u16, used: u16, answer: &Answer) {
        self.saw(Step::Completed(head, used, *answer));
    }

    fn drain_ends(&mut self, drain: Drain, interrupts: bool) {
        self.saw(Step::Ended(drain, interrupts));
    }

    fn interrupted(&mut self, event: InterruptStatus) {
        self.saw(Step::Interrupted(event));
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.saw(Step::Dropped);
    }
}

/// A live device with a witness of its queue, and what that has written down.
fn watched(mode: Mode) -> (Driver, Steps) {
    let steps = Steps::default();
    let written = Arc::clone(&steps);
    let (backend, _) = backend::hooked();
    let disk = backend.disk.clone();
    let mut driver = Driver::with_block(mode, false, disk, Box::new(backend), |mut block| {
        block.observe(0, Box::new(move || Box::new(Witness(Arc::clone(&written)))));
        block
    });
    driver.initialize(PLAIN);
    (driver, steps)
}

/// All steps, once the driver has reset the device, without drains that found nothing.
fn final_steps(driver: &mut Driver, steps: &Steps) -> Vec<Step> {
    driver.reset();
    driver.catch_up();
    let mut steps = steps.lock().unwrap().clone();
    while let Some(at) = (steps.windows(2))
        .position(|pair| matches!(pair, [Step::Began(..), Step::Ended(Drain::Complete, false)]))
    {
        steps.drain(at..at + 2);
    }
    steps
}

#[test]
fn a_request_is_told_of_from_its_head_to_its_interrupt() {
    in_every_mode(|mode| {
        let (mut driver, steps) = watched(mode);
        let (_, status) = driver.request(request_type::IN, 2, &[writable(DATA, 1024)]);
        assert_eq!(status, status::OK);
        let answer = Answer {
            kind: RequestKind::In,
            status: Some(status::OK),
            written: 1025,
            moved: 1024,
            ..Answer::default()
        };
        let steps = final_steps(&mut driver, &steps);
        let Some((Step::Began(cause, 0), steps)) = steps.split_first() else {
            panic!("{steps:?}");
        };
        assert!(!mode.is_trap() || *cause == DrainCause::Trap, "{cause:?}");
        assert_eq!(
            steps,
            [
                Step::Took(vec![0], 0, 1),
                Step::Submitted(0, vec![16, 1024, 1], Some(1024)),
                Step::Answered(0, answer),
                Step::Completed(0, 0, answer),
                Step::Ended(Drain::Complete, true),
                Step::Interrupted(InterruptStatus::USED_BUFFER),
                Step::Dropped,
            ]
        );
    });
}

#[test]
fn what_is_refused_is_told_of_with_why() {
    let (mut driver, steps) = watched(Mode::Trap);
    driver.store_u16(AVAIL, AVAIL_F_NO_INTERRUPT);
    // A head that is none, a chain that leads nowhere, and one that is no request.
    driver.offer(SIZE);
    let nowhere = Descriptor {
        flags: DescFlags::NEXT,
        next: SIZE,
        ..readable(HEADER, 16)
    };
    driver.descriptor(0, nowhere);
    driver.offer(0);
    driver.chain_at(1, &[readable(HEADER, 16)]);
    driver.offer(1);
    driver.notify();
    let beyond = ChainError::Index {
        index: SIZE,
        size: SIZE,
    };
    assert_eq!(
        final_steps(&mut driver, &steps),
        [
            Step::Began(DrainCause::Trap, 0),
            Step::Took(vec![0, 1], 1, 3),
            Step::Refused(0, beyond),
            Step::Completed(0, 0, Answer::default()),
            Step::Submitted(1, vec![16], None),
            Step::Answered(1, Answer::default()),
            Step::Completed(1, 1, Answer::default()),
            Step::Ended(Drain::Complete, false),
            Step::Dropped,
        ]
    );
}

#[test]
fn a_ring_that_cannot_be_understood_ends_its_drain_with_a_configuration_change() {
    let (mut driver, steps) = watched(Mode::Trap);
    driver.store_u16(AVAIL + 2, SIZE + 1);
    driver.notify();
    driver.notify();
    let steps = final_steps(&mut driver, &steps);
    let changed = Step::Interrupted(InterruptStatus::CONFIG_CHANGE);
    assert_eq!(steps, [changed, Step::Dropped]);
}

#[test]
fn a_drain_that_comes_to_its_bound_is_continued() {
    let (mut driver, steps) = watched(Mode::Trap);
    for head in 0..SIZE {
        driver.chain_at(head, &[writable(STATUS, 1)]);
        driver.offer(head);
    }
    driver.notify();
    let steps = steps.lock().unwrap();
    let drains = (steps.iter()).filter(|step| matches!(step, Step::Began(..) | Step::Ended(..)));
    assert_eq!(
        drains.cloned().collect::<Vec<_>>(),
        [
            Step::Began(DrainCause::Activation, 0),
            Step::Ended(Drain::Complete, false),
            Step::Began(DrainCause::Trap, 0),
            Step::Ended(Drain::More, true),
            Step::Began(DrainCause::Continuation, SIZE),
            Step::Ended(Drain::Complete, false),
        ]
    );
}

#[test]
fn each_activation_has_a_witness_of_its_own() {
    in_every_mode(|mode| {
        let (mut driver, steps) = watched(mode);
        driver.assert_serves();
        driver.reset();
        driver.initialize(PLAIN);
        driver.assert_serves();
        let steps = final_steps(&mut driver, &steps);
        let dropped = steps.iter().filter(|step| **step == Step::Dropped);
        assert_eq!(dropped.count(), 2);
        let served = (steps.iter()).filter(|step| matches!(step, Step::Completed(_, 0, _)));
        assert_eq!(served.count(), 2, "indices begin again");
    });
}
