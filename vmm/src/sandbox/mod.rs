//! What the threads of a machine can still do once its guest runs: each is held to the system calls
//! of its kind (seccomp), and reaches no path, no network and no other process (landlock); with
//! `--pin` it is on one CPU of the host. Which calls these are is in `resources/seccomp`; how the
//! machine works is not known here.

mod filters;
mod paths;
mod violation;

use std::os::fd::OwnedFd;
use std::sync::Once;
use std::sync::mpsc::{self, Receiver, Sender};

use seccompiler::sock_filter;
use thiserror::Error;

use paths::Paths;

use crate::pin::{self, PinError, Pins};

/// What a thread does, and so what it may ask of the kernel: each kind has a section in
/// `resources/seccomp/threads.list`, and the filter that is generated from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadKind {
    /// Waits for the others, and takes the machine down.
    Main,
    /// Runs a vCPU.
    Vcpu,
    /// Serves a queue.
    Worker,
    /// Waits for input or for signals.
    Listener,
    /// Serves a debugger.
    Gdb,
}

impl ThreadKind {
    fn filter(self) -> &'static [sock_filter] {
        match self {
            Self::Main => filters::MAIN,
            Self::Vcpu => filters::VCPU,
            Self::Worker => filters::WORKER,
            Self::Listener => filters::LISTENER,
            Self::Gdb => filters::GDB,
        }
    }
}

/// Why a machine cannot have its sandbox.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// The handler that names a forbidden call cannot be set.
    #[error("cannot handle SIGSYS: {0}")]
    Handler(std::io::Error),
    /// A thread could not be held to its system calls.
    #[error("cannot filter the system calls of a thread ({kind:?}): {source}")]
    Seccomp {
        /// The thread.
        kind: ThreadKind,
        /// Why not.
        source: seccompiler::Error,
    },
    /// A thread could not be kept from all paths.
    #[error("cannot keep a thread ({kind:?}) from the files of the host: {source}")]
    Landlock {
        /// The thread.
        kind: ThreadKind,
        /// Why not.
        source: landlock::RulesetError,
    },
    /// A thread could not be kept on its CPU.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// A thread has ended too early.
    #[error("a thread ended before it was in the sandbox")]
    Ended,
}

/// What this kernel has of what a thread is held by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    seccomp: bool,
    paths: Paths,
}

/// The sandbox of one machine. Each thread of it enters by a [`Ticket`] of its own when it begins:
/// a thread that was started by one in the sandbox would be in both's.
#[derive(Debug)]
pub struct Sandbox {
    on: bool,
    pins: Option<Pins>,
    tickets: usize,
    entered: Sender<Result<Held, SandboxError>>,
    told: Receiver<Result<Held, SandboxError>>,
}

/// What a thread enters the sandbox with.
#[derive(Debug)]
pub struct Ticket {
    kind: ThreadKind,
    on: bool,
    /// The CPU of the host to stay on, if there is one.
    cpu: Option<usize>,
    entered: Sender<Result<Held, SandboxError>>,
    /// Below which directory files may be removed, if any.
    removable: Option<OwnedFd>,
}

impl Sandbox {
    /// A sandbox without threads so far; if not `on`, one that holds nobody.
    ///
    /// # Errors
    /// Where the handler cannot be set that names a forbidden call.
    pub fn new(on: bool) -> Result<Self, SandboxError> {
        if on {
            violation::name_them().map_err(SandboxError::Handler)?;
        }
        let (entered, told) = mpsc::channel();
        Ok(Self {
            on,
            pins: None,
            tickets: 0,
            entered,
            told,
        })
    }

    /// The same with each vCPU and each worker on the CPU of the host that `pins` has for it.
    #[must_use]
    pub fn pinned(self, pins: Option<Pins>) -> Self {
        Self { pins, ..self }
    }

    /// A ticket for a thread of this `kind`, which it must use.
    pub fn ticket(&mut self, kind: ThreadKind) -> Ticket {
        self.tickets += 1;
        let pins = self.pins.as_mut();
        Ticket {
            kind,
            on: self.on,
            cpu: pins.and_then(|pins| match kind {
                ThreadKind::Vcpu => Some(pins.vcpu()),
                ThreadKind::Worker => Some(pins.worker()),
                ThreadKind::Main | ThreadKind::Listener | ThreadKind::Gdb => None,
            }),
            entered: self.entered.clone(),
            removable: None,
        }
    }

    /// Waits until every thread that has a ticket is in the sandbox. What this kernel lacks for it is
    /// said on stderr, once in the life of the process.
    ///
    /// # Errors
    /// Where one of them could not enter.
    pub fn close(self) -> Result<(), SandboxError> {
        static SAID: Once = Once::new();
        drop(self.entered);
        let mut entered = 0;
        for held in self.told {
            let held = held?;
            let shortfall = if self.on { held.shortfall() } else { None };
            if let Some(shortfall) = shortfall {
                SAID.call_once(|| log::warn!("sandbox: {shortfall}"));
            }
            entered += 1;
        }
        if entered == self.tickets {
            Ok(())
        } else {
            Err(SandboxError::Ended)
        }
    }
}

impl Ticket {
    /// The same, for a thread that may remove files below `directory`.
    #[must_use]
    pub fn may_remove_below(self, directory: Option<OwnedFd>) -> Self {
        Self {
            removable: directory,
            ..self
        }
    }

    /// Puts the thread that calls this on its CPU and into the sandbox, for good. Whether that has
    /// worked [`Sandbox::close`] tells, before the guest runs.
    pub fn enter(self) {
        let pinned = self.cpu.map_or(Ok(()), pin::stay_on);
        let held = pinned
            .map_err(SandboxError::from)
            .and_then(|()| match self.on {
                true => enter(self.kind, self.removable.as_ref()),
                false => Ok(Held::NOTHING),
            });
        // Nobody listens any more when the machine could not be started.
        let _ = self.entered.send(held);
    }
}

/// Puts this thread into the sandbox, as far as the kernel can.
fn enter(kind: ThreadKind, removable: Option<&OwnedFd>) -> Result<Held, SandboxError> {
    let paths = Paths::deny(removable).map_err(|source| SandboxError::Landlock { kind, source })?;
    let seccomp = match seccompiler::apply_filter(kind.filter()) {
        Ok(()) => true,
        Err(error) if is_missing(&error) => false,
        Err(source) => return Err(SandboxError::Seccomp { kind, source }),
    };
    Ok(Held { seccomp, paths })
}

/// Whether `error` says that the kernel has no filters. It has looked into ours only if it has.
fn is_missing(error: &seccompiler::Error) -> bool {
    let seccompiler::Error::Seccomp(error) = error else {
        return false;
    };
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL))
}

impl Held {
    const NOTHING: Self = Self {
        seccomp: false,
        paths: Paths::NOT_DENIED,
    };

    /// What the kernel lacks, if it lacks anything.
    fn shortfall(self) -> Option<String> {
        let mut lacks = Vec::new();
        if !self.seccomp {
            lacks.push("seccomp filters".to_owned());
        }
        lacks.extend(self.paths.shortfall());
        (!lacks.is_empty()).then(|| format!("this kernel has no {}", lacks.join(", and no ")))
    }
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
