//! Who serves a queue: whoever notifies, or a thread of the device's own. It decides nothing of how
//! that is done, and knows one queue.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::NotifyMode;
use super::engine::Engine;
use super::stats::DrainCause;
use super::thread::WorkerThread;
use super::worker::QueueWorker;
use crate::bus::{Response, Work};
use crate::error::DeviceError;
use crate::locks::lock;
use crate::virtio::Drain;

/// Who is to serve a queue, while there is one.
pub(super) enum Server {
    /// Whoever notifies.
    Notifier(Arc<Notified>),
    /// A thread of the device's own.
    Thread(WorkerThread),
}

impl Server {
    /// Who `mode` says, in a thread called `name` where it is one.
    pub(super) fn new(mode: NotifyMode, name: &str) -> io::Result<Self> {
        let (kick, on_start, on_failure, idle_limit) = match mode {
            NotifyMode::Trap => return Ok(Self::Notifier(Arc::default())),
            NotifyMode::IoEventFd {
                kick,
                on_start,
                on_failure,
            } => (kick, on_start, on_failure, Duration::ZERO),
            NotifyMode::Poll {
                kick,
                on_start,
                on_failure,
                idle_limit,
            } => (kick, on_start, on_failure, idle_limit),
        };
        WorkerThread::start(name, kick, on_start, on_failure, idle_limit).map(Self::Thread)
    }

    /// Has the queue of `worker` served, where none is.
    pub(super) fn serve(&mut self, worker: QueueWorker) {
        match self {
            Self::Notifier(notified) => *notified.lock() = Some(worker),
            Self::Thread(thread) => thread.serve(worker),
        }
    }

    /// Whether a queue is served.
    pub(super) fn is_serving(&self) -> bool {
        match self {
            Self::Notifier(notified) => notified.lock().is_some(),
            Self::Thread(thread) => thread.is_serving(),
        }
    }

    /// Sees to it that what is in the queue is served, or returns that as the caller's work.
    pub(super) fn notify(&self) -> Result<Option<Arc<dyn Work>>, DeviceError> {
        match self {
            Self::Notifier(notified) => Ok(Some(Arc::clone(notified) as _)),
            Self::Thread(thread) => thread.kick().map(|()| None),
        }
    }

    /// Has the size of the disk looked at, which somebody wishes for.
    pub(super) fn resize(&self) -> Result<(), DeviceError> {
        match self {
            Self::Notifier(notified) => {
                let mut worker = notified.lock();
                worker.as_mut().map_or(Ok(()), QueueWorker::resize)
            }
            Self::Thread(thread) => thread.kick(),
        }
    }

    /// Has a thread come to its end with the queue soon, without waiting for that.
    pub(super) fn ask_to_stop(&self) -> Result<(), DeviceError> {
        match self {
            Self::Notifier(_) => Ok(()),
            Self::Thread(thread) => thread.ask_to_stop(),
        }
    }

    /// Has nobody serve the queue any more, and returns its engine if somebody did: nothing of it is in
    /// flight then.
    pub(super) fn stop(&mut self) -> Result<Option<Box<dyn Engine>>, DeviceError> {
        match self {
            Self::Notifier(notified) => {
                let worker = notified.lock().take();
                worker.map(QueueWorker::end).transpose()
            }
            Self::Thread(thread) => thread.stop(),
        }
    }
}

/// A queue that whoever notifies serves, each in his own thread and one after the other: others have
/// other queues, and the device, meanwhile.
#[derive(Default)]
pub(super) struct Notified(Mutex<Option<QueueWorker>>);

impl Notified {
    fn lock(&self) -> MutexGuard<'_, Option<QueueWorker>> {
        lock(&self.0)
    }
}

impl Work for Notified {
    /// Drains the queue once, if it is live still. The driver notifies when there is more after a
    /// drain that was complete.
    fn work(&self) -> Response {
        let mut worker = self.lock();
        let Some(worker) = worker.as_mut() else {
            return Response::Done;
        };
        match worker.process_queue() {
            Ok(Drain::Complete) if worker.rearm_notifications() => {
                worker.woken(DrainCause::Poll);
                Response::Again
            }
            drained => drained.into(),
        }
    }
}

impl fmt::Debug for Notified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notified")
    }
}
