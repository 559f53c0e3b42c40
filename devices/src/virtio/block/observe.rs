//! How a queue is watched as it is served: a step of it is told to whoever has asked for that, in
//! the order in which the worker takes them. It keeps nothing, and changes nothing.

use probe::probe;
use spec::block::{ID_SIZE, SECTOR_SIZE};
use spec::mmio::InterruptStatus;
use spec::queue::Descriptor;

use super::answer::Answer;
use super::request::{ParseError, Request};
use super::stats::{DrainCause, RequestKind};
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
    /// many of them were refused. The next ones are taken when each of these heads has been submitted
    /// or refused, be it by another drain.
    fn taken(&mut self, batch: &Batch) {
        let _ = batch;
    }

    /// The chain from `head` has been walked, and its request begins. Others may be submitted before it
    /// is answered, and be answered before it is.
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

    /// Data of as many `requests`, at least two of those that have been submitted, is about to be
    /// moved by one call.
    fn merged(&mut self, requests: usize) {
        let _ = requests;
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

/// Who watches a queue. Beside them each step is a static probe (USDT), for who traces the process
/// from outside: a `nop` in the code, and a note in the binary that says where it is and where its
/// arguments are. The first two arguments of each are the identity of the disk, 20 bytes padded with
/// NUL, and the queue; other numbers that are not there are -1.
pub(super) struct Observers {
    disk: [u8; ID_SIZE],
    queue: u16,
    observers: Vec<Box<dyn QueueObserver>>,
}

impl Observers {
    /// Nobody watches the `queue` of the disk that GET_ID calls `disk`.
    pub(super) fn none(disk: [u8; ID_SIZE], queue: u16) -> Self {
        let observers = Vec::new();
        Self {
            disk,
            queue,
            observers,
        }
    }

    pub(super) fn add(&mut self, observer: Box<dyn QueueObserver>) {
        self.observers.push(observer);
    }

    pub(super) fn drain_begins(&mut self, cause: DrainCause, next_avail: u16) {
        if cause.is_notification() {
            probe!(vmm, notify, self.disk.as_ptr(), self.queue, cause as u8);
        }
        self.tell(|observer| observer.drain_begins(cause, next_avail));
    }

    pub(super) fn taken(&mut self, batch: &Batch) {
        self.tell(|observer| observer.taken(batch));
    }

    pub(super) fn submitted(
        &mut self,
        head: u16,
        descriptors: &[Descriptor],
        request: &Result<Request<'_>, ParseError>,
    ) {
        let operation = request.as_ref().ok().map(|request| &request.operation);
        let position = operation.and_then(|operation| operation.position());
        self.probe_submit(
            head,
            RequestKind::of(request),
            position.map_or(-1, |position| (position / SECTOR_SIZE).cast_signed()),
            operation.map_or(-1, |operation| operation.byte_count().cast_signed()),
        );
        self.tell(|observer| observer.submitted(head, descriptors, request));
    }

    pub(super) fn refused(&mut self, head: u16, error: &ChainError) {
        self.probe_submit(head, RequestKind::Refused, -1, -1);
        self.tell(|observer| observer.refused(head, error));
    }

    fn probe_submit(&self, head: u16, kind: RequestKind, sector: i64, bytes: i64) {
        let (disk, queue, kind) = (self.disk.as_ptr(), self.queue, kind as u8);
        probe!(vmm, submit, disk, queue, head, kind, sector, bytes);
    }

    pub(super) fn merged(&mut self, requests: usize) {
        probe!(vmm, merge, self.disk.as_ptr(), self.queue, requests);
        self.tell(|observer| observer.merged(requests));
    }

    pub(super) fn answered(&mut self, head: u16, answer: &Answer) {
        self.tell(|observer| observer.answered(head, answer));
    }

    pub(super) fn completed(&mut self, head: u16, used: u16, answer: &Answer) {
        probe!(
            vmm,
            complete,
            self.disk.as_ptr(),
            self.queue,
            head,
            answer.status.map_or(-1, isize::from),
            answer.written,
        );
        self.tell(|observer| observer.completed(head, used, answer));
    }

    pub(super) fn drain_ends(&mut self, drain: Drain, interrupts: bool) {
        self.tell(|observer| observer.drain_ends(drain, interrupts));
    }

    pub(super) fn interrupted(&mut self, event: InterruptStatus) {
        self.tell(|observer| observer.interrupted(event));
    }

    fn tell(&mut self, mut tell: impl FnMut(&mut dyn QueueObserver)) {
        for observer in &mut self.observers {
            tell(&mut **observer);
        }
    }
}
