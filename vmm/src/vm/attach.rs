//! The devices of a machine: each is made here, and connected to its bus, its interrupt, and what
//! notifies it. When in a machine's life that is, and what a device does, is not decided here.

use std::io::{self, Write};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use devices::BusDevice;
use devices::exit::{DebugExit, I8042, SleepRegisters};
use devices::serial::SerialConsole;
use devices::virtio::MmioTransport;
#[cfg(feature = "qcow2")]
use devices::virtio::block::backend::Qcow2Backend;
use devices::virtio::block::backend::{FileBackend, FileBackendError};
use devices::virtio::block::{
    Block, BlockBackend, BlockOptions, FailureHandler, NotifyMode, StartHook,
};
use kvm_ioctls::{IoEventAddress, NoDatamatch, VmFd};
use spec::board;
use spec::mmio::Register;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EventFd};

use super::engine;
use crate::config::{DiskConfig, Engine, Format, Notify, POLL_IDLE_LIMIT};
use crate::error::{Error, cannot};
use crate::exit::Buses;
use crate::interrupt::{IrqFd, IrqLine};
use crate::kvm::failed_to;
use crate::mapped::{AckRing, MappedIrq, MappedWindow};
use crate::sandbox::{Sandbox, ThreadKind};
use crate::signals;
use crate::stats::address::AddressMap;
use crate::stop::StopReason;

/// The serial port, and what is readable when it can take more input.
pub fn serial(
    vm: &VmFd,
    output: Box<dyn Write + Send>,
) -> Result<(SerialConsole, Arc<OwnedFd>), Error> {
    let interrupt = Arc::new(IrqFd::new(vm, board::COM1_GSI)?);
    let room = EventFd::new(EFD_CLOEXEC).map_err(cannot("create an eventfd"))?;
    let ours = room.try_clone().map_err(cannot("share an eventfd"))?;
    // SAFETY: `into_raw_fd` gives up the file descriptor, which is open, for this to own.
    let ours = unsafe { OwnedFd::from_raw_fd(ours.into_raw_fd()) };
    let serial = SerialConsole::new(interrupt, output, room);
    Ok((serial, Arc::new(ours)))
}

/// Puts the devices with ports on the bus.
pub fn add_ports(
    buses: &mut Buses,
    map: &mut AddressMap,
    serial: SerialConsole,
) -> Result<(), Error> {
    let mut add = |port: u16, ports: u8, name, device: Arc<Mutex<dyn BusDevice>>| {
        map.add_ports(port, ports, name);
        buses.pio.insert(port.into(), ports.into(), device)
    };
    let serial = Arc::new(Mutex::new(serial));
    add(board::COM1_PORT, board::COM1_PORTS, "COM1", serial)?;
    let exit = Arc::new(Mutex::new(DebugExit));
    add(board::DEBUG_EXIT_PORT, 1, "debug-exit", exit)?;
    let i8042 = Arc::new(Mutex::new(I8042));
    add(board::I8042_COMMAND_PORT, 1, "i8042", i8042)?;
    let sleep = Arc::new(Mutex::new(SleepRegisters));
    add(board::SLEEP_CONTROL_PORT, 2, "ACPI sleep", sleep)?;
    Ok(())
}

/// What the disk of this configuration is on.
///
/// # Errors
/// The image cannot be one, or not in this way.
pub fn backend(disk: &DiskConfig) -> Result<Box<dyn BlockBackend>, FileBackendError> {
    let (path, read_only) = (&disk.path, disk.readonly);
    Ok(match (disk.format, disk.direct) {
        (Format::Raw, false) => Box::new(FileBackend::open(path, read_only)?),
        (Format::Raw, true) => Box::new(FileBackend::open_direct(path, read_only)?),
        #[cfg(feature = "qcow2")]
        (Format::Qcow2, false) => Box::new(Qcow2Backend::open(path, read_only)?),
        #[cfg(feature = "qcow2")]
        (Format::Qcow2, true) => {
            return Err(FileBackendError::Direct {
                path: path.clone(),
                source: io::Error::other("it is to be a qcow2 image"),
            });
        }
        #[cfg(not(feature = "qcow2"))]
        (Format::Qcow2, _) => {
            return Err(FileBackendError::Open {
                path: path.clone(),
                source: io::ErrorKind::Unsupported.into(),
            });
        }
    })
}

