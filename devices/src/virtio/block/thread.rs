//! The thread that serves a queue when an eventfd says so, or while it watches the queue itself. It
//! decides when the queue is drained, never how.

use std::hint;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use vmm_sys_util::eventfd::EventFd;

use super::FailureHandler;
use super::disk::Disk;
use super::stats::DrainCause;
use super::worker::QueueWorker;
use crate::error::DeviceError;
use crate::virtio::Drain;

/// How often an idle thread looks into the queue before it looks at the clock, and lets another
/// thread have its CPU: a few microseconds.
const LOOKS: u32 = 64;

/// A running thread that owns a [`QueueWorker`]. It must be stopped to end.
pub(super) struct WorkerThread {
    kick: Arc<EventFd>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<Disk>,
}

impl WorkerThread {
    /// Starts a thread that drains the queue of `worker` whenever `kick` is written to, until it
    /// is stopped or has told `on_failure` why it cannot go on. Before it waits for `kick`, and has
    /// the driver notify again, it watches the empty queue for `idle_limit`.
    pub(super) fn start(
        name: String,
        worker: QueueWorker,
        kick: Arc<EventFd>,
        on_failure: FailureHandler,
        idle_limit: Duration,
    ) -> Result<Self, DeviceError> {
        let stopping = Arc::new(AtomicBool::new(false));
        let thread = Builder::new()
            .name(name.clone())
            .spawn({
                let (kick, stopping) = (Arc::clone(&kick), Arc::clone(&stopping));
                move || run(worker, &kick, &on_failure, idle_limit, &stopping)
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
    idle_limit: Duration,
    stopping: &AtomicBool,
) -> Disk {
    while !stopping.load(Ordering::SeqCst) {
        let drained = worker.process_queue();
        let next = drained.and_then(|drain| match drain {
            Drain::More => Ok(DrainCause::Continuation),
            Drain::Complete if watch(&worker, idle_limit, stopping) => Ok(DrainCause::Poll),
            Drain::Complete if worker.rearm_notifications() => Ok(DrainCause::Poll),
            Drain::Complete => wait(kick).map(|()| DrainCause::EventFd),
        });
        match next {
            Ok(cause) => worker.woken(cause),
            Err(error) => {
                (on_failure.0)(error);
                break;
            }
        }
    }
    worker.into_disk()
}

/// Looks into the queue until there is something in it or the thread is to stop, which is `true`,
/// or neither comes within `limit`.
fn watch(worker: &QueueWorker, limit: Duration, stopping: &AtomicBool) -> bool {
    if limit.is_zero() {
        return false;
    }
    let start = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if worker.has_available() || stopping.load(Ordering::Relaxed) {
                return true;
            }
            hint::spin_loop();
        }
        if start.elapsed() >= limit {
            return false;
        }
        thread::yield_now();
    }
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
