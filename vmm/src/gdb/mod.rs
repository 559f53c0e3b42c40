//! A debugger at the machine: gdb's remote protocol, by the crate `gdbstub`, on a socket that a
//! thread of its own serves. Without a debugger that thread sleeps, and the vCPUs know nothing of it.

mod abilities;
pub mod address;
mod breakpoints;
mod connection;
mod machine;
mod memory;
mod reason;
mod registers;
mod session;
mod target;
mod xsave;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use kvm_ioctls::Kvm;
use rustix::event::{PollFd, PollFlags};
use vm_memory::GuestMemoryMmap;

pub use abilities::Abilities;
use address::{Address, Listener};
use connection::Connection;
use machine::{Machine, MachineError, Parts};
use reason::Ended;
use session::{SessionEnd, SessionError};

use crate::debug::{Bell, Stopped, VcpuControl, connect};
use crate::error::{Error, cannot};
use crate::logger::say;
use crate::sandbox::{Sandbox, ThreadKind};
use crate::stop::{StopEvent, StopReason};
use crate::vcpu::Vcpu;

/// How the machine can be debugged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GdbOptions {
    /// Where a debugger connects.
    pub address: Address,
    /// Whether the guest waits for one, before its first instruction.
    pub wait: bool,
}

/// What is to wait for a debugger, before the machine runs.
#[derive(Debug)]
pub struct Gdb {
    options: GdbOptions,
    abilities: Abilities,
    controls: Vec<VcpuControl>,
    stopped: (Sender<Stopped>, Receiver<Stopped>),
    bell: Bell,
}

impl Gdb {
    /// Finds out what `kvm` can do for a debugger, who comes as `options` say.
    ///
    /// # Errors
    /// Where KVM refuses a VM.
    pub fn new(options: &GdbOptions, kvm: &Kvm) -> Result<Self, Error> {
        Ok(Self {
            options: options.clone(),
            abilities: Abilities::find_out(kvm)?,
            controls: Vec::new(),
            stopped: channel(),
            bell: Bell::new().map_err(cannot("create an eventfd"))?,
        })
    }

    /// Lets the debugger stop `vcpu`. To be called for each, in their order.
    pub fn add_vcpu(&mut self, vcpu: &mut Vcpu) {
        vcpu.attach(|index, page| {
            let stopped = self.stopped.0.clone();
            let (port, control) = connect(index, page, stopped, self.bell.clone());
            if self.options.wait {
                control.hold();
            }
            self.controls.push(control);
            port
        });
    }

    /// Listens, starts the thread that serves a debugger, and says where it is awaited. The thread
    /// ends when `stop` happens, and tells `reasons` when the debugger wants the machine to end. It
    /// enters `sandbox`.
    ///
    /// A signal that ended the process from here on would leave the path of a socket.
    ///
    /// # Errors
    /// Where the address cannot be had, or there can be no thread.
    pub fn spawn(
        self,
        memory: GuestMemoryMmap,
        stop: StopEvent,
        reasons: Sender<StopReason>,
        sandbox: &mut Sandbox,
    ) -> Result<GdbThread, Error> {
        let GdbOptions { address, wait } = self.options;
        let listener = Listener::bind(&address).map_err(|source| Error::Gdb { address, source })?;
        let directory = listener.directory().map_err(cannot("open a directory"))?;
        let ticket = (sandbox.ticket(ThreadKind::Gdb)).may_remove_below(directory);
        let (ended, end) = channel();
        let (bell, stopping) = (self.bell.clone(), stop.clone());
        let machine = Machine::new(Parts {
            controls: self.controls,
            memory,
            abilities: self.abilities,
            stopped: self.stopped.1,
            end,
            bell: self.bell,
            stop,
        });
        let address = listener.address();
        say(&match wait {
            true => format!("the guest waits for gdb: target remote {address}"),
            false => format!("gdb can come at any time: target remote {address}"),
        });
        let server = Server {
            listener,
            machine,
            reasons,
        };
        let handle = Builder::new()
            .name("gdb".into())
            .spawn(move || {
                ticket.enter();
                server.run();
            })
            .map_err(cannot("start the debugger's thread"))?;
        Ok(GdbThread {
            ended,
            bell,
            stop: stopping,
            thread: Some(handle),
        })
    }
}

/// The thread that serves a debugger. Dropping this ends it.
#[derive(Debug)]
pub struct GdbThread {
    ended: Sender<Ended>,
    bell: Bell,
    stop: StopEvent,
    /// `None` once it has been waited for.
    thread: Option<JoinHandle<()>>,
}

impl GdbThread {
    /// Lets a debugger know why the machine ends.
    pub fn tell(&self, reason: &StopReason) {
        // Nobody listens any more when the thread has ended.
        let _ = self.ended.send(reason::ended(reason));
        self.bell.ring();
    }
}

impl Drop for GdbThread {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the hook that reports them all.
            let _ = thread.join();
        }
    }
}

struct Server {
    listener: Listener,
    machine: Machine,
    reasons: Sender<StopReason>,
}

impl Server {
    /// Serves one debugger after the other, until the machine ends.
    fn run(mut self) {
        loop {
            let socket = match self.next_connection() {
                Ok(Some(socket)) => socket,
                Ok(None) => continue,
                Err(MachineError::Ends) => return,
                Err(error) => {
                    log::error!("no more debuggers: {error}");
                    break;
                }
            };
            let connection = Connection::new(socket, self.machine.stop_event().clone());
            match session::run(&mut self.machine, connection) {
                Ok(SessionEnd::Ended) | Err(SessionError::Machine(MachineError::Ends)) => break,
                Ok(SessionEnd::Killed) => {
                    // Nobody listens any more when the machine has stopped for another reason.
                    let _ = self.reasons.send(StopReason::Quit);
                    break;
                }
                Ok(SessionEnd::Detached) => {}
                Err(error) => log::warn!("the debugger is left: {error}"),
            }
            if self.machine.stop_all().is_err() {
                break;
            }
            self.machine.release();
        }
        // vCPUs that have stopped stay so; the others may yet have something to end with.
        while self.machine.overlook().is_ok() && self.machine.wait(None).is_ok() {}
    }

    /// Waits for a debugger; `None` where there is none yet.
    fn next_connection(&mut self) -> Result<Option<std::os::fd::OwnedFd>, MachineError> {
        self.machine.overlook()?;
        let incoming = PollFd::new(&self.listener, PollFlags::IN);
        if !self.machine.wait(Some(incoming))? {
            return Ok(None);
        }
        self.listener.accept().map_err(MachineError::Wait)
    }
}
