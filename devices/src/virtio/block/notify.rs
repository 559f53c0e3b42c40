//! How a device learns of available buffers, and what whoever makes it has to say to the thread that
//! it may have for that. Nothing is served here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use vmm_sys_util::eventfd::EventFd;

use crate::error::DeviceError;

/// How the device learns of available buffers.
#[derive(Debug)]
pub enum NotifyMode {
    /// The write to QueueNotify comes to the transport, and the thread that wrote serves the
    /// queue.
    Trap,
    /// A thread of the device's own serves the queue when it is notified.
    IoEventFd {
        /// What the kernel turns the write to QueueNotify into a write to. It must be one that
        /// blocks when it is read.
        kick: EventFd,
        /// Is called when the thread begins.
        on_start: StartHook,
        /// Hears of what stops the thread.
        on_failure: FailureHandler,
    },
    /// A thread of the device's own watches the queue, and the driver is asked not to notify. When
    /// the queue has been empty for some time the thread sleeps until it is notified, so that an
    /// idle guest costs nothing.
    Poll {
        /// As in [`IoEventFd`](Self::IoEventFd).
        kick: EventFd,
        /// As in [`IoEventFd`](Self::IoEventFd).
        on_start: StartHook,
        /// As in [`IoEventFd`](Self::IoEventFd).
        on_failure: FailureHandler,
        /// For how long the thread watches an empty queue.
        idle_limit: Duration,
    },
}

/// Is called on the thread of a device before it does anything else. By default it does nothing.
pub struct StartHook(Box<dyn FnOnce() + Send>);

impl StartHook {
    /// Calls `hook`.
    pub fn new(hook: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(hook))
    }

    pub(super) fn call(self) {
        (self.0)();
    }
}

impl Default for StartHook {
    fn default() -> Self {
        Self::new(|| ())
    }
}

impl fmt::Debug for StartHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartHook").finish_non_exhaustive()
    }
}

/// Is called, on the thread of a device, with a failure that the machine cannot go on from. There
/// is no access of a guest then to answer with [`Response::Failed`](crate::Response::Failed), and
/// none may come, since the guest waits: whoever made the device is to end the machine.
#[derive(Clone)]
pub struct FailureHandler(Arc<dyn Fn(DeviceError) + Send + Sync>);

impl FailureHandler {
    /// Calls `handle`.
    pub fn new(handle: impl Fn(DeviceError) + Send + Sync + 'static) -> Self {
        Self(Arc::new(handle))
    }

    pub(super) fn call(&self, error: DeviceError) {
        (self.0)(error);
    }
}

impl fmt::Debug for FailureHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailureHandler").finish_non_exhaustive()
    }
}
