//! The thread that serves a queue when an eventfd says so, or while it watches the queue itself. It
//! decides when the queue is drained, never how.

use std::hint;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use vmm_sys_util::eventfd::EventFd;

use super::engine::Engine;
use super::stats::DrainCause;
use super::worker::QueueWorker;
use super::{FailureHandler, StartHook};
use crate::error::DeviceError;
use crate::virtio::Drain;

/// How often an idle thread looks into the queue before it looks at the clock, and lets another
/// thread have its CPU: a few microseconds.
const LOOKS: u32 = 64;

/// A thread that serves the queue of whichever [`QueueWorker`] it has been given, and waits for one
/// where it has none: it lives as long as the device, so that no guest makes threads. Dropping this
/// ends it.
pub(super) struct WorkerThread {
    kick: Arc<EventFd>,
    stopping: Arc<AtomicBool>,
    /// `None` once the thread is to end.
    workers: Option<Sender<QueueWorker>>,
    /// Whether it has been given a worker that it has not been stopped with.
    serving: bool,
    done: Receiver<Result<Box<dyn Engine>, DeviceError>>,
    /// `None` once it has been waited for.
    thread: Option<JoinHandle<()>>,
}

impl WorkerThread {
    /// Starts a thread that calls `on_start`, and then drains the queue of each worker that it is
    /// given whenever `kick` is written to, until it is stopped or has told `on_failure` why it
    /// cannot go on. Before it waits for `kick`, and has the driver notify again, it watches the
    /// empty queue for `idle_limit`.
    pub(super) fn start(
        name: &str,
        kick: EventFd,
        on_start: StartHook,
        on_failure: FailureHandler,
        idle_limit: Duration,
    ) -> io::Result<Self> {
        let kick = Arc::new(kick);
        let stopping = Arc::new(AtomicBool::new(false));
        let (workers, given) = mpsc::channel();
        let (ended, done) = mpsc::channel();
        let thread = Builder::new().name(name.to_owned()).spawn({
            let (kick, stopping) = (Arc::clone(&kick), Arc::clone(&stopping));
            move || {
                on_start.call();
                for mut worker in given {
                    run(&mut worker, &kick, &on_failure, idle_limit, &stopping);
                    // Nobody waits for it when the device has gone meanwhile.
                    let _ = ended.send(worker.end());
                }
            }
        })?;
        Ok(Self {
            kick,
            stopping,
            workers: Some(workers),
            serving: false,
            done,
            thread: Some(thread),
        })
    }

    /// Has the thread serve the queue of `worker`. It must have none.
    pub(super) fn serve(&mut self, mut worker: QueueWorker) {
        self.serving = true;
        worker.leave_in_flight();
        self.stopping.store(false, Ordering::SeqCst);
        if let Some(workers) = &self.workers {
            // It fails where the thread has panicked, which `stop` finds out.
            let _ = workers.send(worker);
        }
    }

    /// Wakes the thread, whatever it waits for: for a notification that did not come by the eventfd.
    pub(super) fn kick(&self) -> Result<(), DeviceError> {
        self.kick.write(1).map_err(DeviceError::Kick)
    }

    /// Whether it serves a queue.
    pub(super) fn is_serving(&self) -> bool {
        self.serving
    }

    /// Has the thread stop serving the queue, without waiting for that.
    pub(super) fn ask_to_stop(&self) -> Result<(), DeviceError> {
        self.stopping.store(true, Ordering::SeqCst);
        self.kick()
    }

    /// Has the thread stop serving the queue, if it has one, and returns the engine of that when it
    /// has finished the drain that it is in.
    pub(super) fn stop(&mut self) -> Result<Option<Box<dyn Engine>>, DeviceError> {
        if !std::mem::take(&mut self.serving) {
            return Ok(None);
        }
        self.ask_to_stop()?;
        match self.done.recv() {
            Ok(engine) => engine.map(Some),
            // A thread that has panicked brings down whoever waits for it.
            Err(gone) => match self.thread.take().map(JoinHandle::join) {
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                _ => Err(DeviceError::Kick(io::Error::other(gone))),
            },
        }
    }
}

impl Drop for WorkerThread {
    fn drop(&mut self) {
        self.workers = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the hook that reports them all.
            let _ = thread.join();
        }
    }
}

/// Drains the queue until told to stop. Buffers that were there before the thread was are served
/// first.
fn run(
    worker: &mut QueueWorker,
    kick: &EventFd,
    on_failure: &FailureHandler,
    idle_limit: Duration,
    stopping: &AtomicBool,
) {
    while !stopping.load(Ordering::SeqCst) {
        let drained = worker.process_queue();
        let next = drained.and_then(|drain| match drain {
            Drain::More => Ok(DrainCause::Continuation),
            Drain::Later(limit) => wait(kick, worker.event(), Some(limit)),
            Drain::Complete | Drain::InFlight => {
                if watch(worker, idle_limit, stopping) || worker.rearm_notifications() {
                    Ok(DrainCause::Poll)
                } else if let Some(event) = worker.event() {
                    wait(kick, Some(event), None)
                } else {
                    read(kick).map(|()| DrainCause::EventFd)
                }
            }
        });
        match next {
            Ok(cause) => worker.woken(cause),
            Err(error) => {
                on_failure.call(error);
                break;
            }
        }
    }
}

/// Looks until there is work or the thread is to stop, which is `true`, or neither comes within
/// `limit`.
fn watch(worker: &QueueWorker, limit: Duration, stopping: &AtomicBool) -> bool {
    if limit.is_zero() {
        return false;
    }
    let start = Instant::now();
    loop {
        for _ in 0..LOOKS {
            if worker.has_work() || stopping.load(Ordering::Relaxed) {
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

/// Waits for `kick`, for what is in flight (`event`), or for as long as `limit`, whichever comes first,
/// and returns what that is.
fn wait(
    kick: &EventFd,
    event: Option<BorrowedFd<'_>>,
    limit: Option<Duration>,
) -> Result<DrainCause, DeviceError> {
    // SAFETY: it is open for as long as it is borrowed.
    let kick_fd = unsafe { BorrowedFd::borrow_raw(kick.as_raw_fd()) };
    // The kick twice, where nothing is in flight.
    let event_fd = event.unwrap_or(kick_fd);
    let mut fds = [kick_fd, event_fd].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    match poll(&mut fds, limit.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(DeviceError::Kick(error.into())),
    }
    let [kicked, ended] = fds.map(|fd| !fd.revents().is_empty());
    if kicked {
        read(kick).map(|()| DrainCause::EventFd)
    } else if ended {
        Ok(DrainCause::Completion)
    } else {
        Ok(DrainCause::Continuation)
    }
}

/// Waits for `kick`.
fn read(kick: &EventFd) -> Result<(), DeviceError> {
    loop {
        match kick.read() {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DeviceError::Kick(error)),
        }
    }
}
