//! The notify modes, as tests choose between them.

use std::sync::mpsc::Sender;
use std::time::Duration;

use devices::DeviceError;
use devices::virtio::block::{FailureHandler, NotifyMode, StartHook};
use vmm_sys_util::eventfd::EventFd;

/// How a test has the device notified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Trap,
    /// The same for a guest that has the registers for memory.
    Mapped,
    IoEventFd,
    /// With this limit to watching an empty queue.
    Poll(Duration),
}

/// A limit that is reached now and then.
pub const POLL: Mode = Mode::Poll(Duration::from_micros(50));
/// The modes in which a thread serves the queue.
pub const THREADS: [Mode; 2] = [Mode::IoEventFd, POLL];

/// Runs `test` once for each notify mode, and for each way to have the registers.
pub fn in_every_mode(test: impl Fn(Mode)) {
    for mode in [Mode::Trap, Mode::Mapped, Mode::IoEventFd, POLL] {
        println!("notify mode: {mode:?}");
        test(mode);
    }
}

impl Mode {
    /// Whether a write to a register is what has the queue served.
    pub fn is_trap(self) -> bool {
        matches!(self, Self::Trap | Self::Mapped)
    }

    /// What makes a device of this mode, and what notifies it, where that is no register. What
    /// stops its thread goes to `failed`.
    pub fn notify_mode(self, failed: Sender<DeviceError>) -> (NotifyMode, Option<EventFd>) {
        let event = EventFd::new(0).unwrap();
        let kick = event.try_clone().unwrap();
        let on_start = StartHook::default();
        let on_failure = FailureHandler::new(move |error| failed.send(error).unwrap());
        match self {
            Self::Trap | Self::Mapped => (NotifyMode::Trap, None),
            Self::IoEventFd => {
                let mode = NotifyMode::IoEventFd {
                    kick,
                    on_start,
                    on_failure,
                };
                (mode, Some(event))
            }
            Self::Poll(idle_limit) => {
                let mode = NotifyMode::Poll {
                    kick,
                    on_start,
                    on_failure,
                    idle_limit,
                };
                (mode, Some(event))
            }
        }
    }
}
