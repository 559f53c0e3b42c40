//! A [`VmConfig`] to a machine that is ready to run: what it is made of, in the order in which that
//! can be made. How each part is connected is in `attach`.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use devices::virtio::block::BlockBackend;
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::GuestMemoryBackend;

use super::Vm;
use super::attach::{self, add_ports, add_virtio, block_device, serial, transport};
use super::prepare::load_kernel;
use crate::acpi;
use crate::arch::x86_64 as arch;
use crate::config::{self, VmConfig};
use crate::error::{Error, cannot};
use crate::exit::Buses;
#[cfg(feature = "gdb")]
use crate::gdb::Gdb;
use crate::kvm::{self, failed_to};
use crate::mapped::{self, AckRing};
use crate::memory;
use crate::observe::{MachineObserver, QueueName};
use crate::pin::Pins;
use crate::sandbox::Sandbox;
use crate::stats::Statistics;
use crate::stats::address::AddressMap;
use crate::stop::{StopEvent, StopReason};
use crate::trace::{Trace, Tracer};
use crate::vcpu::Vcpu;
use crate::vcpu_setup::VcpuSetup;

impl Vm {
    /// Builds the machine, and returns what `add_devices` does: the user's files are all opened, and
    /// the kernel is loaded, before there is a VM.
    ///
    /// # Errors
    /// Where a file cannot be used, or the host cannot give what the machine needs; and those of
    /// `add_devices`.
    pub(super) fn build<T>(
        config: &VmConfig,
        stop: StopEvent,
        output: Box<dyn Write + Send>,
        reasons: &Sender<StopReason>,
        observer: Option<&mut dyn MachineObserver>,
        add_devices: impl FnOnce(&VmFd, &mut Buses) -> Result<T, Error>,
    ) -> Result<(Self, T), Error> {
        // Before there is another thread: where it begins depends on what is mapped meanwhile.
        let memory = memory::allocate(config.memory)?;
        let backends: Vec<Box<dyn BlockBackend>> = config
            .disks
            .iter()
            .map(attach::backend)
            .collect::<Result<_, _>>()?;
        if !config.dump_guest_core {
            memory::leave_out_of_cores(&memory)?;
        }
        let state = load_kernel(config, &memory)?;
        arch::write_tables(&memory, state.mode).map_err(Error::Tables)?;

        let kvm = kvm::open()?;
        let cpus = kvm::check_cpus(&kvm, config.cpus)?;
        let places = config::windows(&config.disks);
        acpi::write(&memory, cpus, &places).map_err(Error::BootData)?;
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
        let mut waiting = windows.iter().filter(|window| !window.can_open).peekable();
        if let Some(vcpu) = fds.first().filter(|_| waiting.peek().is_some()) {
            let acks = AckRing::map(vcpu, waiting);
            let acks = acks.map_err(cannot("map the ring of writes that wait"))?;
            buses.acks = Some(Arc::new(acks));
        }
        let open = windows.iter().filter(|window| window.can_open);
        buses.open = open.map(|window| window.base).collect();
        let input = serial.input();
        add_ports(&mut buses, &mut map, serial)?;
        let mut tracer = config.trace.as_ref().map(Tracer::new);
        let ours = tracer
            .iter_mut()
            .map(|tracer| tracer as &mut dyn MachineObserver);
        let mut observers: Vec<_> = ours.chain(observer).collect();
        let (mut queues, mut acks) = (Vec::new(), Vec::new());
        let pins = config.pin.then(|| Pins::new(cpus)).transpose()?;
        let mut sandbox = Sandbox::new(config.sandbox)?.pinned(pins);
        for (index, (disk, backend)) in config.disks.iter().zip(backends).enumerate() {
            let place = disk.window(index);
            let (mut block, engine) =
                block_device(&vm, place.base, disk, backend, reasons, &mut sandbox)?;
            let name = format!("virtio-blk {index} ({})", disk.id);
            let window = windows.iter().find(|window| window.base == place.base);
            if let Some(window) = window {
                acks.push((name.clone(), Arc::clone(&window.page)));
            }
            for queue in 0..disk.queues {
                let at = QueueName {
                    disk: index,
                    device: name.clone(),
                    queue,
                    of: disk.queues,
                    engine,
                };
                if config.stats.is_some() {
                    queues.push((at.clone(), block.record_stats(queue)));
                }
                for observer in &mut observers {
                    block.observe(queue, observer.queue(&at));
                }
            }
            let ring = buses.acks.as_ref();
            let transport = transport(&vm, &memory, place.gsi, block, window, ring)?;
            add_virtio(&mut buses, &mut map, place.base, transport, &name)?;
        }
        let added = add_devices(&vm, &mut buses)?;
        let (buses, map) = (Arc::new(buses), Arc::new(map));
        let mut statistics = (config.stats)
            .map(|report| Statistics::new(report, Arc::clone(&map), queues).count_acks(acks));

        let setup = Arc::new(VcpuSetup::new(kvm, cpus, &memory, state)?);
        let mut vcpus = Vec::new();
        for (vcpu, index) in fds.into_iter().zip(0..) {
            let (setup, buses) = (Arc::clone(&setup), Arc::clone(&buses));
            let recorder = statistics.as_mut().map(|all| all.add_vcpu(&vcpu));
            let mut vcpu = Vcpu::new(index, vcpu, setup, buses, memory.clone())?;
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
            disks: places.iter().map(|place| place.base).collect(),
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
}
