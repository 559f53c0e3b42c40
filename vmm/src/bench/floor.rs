//! The floor: the same machine as `machine`'s, made by the same code, on the least that can run
//! it. A bare loop around KVM_RUN, with no bus, no lock and no device, and nothing on its way from
//! one KVM_RUN to the next but to find out what the exit is.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc;

use devices::virtio::Interrupt;
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use spec::bench::{CONTROL_PORT, DOORBELL_ADDR, HANDLED_PORT};
use spec::board::{COM1_PORT, DEBUG_EXIT_PORT};
use vm_memory::GuestMemoryMmap;

use super::board;
use super::control::{Event, GuestEnd, HostEnd};
use super::error::{BenchError, cannot};
use super::machine::MachineOptions;
use super::transcript::Transcript;
use crate::arch::x86_64 as arch;
use crate::crash::CrashReason;
use crate::error::Error;
use crate::interrupt::IrqFd;
use crate::kvm::failed_to;
use crate::kvm_run::KvmRunPage;
use crate::stop::StopEvent;
use crate::vcpu::{Vcpu, VcpuThreads};
use crate::vm::Vm;

/// What is done at the doorbell before the interrupt is raised.
pub type AtDoorbell = Box<dyn FnMut() -> io::Result<()> + Send>;

/// A floor whose guest waits for commands. Dropping it stops it.
pub struct Floor {
    // Dropped first: a vCPU's thread that waits for a command would hold up the end of the others.
    /// What has its guest do commands.
    pub control: HostEnd,
    _vcpus: VcpuThreads,
    // RAM after the VM.
    _vm: Arc<VmFd>,
    _memory: GuestMemoryMmap,
    tsc_khz: Option<u32>,
}

impl Floor {
    /// Starts a floor of as many CPUs and as much RAM, and waits for its guest. There are no disks,
    /// and nothing is counted.
    ///
    /// # Errors
    /// Where it cannot be started, or the guest does not come to ask for commands.
    pub fn start(options: &MachineOptions) -> Result<Self, BenchError> {
        Self::start_with(options, None)
    }

    /// The same, with `at_doorbell` done at the doorbell of its first CPU.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_with(
        options: &MachineOptions,
        mut at_doorbell: Option<AtDoorbell>,
    ) -> Result<Self, BenchError> {
        let options = MachineOptions {
            disks: Vec::new(),
            stats: false,
            ..options.clone()
        };
        let transcript = Transcript::default();
        // Nobody tells of an end: there is no device.
        let (nobody, _) = mpsc::channel();
        let (vm, (guest, control, interrupt)) = Vm::with_devices(
            &options.config()?,
            Box::new(transcript.clone()),
            &nobody,
            |vm, _| {
                let interrupt = board::connect(vm)?;
                let (guest, host) = options.ends(transcript.clone(), Arc::clone(&interrupt) as _);
                Ok((guest, host, interrupt))
            },
        )?;
        let (vcpus, vm, memory) = vm.into_parts();
        let stop = StopEvent::new().map_err(crate::error::cannot("create an eventfd"))?;
        let mut threads = VcpuThreads::none(stop)?;
        let events = guest.events();
        let mut guest = Some(guest);
        let mut tsc_khz = None;
        // All are set up before the first of them runs, which starts the others.
        let parts = vcpus.into_iter().map(Vcpu::into_parts);
        let parts: Vec<_> = parts.collect::<Result<_, _>>()?;
        for ((fd, page), index) in parts.into_iter().zip(0..) {
            tsc_khz = arch::tsc_khz(&fd).map_err(Error::from)?;
            let mut bare = Bare {
                // The guest asks on its first CPU alone.
                guest: guest.take(),
                at_doorbell: at_doorbell.take(),
                interrupt: Arc::clone(&interrupt),
                transcript: transcript.clone(),
                page: Arc::clone(&page),
            };
            let events = events.clone();
            threads.add(index, page, move || {
                if let Err(error) = bare.run(fd) {
                    // Nobody listens any more when the machine was to stop.
                    let _ = events.send(Event::Ended(error));
                }
            })?;
        }
        let mut floor = Self {
            control,
            _vcpus: threads,
            _vm: vm,
            _memory: memory.clone(),
            tsc_khz,
        };
        floor.control.boot(&memory)?;
        Ok(floor)
    }

    /// Frequency of the guest's TSC, in kHz; `None` where the host's is not stable.
    #[must_use]
    pub fn tsc_khz(&self) -> Option<u32> {
        self.tsc_khz
    }
}

/// What the loop of one vCPU has to do with.
struct Bare {
    guest: Option<GuestEnd>,
    at_doorbell: Option<AtDoorbell>,
    interrupt: Arc<IrqFd>,
    transcript: Transcript,
    page: Arc<KvmRunPage>,
}

impl Bare {
    /// Runs the guest until it ends, or is to stop.
    fn run(&mut self, mut vcpu: VcpuFd) -> Result<(), BenchError> {
        loop {
            match vcpu.run() {
                Ok(VcpuExit::IoOut(port, data)) => match (port, data) {
                    (CONTROL_PORT, &[a, b, c, d]) => {
                        if let Some(guest) = &mut self.guest {
                            guest.announce(u32::from_le_bytes([a, b, c, d]));
                        }
                    }
                    (HANDLED_PORT, _) => {
                        if let Some(guest) = &self.guest {
                            guest.handled();
                        }
                    }
                    (COM1_PORT, bytes) => {
                        // A transcript takes everything.
                        let _ = self.transcript.write_all(bytes);
                    }
                    (DEBUG_EXIT_PORT, status) => {
                        return Err(self.ended(format!("ended with {status:?}")));
                    }
                    _ => {}
                },
                Ok(VcpuExit::IoIn(port, data)) => match (port, data, &mut self.guest) {
                    (CONTROL_PORT, [a, b, c, d], Some(guest)) => {
                        [*a, *b, *c, *d] = guest.ask().to_le_bytes();
                    }
                    (_, data, _) => data.fill(0xff),
                },
                Ok(VcpuExit::MmioWrite(DOORBELL_ADDR, _)) => {
                    if let Some(work) = &mut self.at_doorbell {
                        work().map_err(cannot("do what is done at the doorbell"))?;
                    }
                    let raised = self.interrupt.signal();
                    raised.map_err(cannot("raise an interrupt"))?;
                }
                Ok(VcpuExit::MmioWrite(..) | VcpuExit::Intr) => {}
                Ok(VcpuExit::MmioRead(_, data)) => data.fill(0xff),
                Ok(exit) => {
                    let how = match exit {
                        VcpuExit::Shutdown => CrashReason::TripleFault.to_string(),
                        VcpuExit::InternalError => {
                            CrashReason::Internal(self.page.internal_suberror()).to_string()
                        }
                        VcpuExit::FailEntry(reason, _) => {
                            CrashReason::FailEntry(reason).to_string()
                        }
                        other => format!("an exit of KVM that is not handled: {other:?}"),
                    };
                    return Err(self.ended(format!("crashed: {how}")));
                }
                Err(error) => match error.errno() {
                    libc::EINTR if self.page.is_stop_requested() => return Ok(()),
                    libc::EINTR | libc::EAGAIN => {}
                    _ => return Err(Error::from(failed_to("run the vCPU")(error)).into()),
                },
            }
        }
    }

    fn ended(&self, how: String) -> BenchError {
        BenchError::Guest {
            how,
            console: self.transcript.text(),
        }
    }
}
