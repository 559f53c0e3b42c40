//! Has a machine followed by a recorder: each thing that there is to be seen goes to it, under one
//! lock that nobody waits for, since all of it happens on the vCPU's thread.

use std::fmt;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard};

use devices::locks::lock;
use devices::virtio::Drain;
use devices::virtio::block::disk::Answer;
use devices::virtio::block::observe::{MakeObserver, QueueObserver};
use devices::virtio::block::request::{ParseError, Request};
use devices::virtio::block::stats::DrainCause;
use devices::virtio::queue::Batch;
use spec::mmio::InterruptStatus;
use spec::queue::Descriptor;

use super::recorder::Recorder;
use crate::observe::{ExitObserver, HandledExit, MachineObserver, QueueName};
use crate::stats::exits::{ExitKind, ExitSite};
use crate::stop::StopReason;

/// A recorder that watches, and who is to be told when it has seen all. Clones are the same.
#[derive(Clone)]
pub struct Watcher {
    recorder: Arc<Mutex<Recorder>>,
    reasons: Sender<StopReason>,
}

impl Watcher {
    /// `recorder`, which ends the machine by `reasons`.
    pub fn new(recorder: Recorder, reasons: Sender<StopReason>) -> Self {
        Self {
            recorder: Arc::new(Mutex::new(recorder)),
            reasons,
        }
    }

    /// What has been seen.
    pub fn recorder(&self) -> MutexGuard<'_, Recorder> {
        lock(&self.recorder)
    }

    fn watch(&self, see: impl FnOnce(&mut Recorder, u64)) {
        self.recorder().watch(see);
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}

impl MachineObserver for Watcher {
    fn queue(&mut self, _name: &QueueName) -> MakeObserver {
        let watcher = self.clone();
        Box::new(move || Box::new(watcher.clone()))
    }

    fn vcpu(&mut self, _index: u8) -> Box<dyn ExitObserver> {
        Box::new(self.clone())
    }
}

impl ExitObserver for Watcher {
    fn begins(&mut self, site: ExitSite) {
        if is_interrupted(site) {
            return;
        }
        self.watch(|recorder, now| recorder.exit_begins(site, now));
    }

    fn ends(&mut self, exit: &HandledExit<'_>) {
        if is_interrupted(exit.site) {
            return;
        }
        let mut done = false;
        self.watch(|recorder, now| {
            let before = recorder.is_done();
            recorder.exit_ends(exit, now);
            done = recorder.is_done() && !before;
        });
        if done {
            // Nobody listens any more when the machine has stopped for another reason.
            let _ = self.reasons.send(StopReason::Quit);
        }
    }
}

impl QueueObserver for Watcher {
    fn drain_begins(&mut self, _cause: DrainCause, next_avail: u16) {
        self.watch(|recorder, _| recorder.drain_begins(next_avail));
    }

    fn taken(&mut self, batch: &Batch) {
        self.watch(|recorder, now| recorder.taken(batch, now));
    }

    fn submitted(
        &mut self,
        head: u16,
        descriptors: &[Descriptor],
        request: &Result<Request<'_>, ParseError>,
    ) {
        self.watch(|recorder, now| recorder.submitted(head, descriptors, request, now));
    }

    fn answered(&mut self, head: u16, answer: &Answer) {
        self.watch(|recorder, now| recorder.answered(head, answer, now));
    }

    fn completed(&mut self, head: u16, used: u16, _answer: &Answer) {
        self.watch(|recorder, now| recorder.completed(head, used, now));
    }

    fn drain_ends(&mut self, _drain: Drain, interrupts: bool) {
        self.watch(|recorder, now| recorder.drain_ends(interrupts, now));
    }

    fn interrupted(&mut self, event: InterruptStatus) {
        self.watch(|recorder, now| recorder.interrupted(event, now));
    }
}

/// Whether the guest has done nothing to leave: a signal has come to its vCPU's thread.
fn is_interrupted(site: ExitSite) -> bool {
    site.kind == ExitKind::Signal
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
