//! The signals that end a process, as reasons to stop, so that none ends it halfway; or as a wish
//! to see the statistics, or to have the disks look at their images. Decides nothing about how.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{Builder, JoinHandle};

use libc::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGPWR, SIGQUIT, SIGSTKFLT, SIGTERM, SIGUSR1, SIGUSR2,
    SIGVTALRM, SIGXCPU, SIGXFSZ,
};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use vmm_sys_util::signal::{SIGRTMAX, SIGRTMIN, create_sigset};

use crate::error::{Error, cannot};
use crate::sandbox::Ticket;
use crate::stats::Statistics;
use crate::stop::{StopEvent, StopReason, poll};
use crate::vm::Disks;

/// The signals that end a process by default, besides real-time signals. Left out are those that
/// tell of a fault of the process, which would only be met again after a handler: SIGSEGV and its
/// like; and SIGPIPE, which Rust ignores.
const ENDING: [i32; 13] = [
    SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGSTKFLT, SIGXCPU, SIGVTALRM,
    SIGPROF, SIGIO, SIGPWR,
];

/// The signals that end a process by default, kept from it until a [`SignalThread`] reads them.
#[derive(Debug)]
pub struct HeldSignals(OwnedFd);

impl HeldSignals {
    /// Holds back each signal that would end the process. To be called by the thread that starts
    /// all others: they do not get them either. Does [`let_writes_fail`] too.
    ///
    /// # Errors
    /// Where a signal cannot be held back.
    pub fn hold() -> Result<Self, Error> {
        let_writes_fail()?;
        let mut wanted = Vec::new();
        for signal in ending() {
            // A parent that has a signal ignored wants it to stay so: nohup, and the shells that
            // start a job in the background.
            if !is_ignored(signal).map_err(cannot("look at a signal's action"))? {
                wanted.push(signal);
            }
        }
        hold_back(&wanted)
            .map(Self)
            .map_err(cannot("handle signals"))
    }
}

/// Does `start` with each signal that would end the process held back from this thread, and so for
/// good from the threads that it starts.
///
/// # Errors
/// Where a signal cannot be held back.
pub fn kept_from_threads<T>(start: impl FnOnce() -> T) -> Result<T, Error> {
    let signals: Vec<i32> = ending().collect();
    let set = create_sigset(&signals).map_err(cannot("hold back signals"))?;
    let old = mask(libc::SIG_BLOCK, &set).map_err(cannot("hold back signals"))?;
    let started = start();
    mask(libc::SIG_SETMASK, &old).map_err(cannot("let signals come again"))?;
    Ok(started)
}

/// The signals that end a process by default, but for the first real-time signal: by that a vCPU's
/// thread is interrupted.
fn ending() -> impl Iterator<Item = i32> {
    ENDING.into_iter().chain(SIGRTMIN() + 1..=SIGRTMAX())
}

/// Lets a write beyond the limit of a file's size (`ulimit -f`), which may be the guest's, fail from
/// now on without the signal that goes with it.
///
/// # Errors
/// Where the signal cannot be ignored.
pub fn let_writes_fail() -> Result<(), Error> {
    // SAFETY: no code runs for a signal that is ignored.
    if unsafe { libc::signal(SIGXFSZ, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(cannot("ignore SIGXFSZ")(io::Error::last_os_error()));
    }
    Ok(())
}

/// The thread that waits for signals. Dropping this ends it.
#[derive(Debug)]
pub struct SignalThread {
    stop: StopEvent,
    /// `None` once it has been waited for.
    thread: Option<JoinHandle<()>>,
}

impl SignalThread {
    /// Starts to send each of `signals` to `reasons`. Where there are `statistics`, SIGUSR1 prints
    /// them instead; where there are `disks`, SIGHUP has them look at the sizes of their images,
    /// unless it comes from a terminal that has hung up. The thread enters the sandbox by `ticket`.
    ///
    /// # Errors
    /// Where there can be no thread.
    pub fn spawn(
        signals: HeldSignals,
        reasons: Sender<StopReason>,
        statistics: Option<Arc<Statistics>>,
        disks: Disks,
        ticket: Ticket,
    ) -> Result<Self, Error> {
        let stop = StopEvent::new().map_err(cannot("create an eventfd"))?;
        let stopped = stop.clone();
        let thread = Builder::new()
            .name("signals".into())
            .spawn(move || {
                ticket.enter();
                while let Some(Signal { number, by_kernel }) = next(&signals.0, &stopped) {
                    let reason = match (number, &statistics) {
                        (SIGUSR1, Some(statistics)) => {
                            statistics.print();
                            continue;
                        }
                        (SIGHUP, _) if !by_kernel && !disks.is_empty() => {
                            match disks.look_again() {
                                Ok(()) => continue,
                                Err(error) => StopReason::Failed(error.into()),
                            }
                        }
                        _ => StopReason::Signal(number),
                    };
                    // Nobody listens any more when the machine has stopped for another reason.
                    let _ = reasons.send(reason);
                }
            })
            .map_err(cannot("start the signals' thread"))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for SignalThread {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the hook that reports them all.
            let _ = thread.join();
        }
    }
}

/// Keeps `signals` from this thread and those that it starts; returns where they can be read.
fn hold_back(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = create_sigset(signals)?;
    mask(libc::SIG_BLOCK, &set)?;
    // SAFETY: the call reads `set`.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has made this file descriptor for its caller, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Changes which signals are kept from this thread, and returns which were.
fn mask(how: i32, set: &libc::sigset_t) -> io::Result<libc::sigset_t> {
    let mut old = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the call reads `set`, and `old` is room for the mask that there was.
    let error = unsafe { libc::pthread_sigmask(how, set, old.as_mut_ptr()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    // SAFETY: all zero is a `sigset_t`, and the call has filled it in.
    Ok(unsafe { old.assume_init() })
}

/// A signal that has come.
struct Signal {
    number: i32,
    /// Whether the kernel has sent it, and no process.
    by_kernel: bool,
}

impl Signal {
    /// What a signalfd has told.
    fn from_info(info: &[u8; size_of::<libc::signalfd_siginfo>()]) -> Option<Self> {
        // They begin with `ssi_signo`, `ssi_errno` and `ssi_code`.
        let (fields, _) = info.as_chunks();
        let &[number, _, code, ..] = fields else {
            return None;
        };
        Some(Self {
            number: i32::from_ne_bytes(number),
            by_kernel: i32::from_ne_bytes(code) == libc::SI_KERNEL,
        })
    }
}

/// The next of the `signals`, or nothing when the thread is to stop.
fn next(signals: &OwnedFd, stop: &StopEvent) -> Option<Signal> {
    loop {
        let mut fds = [
            PollFd::new(signals, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        if let Err(error) = poll(&mut fds) {
            log::error!("cannot wait for signals: {error}");
            return None;
        }
        if !fds[1].revents().is_empty() {
            return None;
        }
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(signals, &mut info) {
            Ok(_) => return Signal::from_info(&info),
            Err(Errno::INTR) => {}
            Err(error) => {
                log::error!("cannot read a signal: {error}");
                return None;
            }
        }
    }
}

/// Whether nothing happens at `signal`.
///
/// # Errors
/// Where there is no such signal.
pub fn is_ignored(signal: i32) -> io::Result<bool> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null pointer for the new action changes nothing, and `action` is room for the
    // old one.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zero is a `sigaction`, and the call has filled it in.
    Ok(unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN)
}
