//! The thread that serves a queue when an eventfd says so. It decides when the queue is drained,
//! never how.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use vmm_sys_util::eventfd::EventFd;

use super::FailureHandler;
use super::disk::Disk;
use super::stats::DrainCause;
use super::worker::QueueWorker;
use crate::error::DeviceError;
use crate::virtio::Drain;

/// A running thread that owns a [`QueueWorker`]. It must be stopped to end.
pub(super) struct WorkerThread {
    kick: Arc<EventFd>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<Disk>,
}

impl WorkerThread {
    /// Starts a thread that drains the queue of `worker` whenever `kick` is written to, until it
    /// is stopped or has told `on_failure` why it cannot go on.
    pub(super) fn start(
        name: String,
        worker: QueueWorker,
        kick: Arc<EventFd>,
        on_failure: FailureHandler,
    ) -> Result<Self, DeviceError> {
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = Builder::new()
            .name(name.clone())
            .spawn({
                let (kick, stopping) = (Arc::clone(&kick), Arc::clone(&stopping));
                move || run(worker, &kick, &on_failure, &stopping)
            })
            .map_err(|source| DeviceError::Thread { name, source })?;
        Ok(Self {
            kick,
            stopping,
            thread,
        })
    }

    /// Wakes the thread, for a notification that did not come by the eventfd.
    pub(super) fn kick(&self) -> Result<Drain, DeviceError> {
        self.kick.write(1).map_err(DeviceError::Kick)?;
        Ok(Drain::Complete)
    }

    /// Stops the thread, waits until it has finished the drain that it is in, and takes the disk
    /// from it.
    pub(super) fn stop(self) -> Result<Disk, DeviceError> {
        self.stopping.store(true, Ordering::SeqCst);
        self.kick()?;
        self.thread
            .join()
            .or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Drains the queue until told to stop, and hands back the disk. Buffers that were there before
/// the thread was are served first.
fn run(
    mut worker: QueueWorker,
    kick: &EventFd,
    on_failure: &FailureHandler,
    stopping: &AtomicBool,
) -> Disk {
    while !stopping.load(Ordering::SeqCst) {
        let drained = worker.process_queue();
        let waited = drained.and_then(|drain| match drain {
            Drain::More => Ok(()),
            Drain::Complete => wait(kick),
        });
        worker.woken(DrainCause::EventFd);
        if let Err(error) = waited {
            (on_failure.0)(error);
            break;
        }
    }
    worker.into_disk()
}

fn wait(kick: &EventFd) -> Result<(), DeviceError> {
    loop {
        match kick.read() {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DeviceError::Kick(error)),
        }
    }
}
