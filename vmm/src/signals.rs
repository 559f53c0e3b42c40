//! The signals that ask the VMM to end, as reasons to stop. Decides nothing about how.

use std::io;
use std::sync::mpsc::Sender;
use std::thread::{Builder, JoinHandle};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::error::{Error, cannot};
use crate::stop::StopReason;

/// The thread that waits for signals. Dropping this ends it.
#[derive(Debug)]
pub struct SignalThread {
    handle: Handle,
    /// `None` once it has been waited for.
    thread: Option<JoinHandle<()>>,
}

impl SignalThread {
    /// Starts to send each signal that asks the VMM to end to `reasons`.
    ///
    /// # Errors
    /// Where a signal cannot be handled, or there can be no thread.
    pub fn spawn(reasons: Sender<StopReason>) -> Result<Self, Error> {
        let mut wanted = Vec::new();
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            // A parent that has a signal ignored wants it to stay so: nohup, and the shells that
            // start a job in the background.
            if !is_ignored(signal).map_err(cannot("look at a signal's action"))? {
                wanted.push(signal);
            }
        }
        let mut signals = Signals::new(wanted).map_err(cannot("handle signals"))?;
        let handle = signals.handle();
        let thread = Builder::new()
            .name("signals".into())
            .spawn(move || {
                for signal in signals.forever() {
                    // Nobody listens any more when the machine has stopped for another reason.
                    let _ = reasons.send(StopReason::Signal(signal));
                }
            })
            .map_err(cannot("start the signals' thread"))?;
        Ok(Self {
            handle,
            thread: Some(thread),
        })
    }
}

impl Drop for SignalThread {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the hook that reports them all.
            let _ = thread.join();
        }
    }
}

fn is_ignored(signal: i32) -> io::Result<bool> {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null pointer for the new action changes nothing, and `action` is room for the
    // old one.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zero is a `sigaction`, and the call has filled it in.
    Ok(unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN)
}
