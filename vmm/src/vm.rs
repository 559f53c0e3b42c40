//! The machine: built from a [`VmConfig`], run once, and taken down in an order that loses
//! nothing. What each part does is in its own file, how devices are connected in `attach`.

mod attach;
mod build;
mod disks;
mod engine;
mod prepare;

use std::io::Write;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use devices::serial::SerialInput;
use kvm_ioctls::VmFd;
use vm_memory::GuestMemoryMmap;

pub use disks::Disks;
#[cfg(feature = "bench")]
pub(crate) use engine::io_uring_reason;
#[cfg(feature = "explain")]
pub(crate) use prepare::BUILT_IN_GUEST;

use crate::config::VmConfig;
use crate::console::{InputThread, Output, Source};
use crate::error::{Error, cannot};
use crate::exit::Buses;
#[cfg(feature = "gdb")]
use crate::gdb::{Gdb, GdbThread};
use crate::mapped::MappedWindow;
use crate::observe::MachineObserver;
use crate::sandbox::{Sandbox, ThreadKind};
use crate::signals::{HeldSignals, SignalThread};
use crate::stats::Statistics;
use crate::stop::{StopEvent, StopReason};
use crate::terminal::{self, Input};
use crate::trace::Trace;
use crate::vcpu::{Vcpu, VcpuThreads};

/// A machine that is ready to run.
#[derive(Debug)]
pub struct Vm {
    vcpus: Vec<Vcpu>,
    buses: Arc<Buses>,
    /// Guest-physical address of the window of each disk.
    disks: Vec<u64>,
    /// The serial port's input.
    input: SerialInput,
    /// Readable when it can take more.
    input_room: Arc<OwnedFd>,
    stop: StopEvent,
    statistics: Option<Arc<Statistics>>,
    trace: Option<Trace>,
    sandbox: Sandbox,
    #[cfg(feature = "gdb")]
    gdb: Option<Gdb>,
    // Below what may still use it, as fields are dropped in this order: RAM after the VM.
    vm: Arc<VmFd>,
    windows: Vec<MappedWindow>,
    memory: GuestMemoryMmap,
}

impl Vm {
    /// Builds the machine. The user's files are all opened, and the kernel is loaded, before
    /// there is a VM. A thread of a device that cannot go on tells `reasons`.
    ///
    /// # Errors
    /// Where a file cannot be used, or the host cannot give what the machine needs.
    pub fn new(config: &VmConfig, reasons: &Sender<StopReason>) -> Result<Self, Error> {
        let stop = StopEvent::new().map_err(cannot("create an eventfd"))?;
        let output = Box::new(Output::new(stop.clone()));
        let (vm, ()) = Self::build(config, stop, output, reasons, None, |_, _| Ok(()))?;
        Ok(vm)
    }

