//! How a queue is watched as it is served: a step of it is told to whoever has asked for that, in
//! the order in which the worker takes them. It keeps nothing, and changes nothing.

use std::fmt;

use spec::mmio::InterruptStatus;
use spec::queue::Descriptor;

use super::disk::Answer;
use super::request::{ParseError, Request};
use super::stats::DrainCause;
use crate::virtio::Drain;
use crate::virtio::chain::ChainError;
use crate::virtio::queue::Batch;

/// Watches a queue from one activation of its device to the next reset, on the thread that serves
/// it. The queue waits meanwhile: what takes long here makes the device slow.
pub trait QueueObserver: Send {
    /// A drain begins, for `cause`. `next_avail` is the running index of the first entry of the
    /// available ring that has not been taken, modulo 2^16.
    fn drain_begins(&mut self, cause: DrainCause, next_avail: u16) {
        let _ = (cause, next_avail);
    }

    /// Entries, at least one, have been taken from the available ring: `batch` says which and how
    /// many of them were refused. The next ones are taken when each of these heads has been
    /// completed, be it by another drain.
    fn taken(&mut self, batch: &Batch) {
        let _ = batch;
    }

    /// The chain from `head` has been walked, and its request is about to be answered.
    /// `descriptors` are those of the chain in its order, with those of an indirect table in place
    /// of the one that refers to it.
    fn submitted(
        &mut self,
        head: u16,
        descriptors: &[Descriptor],
        request: &Result<Request<'_>, ParseError>,
    ) {
        let _ = (head, descriptors, request);
    }

    /// The chain from `head` cannot be walked, and is not submitted.
    fn refused(&mut self, head: u16, error: &ChainError) {
        let _ = (head, error);
    }

    /// The request of the chain from `head`, which has been submitted, is answered: what it asks for
    /// is done or has failed, and its status byte is written.
    fn answered(&mut self, head: u16, answer: &Answer) {
        let _ = (head, answer);
    }

    /// The chain from `head` is in the used ring, in the entry with the running index `used`,
    /// modulo 2^16.
    fn completed(&mut self, head: u16, used: u16, answer: &Answer) {
        let _ = (head, used, answer);
    }

    /// A drain ends. The driver is about to be interrupted if it `interrupts`: it has used buffers
    /// of which the driver wants to be told.
    fn drain_ends(&mut self, drain: Drain, interrupts: bool) {
        let _ = (drain, interrupts);
    }

    /// The driver has been interrupted, for `event`.
    fn interrupted(&mut self, event: InterruptStatus) {
        let _ = event;
    }
}

/// Makes an observer at each activation of the device.
pub type MakeObserver = Box<dyn FnMut() -> Box<dyn QueueObserver> + Send>;

/// Who watches a queue.
#[derive(Default)]
pub(super) struct Observers(Vec<Box<dyn QueueObserver>>);

impl Observers {
    pub(super) fn add(&mut self, observer: Box<dyn QueueObserver>) {
        self.0.push(observer);
    }

    /// Has each of them told by `tell`.
    pub(super) fn tell(&mut self, mut tell: impl FnMut(&mut dyn QueueObserver)) {
        for observer in &mut self.0 {
            tell(&mut **observer);
        }
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} observers", self.0.len())
    }
}
