//! How a run ends: the reasons, and the event that tells every thread that it has.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, eventfd};
use rustix::io::Errno;

use crate::crash::Crash;
use crate::error::Error;

/// Why a run ended.
#[derive(Debug)]
pub enum StopReason {
    /// The guest wrote this to the debug-exit port.
    Exited(u32),
    /// The guest asked for a reset.
    Reset,
    /// The guest can no longer run.
    Crashed(Box<Crash>),
    /// A signal asked the VMM to end.
    Signal(i32),
    /// The user left, at the console or in a debugger.
    Quit,
    /// The VMM cannot go on.
    Failed(Error),
    /// A thread of the VMM panicked, and has said why.
    Panicked,
}

/// An event that happens once: the machine is to stop. Threads that may block wait for it
/// together with what they block on.
#[derive(Clone, Debug)]
pub struct StopEvent(Arc<OwnedFd>);

impl StopEvent {
    /// An event that has not happened yet.
    ///
    /// # Errors
    /// Where the host has no file descriptor for it.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?)))
    }

    /// Makes the event happen: from now on the file descriptor is readable.
    pub fn set(&self) {
        // The counter would have to be at 2^64 - 2 for this to fail.
        if let Err(error) = rustix::io::write(&self.0, &1_u64.to_ne_bytes()) {
            log::error!("cannot tell the threads to stop: {error}");
        }
    }
}

impl AsFd for StopEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until one of `fds` is ready.
pub fn poll(fds: &mut [PollFd<'_>]) -> io::Result<()> {
    loop {
        match rustix::event::poll(fds, None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
