//! A machine of this VMM that runs the built-in guest with `run=bench`: what is measured in it is
//! what a user's machine does. Only what `board` adds is not in every machine.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread::Builder;

use super::board;
use super::control::{self, Event, GuestEnd, HostEnd};
use super::error::{BenchError, cannot};
use super::transcript::Transcript;
use crate::config::{DiskConfig, StatsReport, VmConfig, kernel_cmdline, windows};
use crate::interrupt::IrqFd;
use crate::stats::{Snapshot, Statistics};
use crate::vm::{RunningVm, Vm};

/// What a machine has that is measured.
#[derive(Clone, Debug)]
pub struct MachineOptions {
    /// How many CPUs.
    pub cpus: u32,
    /// Size of RAM, in bytes.
    pub memory: u64,
    /// The disks.
    pub disks: Vec<DiskConfig>,
    /// Whether it counts, as with `--stats`.
    pub stats: bool,
    /// The CPU of the host that the first vCPU is to run on alone.
    pub pin: Option<usize>,
}

impl Default for MachineOptions {
    /// The machine of a user who asks for nothing.
    fn default() -> Self {
        Self {
            cpus: 1,
            memory: 128 << 20,
            disks: Vec::new(),
            stats: false,
            pin: None,
        }
    }
}

impl MachineOptions {
    /// The machine, as for any other run.
    pub(super) fn config(&self) -> Result<VmConfig, BenchError> {
        let cmdline = kernel_cmdline("run=bench", &windows(&self.disks))
            .map_err(|error| BenchError::Unsupported(error.to_string()))?;
        Ok(VmConfig {
            kernel: None,
            initrd: None,
            disks: self.disks.clone(),
            cpus: self.cpus,
            memory: self.memory,
            cmdline,
            stats: self.stats.then_some(StatsReport::Nobody),
            trace: None,
            pin: false,
            sandbox: true,
            dump_guest_core: false,
            #[cfg(feature = "gdb")]
            gdb: None,
        })
    }

    /// Both ends of its control.
    pub(super) fn ends(
        &self,
        transcript: Transcript,
        interrupt: Arc<IrqFd>,
    ) -> (GuestEnd, HostEnd) {
        let (mut guest, host) = control::ends(transcript, interrupt);
        if let Some(cpu) = self.pin {
            guest.pin(cpu);
        }
        (guest, host)
    }
}

/// A machine whose guest waits for commands. Dropping it stops it.
pub struct Machine {
    // Dropped first: a vCPU's thread that waits for a command would hold up the end of the machine.
    /// What has its guest do commands.
    pub control: HostEnd,
    statistics: Option<Arc<Statistics>>,
    _running: RunningVm,
}

impl Machine {
    /// Starts the machine, and waits for its guest.
    ///
    /// # Errors
    /// Where it cannot be started, or the guest does not come to ask for commands.
    pub fn start(options: &MachineOptions) -> Result<Self, BenchError> {
        let transcript = Transcript::default();
        let (reasons, ended) = mpsc::channel();
        let (vm, (events, control)) = Vm::with_devices(
            &options.config()?,
            Box::new(transcript.clone()),
            &reasons,
            |vm, buses| {
                let interrupt = board::connect(vm)?;
                let (guest, host) = options.ends(transcript.clone(), interrupt.clone());
                let events = guest.events();
                board::insert(buses, guest, interrupt)?;
                Ok((events, host))
            },
        )?;
        // Ends with the machine, whose threads have the other end of `ended`.
        Builder::new()
            .name("bench-end".into())
            .spawn(move || {
                if let Ok(reason) = ended.recv() {
                    let error = BenchError::stopped(reason, transcript.text());
                    // Nobody listens any more when the machine was to stop.
                    let _ = events.send(Event::Ended(error));
                }
            })
            .map_err(cannot("start a thread that waits for the machine's end"))?;
        let memory = vm.memory().clone();
        let mut machine = Self {
            control,
            statistics: vm.statistics(),
            _running: vm.start(&reasons)?,
        };
        machine.control.boot(&memory)?;
        Ok(machine)
    }

    /// What has been counted up to this moment, if anything is.
    #[must_use]
    pub fn statistics(&self) -> Option<Snapshot> {
        self.statistics.as_ref().map(|all| all.snapshot())
    }
}