    /// The same machine with the serial port's output going to `output`, and watched by `observer`.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn observed(
        config: &VmConfig,
        output: Box<dyn Write + Send>,
        reasons: &Sender<StopReason>,
        observer: &mut dyn MachineObserver,
    ) -> Result<Self, Error> {
        let stop = StopEvent::new().map_err(cannot("create an eventfd"))?;
        let observer = Some(observer);
        let (vm, ()) = Self::build(config, stop, output, reasons, observer, |_, _| Ok(()))?;
        Ok(vm)
    }

    /// The same machine with the serial port's output going to `output`, and with the devices that
    /// `add_devices` puts on the buses besides those of `config`; and what that returns.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and those of `add_devices`.
    pub fn with_devices<T>(
        config: &VmConfig,
        output: Box<dyn Write + Send>,
        reasons: &Sender<StopReason>,
        add_devices: impl FnOnce(&VmFd, &mut Buses) -> Result<T, Error>,
    ) -> Result<(Self, T), Error> {
        let stop = StopEvent::new().map_err(cannot("create an eventfd"))?;
        Self::build(config, stop, output, reasons, None, add_devices)
    }

    /// Guest RAM.
    #[must_use]
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }

    /// The statistics of the machine, where the configuration asks for them. While someone has
    /// them the kernel keeps its side of the VM.
    #[must_use]
    pub fn statistics(&self) -> Option<Arc<Statistics>> {
        self.statistics.clone()
    }

    /// The trace of the run, where the configuration asks for one: to be written when the machine
    /// has ended.
    #[must_use]
    pub fn take_trace(&mut self) -> Option<Trace> {
        self.trace.take()
    }

    /// Runs the machine to its end, and returns why it ended. The first of `reasons` counts; it
    /// may come from the machine's threads, or from whoever else has the other end.
    ///
    /// When this returns all threads have ended, the I/O that was in flight is done, the terminal
    /// is as it was, and the statistics have been printed, if they were to be.
    ///
    /// # Errors
    /// Where the machine could not be started.
    pub fn run(
        self,
        (sender, reasons): (Sender<StopReason>, Receiver<StopReason>),
    ) -> Result<StopReason, Error> {
        let printed = (self.statistics.clone()).filter(|statistics| statistics.are_printed());
        // Each of these undoes itself when dropped. Signals come first: from then on none ends the
        // process while the terminal is not as it was.
        let held = HeldSignals::hold()?;
        let stdin = terminal::take_over_stdin().map_err(cannot("set the terminal"))?;
        let source = match &stdin {
            Input::Terminal(_) => Some(Source::Keys),
            Input::Stream => Some(Source::Bytes),
            Input::Background => None,
        };
        let (input, room) = (self.input.clone(), Arc::clone(&self.input_room));
        let (stop, disks) = (self.stop.clone(), self.disks());
        let (running, mut sandbox) = self.hold(&sender)?;
        let ticket = sandbox.ticket(ThreadKind::Listener);
        let (watched, printer) = (disks.clone(), printed.clone());
        let signals = SignalThread::spawn(held, sender.clone(), printer, watched, ticket)?;
        let console = source
            .map(|source| {
                let ticket = sandbox.ticket(ThreadKind::Listener);
                InputThread::spawn(source, input, room, stop, sender.clone(), ticket)
            })
            .transpose()?;
        // Last, as no thread can be started in the sandbox.
        sandbox.ticket(ThreadKind::Main).enter();
        sandbox.close()?;
        let reason = reasons.recv().unwrap_or(StopReason::Panicked);
        #[cfg(feature = "gdb")]
        if let Some(gdb) = &running.gdb {
            gdb.tell(&reason);
        }
        disks.let_go();
        drop(running);
        drop(console);
        drop(stdin);
        if let Some(statistics) = printed {
            statistics.print();
        }
        drop(signals);
        Ok(reason)
    }

    /// The disks, for whoever learns that their images have another size.
    #[must_use]
    pub fn disks(&self) -> Disks {
        Disks::new(&self.buses, self.disks.clone())
    }

    /// Takes the machine apart, devices aside: for who runs its vCPUs in a loop of his own. RAM must
    /// outlive the rest.
    #[must_use]
    pub fn into_parts(self) -> (Vec<Vcpu>, Arc<VmFd>, GuestMemoryMmap) {
        // Those who run the vCPUs may do so for as long as they like, and the guest reads there.
        mem::forget(self.windows);
        (self.vcpus, self.vm, self.memory)
    }

    /// Starts the machine, without input for its serial port. Why it ends goes to `reasons`. Its
    /// threads are in the sandbox, and the one that calls this is not.
    ///
    /// # Errors
    /// Where there can be no thread, or no sandbox.
    pub fn start(self, reasons: &Sender<StopReason>) -> Result<RunningVm, Error> {
        let (running, sandbox) = self.hold(reasons)?;
        sandbox.close()?;
        Ok(running)
    }

    /// The machine with its threads, before the first instruction of its guest, and the sandbox for
    /// what else is to be in it by then. That goes first: the threads wait for it.
    fn hold(mut self, reasons: &Sender<StopReason>) -> Result<(RunningVm, Sandbox), Error> {
        #[cfg(feature = "gdb")]
        let gdb = (self.gdb)
            .map(|gdb| {
                let (memory, stop) = (self.memory.clone(), self.stop.clone());
                gdb.spawn(memory, stop, reasons.clone(), &mut self.sandbox)
            })
            .transpose()?;
        let running = RunningVm {
            _vcpus: VcpuThreads::spawn(self.vcpus, &mut self.sandbox, self.stop, reasons)?,
            #[cfg(feature = "gdb")]
            gdb,
            _buses: self.buses,
            vm: self.vm,
            _windows: self.windows,
            _memory: self.memory,
        };
        Ok((running, self.sandbox))
    }
}

/// A machine that runs. Dropping this stops it: when that is done all of its threads have ended,
/// and the I/O that was in flight is done.
#[derive(Debug)]
pub struct RunningVm {
    // Dropped in this order: devices, which stop their threads and finish what they have begun,
    // after the vCPUs; and RAM after all that may still use it.
    _vcpus: VcpuThreads,
    #[cfg(feature = "gdb")]
    gdb: Option<GdbThread>,
    _buses: Arc<Buses>,
    vm: Arc<VmFd>,
    _windows: Vec<MappedWindow>,
    _memory: GuestMemoryMmap,
}

impl RunningVm {
    /// The VM itself.
    #[must_use]
    pub fn vm(&self) -> &VmFd {
        &self.vm
    }
}