/// The block device with its window at `base`, and how its data gets to its disk.
pub fn block_device(
    vm: &VmFd,
    base: u64,
    disk: &DiskConfig,
    backend: Box<dyn BlockBackend>,
    reasons: &Sender<StopReason>,
    sandbox: &mut Sandbox,
) -> Result<(Block, Engine), Error> {
    let wanted = engine::choose(disk, &*backend);
    let options = BlockOptions {
        read_only: disk.readonly,
        id: disk.id.clone(),
        notify: (0..disk.queues)
            .map(|queue| notify_mode(vm, base, (queue, disk), reasons, sandbox))
            .collect::<Result<_, _>>()?,
    };
    // Its threads, if it has some, are there before a run holds back signals for itself.
    let block = signals::kept_from_threads(|| Block::new(backend, options))??;
    let block = block
        .with_writeback(disk.writeback)
        .with_limits(disk.limits);
    let mut block = block.with_block_size(disk.block_size)?;
    let engine = engine::set(&mut block, disk, wanted);
    Ok((block, engine))
}

/// The transport of `device`, which interrupts by `gsi`: with registers that the guest reads as memory
/// where there is a `window` for that, and the `acks` of its VM where some wait.
pub fn transport(
    vm: &Arc<VmFd>,
    memory: &GuestMemoryMmap,
    gsi: u32,
    device: Block,
    window: Option<&MappedWindow>,
    acks: Option<&Arc<AckRing>>,
) -> Result<MmioTransport, Error> {
    let (memory, device) = (memory.clone(), Box::new(device));
    let Some(window) = window else {
        let line = IrqFd::new(vm, gsi)?;
        return Ok(MmioTransport::new(memory, device, Arc::new(line)));
    };
    window.connect(vm)?;
    let line = IrqLine::new(Arc::clone(vm), gsi);
    let acks = acks.filter(|_| !window.can_open).map(Arc::clone);
    let (page, interrupt) = (Arc::clone(&window.page), MappedIrq { line, acks });
    Ok(MmioTransport::on_page(
        memory,
        device,
        Arc::new(interrupt),
        page,
    ))
}

/// Puts `transport` on the bus, with the name `name` and its window at `base`.
pub fn add_virtio(
    buses: &mut Buses,
    map: &mut AddressMap,
    base: u64,
    transport: MmioTransport,
    name: &str,
) -> Result<(), Error> {
    let transport = Arc::new(Mutex::new(transport));
    let len = board::VIRTIO_MMIO_SIZE;
    map.add_virtio_mmio(base, len, name);
    Ok(buses.mmio.insert(base, len, transport)?)
}

/// How the device with its window at `base`, which is `disk`, learns of available buffers in `queue`.
fn notify_mode(
    vm: &VmFd,
    base: u64,
    (queue, disk): (u16, &DiskConfig),
    reasons: &Sender<StopReason>,
    sandbox: &mut Sandbox,
) -> Result<NotifyMode, Error> {
    if disk.notify == Notify::Trap {
        return Ok(NotifyMode::Trap);
    }
    let any = disk.queues == 1 && disk.notify != Notify::IoEventFdDatamatch;
    let kick = match any {
        true => queue_notify_event(vm, base, NoDatamatch)?,
        false => queue_notify_event(vm, base, u32::from(queue))?,
    };
    let on_start = enter(sandbox);
    let on_failure = stop_on_failure(reasons.clone());
    Ok(match disk.notify {
        Notify::Poll => NotifyMode::Poll {
            kick,
            on_start,
            on_failure,
            idle_limit: POLL_IDLE_LIMIT,
        },
        _ => NotifyMode::IoEventFd {
            kick,
            on_start,
            on_failure,
        },
    })
}

/// Has a device's thread begin in the sandbox.
fn enter(sandbox: &mut Sandbox) -> StartHook {
    let ticket = sandbox.ticket(ThreadKind::Worker);
    StartHook::new(move || ticket.enter())
}

/// Lets a device's thread that cannot go on end the machine.
fn stop_on_failure(reasons: Sender<StopReason>) -> FailureHandler {
    FailureHandler::new(move |error| {
        // Nobody listens any more when the machine has stopped for another reason.
        let _ = reasons.send(StopReason::Failed(error.into()));
    })
}

/// An eventfd that KVM writes to when the guest writes to QueueNotify of the window at `base` what
/// `datamatch` says. Any other write leaves KVM_RUN.
///
/// Without a datamatch it stands for a write of any width and value: that spares KVM from decoding
/// the instruction, and is for a device with a single queue, for which a notification too many does
/// no harm.
fn queue_notify_event(vm: &VmFd, base: u64, datamatch: impl Into<u64>) -> Result<EventFd, Error> {
    let event = EventFd::new(EFD_CLOEXEC).map_err(cannot("create an eventfd"))?;
    let address = IoEventAddress::Mmio(base + Register::QueueNotify.offset());
    vm.register_ioevent(&event, &address, datamatch)
        .map_err(failed_to("connect QueueNotify to an eventfd"))?;
    Ok(event)
}
