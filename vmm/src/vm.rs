//! The machine: built from a [`VmConfig`], run once, and taken down in an order that loses
//! nothing. What each part does is in its own file, how devices are connected in `attach`.

mod attach;
mod disks;
mod prepare;

use std::io::Write;
use std::mem;
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use devices::serial::SerialInput;
use devices::virtio::block::BlockBackend;
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};

use attach::{add_ports, add_virtio, block_device, serial, transport};
pub use disks::Disks;
pub(crate) use prepare::BUILT_IN_GUEST;
use prepare::{ask_for_cpuid, check_address_bits, load_kernel};

use crate::acpi;
use crate::arch::x86_64 as arch;
use crate::config::VmConfig;
use crate::console::{InputThread, Output, Source};
use crate::error::{Error, cannot};
use crate::exit::Buses;
#[cfg(feature = "gdb")]
use crate::gdb::{Gdb, GdbThread};
use crate::kvm::{self, failed_to};
use crate::mapped::{self, AckRing, MappedWindow};
use crate::memory;
use crate::observe::{MachineObserver, QueueName};
use crate::sandbox::{Sandbox, ThreadKind};
use crate::signals::{HeldSignals, SignalThread};
use crate::stats::address::AddressMap;
use crate::stats::{AckCounter, Statistics};
use crate::stop::{StopEvent, StopReason};
use crate::terminal::{self, Input};
use crate::trace::{Trace, Tracer};
use crate::vcpu::{Vcpu, VcpuThreads};

/// A machine that is ready to run.
#[derive(Debug)]
pub struct Vm {
    vcpus: Vec<Vcpu>,
    buses: Arc<Buses>,
    /// How many disks there are.
    disks: usize,
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

