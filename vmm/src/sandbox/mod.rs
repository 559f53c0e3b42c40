//! What the threads of a machine can still do once its guest runs: each is held to the system calls
//! of its kind (seccomp), and reaches no path, no network and no other process (landlock); with
//! `--pin` it is on one CPU of the host. Which calls these are is in `resources/seccomp`; how the
//! machine works is not known here.

mod filters;
mod paths;
mod start_gate;
mod violation;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Once};

use seccompiler::sock_filter;
use thiserror::Error;

use paths::Paths;
use start_gate::StartGate;

use crate::error::Error;
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
    gate: Arc<StartGate>,
}

/// What a thread enters the sandbox with. Where it is dropped without that, the machine does not run.
#[derive(Debug)]
pub struct Ticket {
    kind: ThreadKind,
    on: bool,
    /// The CPU of the host to stay on, if there is one.
    cpu: Option<usize>,
    /// Below which directory files may be removed, if any.
    removable: Option<OwnedFd>,
    gate: Arc<StartGate>,
    used: bool,
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
        Ok(Self {
            on,
            pins: None,
            gate: Arc::default(),
        })
    }

    /// The same with each vCPU and each worker on the CPU of the host that `pins` has for it.
    #[must_use]
    pub fn pinned(mut self, pins: Option<Pins>) -> Self {
        self.pins = pins;
        self
    }

    /// A ticket for a thread of this `kind`, which it must use.
    pub fn ticket(&mut self, kind: ThreadKind) -> Ticket {
        self.gate.await_one();
        let pins = self.pins.as_mut();
        Ticket {
            kind,
            on: self.on,
            cpu: pins.and_then(|pins| match kind {
                ThreadKind::Vcpu => Some(pins.vcpu()),
                ThreadKind::Worker => Some(pins.worker()),
                ThreadKind::Main | ThreadKind::Listener | ThreadKind::Gdb => None,
            }),
            removable: None,
            gate: Arc::clone(&self.gate),
            used: false,
        }
    }

    /// Waits until every thread that has a ticket is in the sandbox. There are no more tickets.
    ///
    /// # Errors
    /// Where one of them could not enter, or refused to.
    pub fn close(self) -> Result<(), Error> {
        self.gate.complete()
    }
}

impl Drop for Sandbox {
    /// Who waits for the others waits in vain, where it has not been closed.
    fn drop(&mut self) {
        self.gate.abandon();
    }
}

impl Ticket {
    /// The same, for a thread that may remove files below `directory`.
    #[must_use]
    pub fn may_remove_below(mut self, directory: Option<OwnedFd>) -> Self {
        self.removable = directory;
        self
    }

    /// Puts the thread that calls this on its CPU and into the sandbox, for good. Whether that has
    /// worked [`Sandbox::close`] tells, before the guest runs.
    pub fn enter(mut self) {
        self.used = true;
        match self.put_in() {
            Ok(()) => self.gate.arrive(),
            Err(error) => self.gate.bar(error.into()),
        }
    }

    /// [Enters](Self::enter), and waits until all others have: whether the machine is to run.
    #[must_use]
    pub fn enter_and_wait(self) -> bool {
        let gate = Arc::clone(&self.gate);
        self.enter();
        gate.pass()
    }

    /// Has [`Sandbox::close`] fail with `error`, because of which this thread is of no use.
    pub fn refuse(mut self, error: Error) {
        self.used = true;
        self.gate.bar(error);
    }

    fn put_in(&self) -> Result<(), SandboxError> {
        static SAID: Once = Once::new();
        self.cpu.map_or(Ok(()), pin::stay_on)?;
        if self.on {
            let held = enter(self.kind, self.removable.as_ref())?;
            // What this kernel lacks is said once in the life of the process.
            if let Some(shortfall) = held.shortfall() {
                SAID.call_once(|| log::warn!("sandbox: {shortfall}"));
            }
        }
        Ok(())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.used {
            self.gate.bar(SandboxError::Ended.into());
        }
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