    fn build<T>(
        config: &VmConfig,
        stop: StopEvent,
        output: Box<dyn Write + Send>,
        reasons: &Sender<StopReason>,
        observer: Option<&mut dyn MachineObserver>,
        add_devices: impl FnOnce(&VmFd, &mut Buses) -> Result<T, Error>,
    ) -> Result<(Self, T), Error> {
        let cpuid = ask_for_cpuid()?;
        let backends: Vec<Box<dyn BlockBackend>> = config
            .disks
            .iter()
            .map(attach::backend)
            .collect::<Result<_, _>>()?;
        let memory = memory::allocate(config.memory)?;
        if !config.dump_guest_core {
            memory::leave_out_of_cores(&memory)?;
        }
        let state = load_kernel(config, &memory)?;
        arch::write_tables(&memory, state.mode).map_err(Error::Tables)?;

        let kvm = kvm::open()?;
        let cpus = kvm::check_cpus(&kvm, config.cpus)?;
        acpi::write(&memory, cpus, config.disks.len()).map_err(Error::BootData)?;
        #[cfg(feature = "gdb")]
        let mut gdb = (config.gdb.as_ref())
            .map(|options| Gdb::new(options, &kvm))
            .transpose()?;
        let windows = mapped::windows(config, &kvm, memory.num_regions())?;
        let vm = Arc::new(kvm::create_vm(&kvm, &memory, &windows)?);
        let create_vcpu = |index: u8| vm.create_vcpu(index.into());
        let fds: Vec<VcpuFd> = (0..cpus)
            .map(create_vcpu)
            .collect::<Result<_, _>>()
            .map_err(failed_to("create a vCPU"))?;
        let (serial, input_room) = serial(&vm, output)?;
        let (mut buses, mut map) = (Buses::default(), AddressMap::default());
        if let Some(vcpu) = fds.first().filter(|_| !windows.is_empty()) {
            let acks = AckRing::map(vcpu, &windows);
            let acks = acks.map_err(cannot("map the ring of writes that wait"))?;
            buses.acks = Some(Arc::new(acks));
        }
        let input = serial.input();
        add_ports(&mut buses, &mut map, serial)?;
        let mut tracer = config.trace.as_ref().map(Tracer::new);
        let ours = tracer
            .iter_mut()
            .map(|tracer| tracer as &mut dyn MachineObserver);
        let mut observers: Vec<_> = ours.chain(observer).collect();
        let (mut queues, mut acks) = (Vec::new(), Vec::new());
        let mut sandbox = Sandbox::new(config.sandbox)?;
        for (index, (disk, backend)) in config.disks.iter().zip(backends).enumerate() {
            let mut block = block_device(&vm, index, disk, backend, reasons, &mut sandbox)?;
            let name = format!("virtio-blk {index} ({})", disk.id);
            let window = windows.iter().find(|window| window.index == index);
            if let (Some(window), Some(ring)) = (window, &buses.acks) {
                acks.push(AckCounter {
                    disk: name.clone(),
                    ring: Arc::clone(ring),
                    base: window.base,
                });
            }
            for queue in 0..disk.queues {
                let at = QueueName {
                    disk: index,
                    device: name.clone(),
                    queue,
                    of: disk.queues,
                };
                if config.stats.is_some() {
                    queues.push((at.clone(), block.record_stats(queue)));
                }
                for observer in &mut observers {
                    block.observe(queue, observer.queue(&at));
                }
            }
            let ring = buses.acks.as_ref();
            let transport = transport(&vm, &memory, index, block, window, ring)?;
            add_virtio(&mut buses, &mut map, index, transport, &name)?;
        }
        let added = add_devices(&vm, &mut buses)?;
        let (buses, map) = (Arc::new(buses), Arc::new(map));
        let mut statistics = (config.stats)
            .map(|report| Statistics::new(report, Arc::clone(&map), queues).count_acks(acks));

        let cpuid = cpuid.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        check_address_bits(&memory, arch::physical_address_bits(&cpuid))?;
        let mut vcpus = Vec::new();
        for (index, vcpu) in (0..).zip(fds) {
            arch::set_up(&vcpu, &cpuid, index, cpus)?;
            if index == 0 {
                arch::set_registers(&vcpu, &state)?;
            }
            let buses = Arc::clone(&buses);
            let recorder = statistics.as_mut().map(|all| all.add_vcpu(&vcpu));
            let mut vcpu = Vcpu::new(index, vcpu, buses, memory.clone())?;
            if let Some(recorder) = recorder {
                vcpu.observe(Box::new(recorder));
            }
            for observer in &mut observers {
                vcpu.observe(observer.vcpu(index));
            }
            vcpus.push(vcpu);
        }
        #[cfg(feature = "gdb")]
        if let Some(gdb) = &mut gdb {
            vcpus.iter_mut().for_each(|vcpu| gdb.add_vcpu(vcpu));
        }
        let machine = Self {
            vcpus,
            buses,
            disks: config.disks.len(),
            input,
            input_room,
            stop,
            statistics: statistics.map(Arc::new),
            trace: tracer
                .map(|tracer| Trace::open(tracer, map, config))
                .transpose()?,
            sandbox,
            #[cfg(feature = "gdb")]
            gdb,
            vm,
            windows,
            memory,
        };
        Ok((machine, added))
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
        let (mut running, mut sandbox) = self.hold(&sender)?;
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
        running.vcpus.go();
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
        Disks::new(&self.buses, self.disks)
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
        let (mut running, sandbox) = self.hold(reasons)?;
        sandbox.close()?;
        running.vcpus.go();
        Ok(running)
    }

    /// The machine with its threads, before the first instruction of its guest, and what else is to
    /// be in the sandbox by then.
    fn hold(mut self, reasons: &Sender<StopReason>) -> Result<(RunningVm, Sandbox), Error> {
        #[cfg(feature = "gdb")]
        let gdb = (self.gdb)
            .map(|gdb| {
                let (memory, stop) = (self.memory.clone(), self.stop.clone());
                gdb.spawn(memory, stop, reasons.clone(), &mut self.sandbox)
            })
            .transpose()?;
        let running = RunningVm {
            vcpus: VcpuThreads::spawn(self.vcpus, &mut self.sandbox, self.stop, reasons)?,
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
    vcpus: VcpuThreads,
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
