//! What to run: the machine as the user wants it, checked for sense but not yet built. Opens no
//! file and knows nothing of KVM.

use std::ffi::CString;
use std::path::PathBuf;
use std::time::Duration;

use devices::virtio::block::throttle::Limits;
use linux_loader::cmdline::{Cmdline, Error as LoaderError};
use thiserror::Error;
use vm_memory::GuestAddress;

use crate::layout::{self, VirtioMmio};
use crate::named::named;

/// A machine to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmConfig {
    /// The kernel to boot; `None` is the built-in guest.
    pub kernel: Option<PathBuf>,
    /// The initial RAM disk to hand to the kernel.
    pub initrd: Option<PathBuf>,
    /// The disks, in the order of their virtio-mmio windows. At most
    /// [`spec::board::VIRTIO_MMIO_MAX`].
    pub disks: Vec<DiskConfig>,
    /// How many CPUs the guest has: at least one, and no more than KVM allows, which is found out
    /// when the machine is built.
    pub cpus: u32,
    /// Size of the guest's RAM, in bytes.
    pub memory: u64,
    /// The whole kernel command line, as [`kernel_cmdline`] makes it.
    pub cmdline: CString,
    /// Whether statistics are kept, and who gets them; `None` is not.
    pub stats: Option<StatsReport>,
    /// Where a trace of the run goes; `None` is nowhere.
    pub trace: Option<TraceConfig>,
    /// Whether each vCPU and each thread that serves a queue is kept on a CPU of the host.
    pub pin: bool,
    /// Whether the threads are held to the system calls that they need, and kept from all files
    /// but those that are open.
    pub sandbox: bool,
    /// Whether the guest's RAM is in the core file of a VMM that dies.
    pub dump_guest_core: bool,
    /// How a debugger can have the machine; `None` is not.
    #[cfg(feature = "gdb")]
    pub gdb: Option<crate::gdb::GdbOptions>,
}

/// Who gets the statistics of a run: when it ends, and on SIGUSR1 before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsReport {
    /// Nobody: whoever has built the machine looks at them.
    Nobody,
    /// Stderr, as tables.
    Text,
    /// Stderr, as a JSON object in a line.
    Json,
}

/// A trace of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceConfig {
    /// The file that it is written to at the end.
    pub path: PathBuf,
    /// How many events of each vCPU and of each queue it has at most: the last ones.
    pub limit: u32,
}

/// A disk of a [`VmConfig`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskConfig {
    /// The image.
    pub path: PathBuf,
    /// What it is an image in; never concluded from its content.
    pub format: Format,
    /// Whether the guest may only read it.
    pub readonly: bool,
    /// What GET_ID answers: printable ASCII, at most [`spec::block::ID_SIZE`] bytes.
    pub id: String,
    /// How available buffer notifications reach the device.
    pub notify: Notify,
    /// How many request queues it has: 1 to [`QUEUES_MAX`].
    ///
    /// [`QUEUES_MAX`]: devices::virtio::block::QUEUES_MAX
    pub queues: u16,
    /// Whether what the guest writes may stay in the host's cache until the guest flushes; if not,
    /// it is on stable storage when the write completes. A guest may change it.
    pub writeback: bool,
    /// Size of a logical block, in bytes: 512 or 4096.
    pub block_size: u32,
    /// Whether the image is read and written past the host's cache.
    pub direct: bool,
    /// How data gets from it and to it.
    pub engine: Engine,
    /// Whether a thread of the kernel looks for what the engine submits, if that is io_uring.
    pub sqpoll: bool,
    /// How fast it may be used.
    pub limits: Limits,
    /// How the guest reaches the registers.
    pub registers: Registers,
}

impl DiskConfig {
    /// The disk in the image at `path` that GET_ID calls `id`, as it is where nothing else is said.
    #[must_use]
    pub fn new(path: PathBuf, id: &str) -> Self {
        Self {
            path,
            format: Format::default(),
            readonly: false,
            id: id.into(),
            notify: Notify::default(),
            queues: 1,
            writeback: true,
            block_size: 512,
            direct: false,
            engine: Engine::default(),
            sqpoll: false,
            limits: Limits::default(),
            registers: Registers::default(),
        }
    }

    /// Where the disk is, as number `index` of the machine.
    #[must_use]
    pub fn window(&self, index: usize) -> VirtioMmio {
        match self.registers {
            Registers::Trap => layout::virtio_mmio(index),
            Registers::Mapped => layout::mapped_virtio_mmio(index),
        }
    }
}

/// Where each of `disks` is, the disks of a machine.
#[must_use]
pub fn windows(disks: &[DiskConfig]) -> Vec<VirtioMmio> {
    let disks = disks.iter().enumerate();
    disks.map(|(index, disk)| disk.window(index)).collect()
}

named! {
    /// The format of a disk's image.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Format {
        /// The bytes of the disk, one after the other.
        #[default]
        Raw = "raw",
        /// QEMU's format, version 2 or 3, with the backing files that the image names.
        Qcow2 = "qcow2",
    }
}

named! {
    /// How an available buffer notification, the guest's write to `QueueNotify`, reaches the device.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Notify {
        /// The write leaves KVM_RUN, and the vCPU's thread drains the queue.
        #[default]
        Trap = "trap",
        /// KVM turns the write, whatever its width and value, into an event that wakes the queue's own
        /// thread. Where there are several queues it is a write of four bytes with the index of one.
        IoEventFd = "ioeventfd",
        /// As [`IoEventFd`](Self::IoEventFd), for a write of four bytes with the index of the queue.
        IoEventFdDatamatch = "ioeventfd-datamatch",
        /// The queue's own thread watches the queue, and the guest is asked not to write. After
        /// [`POLL_IDLE_LIMIT`] with an empty queue it is as with [`IoEventFd`](Self::IoEventFd), up to
        /// the next event.
        Poll = "poll",
    }
}

named! {
    /// How data gets from an image and to it.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Engine {
        /// By a system call for each transfer, which whoever serves the queue waits for.
        #[default]
        Sync = "sync",
        /// By io_uring, as many transfers at a time as there are.
        IoUring = "io_uring",
        /// By the one that suits the image as it is when it is opened.
        Auto = "auto",
    }
}

named! {
    /// How the guest reaches the registers of a device.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Registers {
        /// Each access leaves KVM_RUN, but for a notification that KVM turns into an event.
        #[default]
        Trap = "trap",
        /// Reads are of memory. With one CPU and [`Notify::Trap`] so are, while the device lives, writes
        /// to `InterruptStatus` and all behind it; else the write to `InterruptACK` waits in a ring.
        /// Other writes leave KVM_RUN, but for a notification that KVM turns into an event.
        Mapped = "mapped",
    }
}

/// For how long a thread watches an empty queue before it sleeps. It outlasts what a driver does
/// from one request to the next, a few thousand instructions, even on a KVM that takes 0.6 us for
/// each; and it is what a guest costs that goes idle, once for each time that it does.
pub const POLL_IDLE_LIMIT: Duration = Duration::from_millis(2);

/// Why words cannot be a kernel command line.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CmdlineError {
    /// Only printable ASCII can be passed on.
    #[error("it holds a character that is not printable ASCII")]
    NotPrintable,
    /// The words do not fit, together with what names the disks.
    #[error("its {len} bytes are too many: {room} fit, besides what names the disks")]
    TooLong {
        /// Length of the words.
        len: usize,
        /// Length that would have fitted.
        room: usize,
    },
    /// ` -- ` with nothing before it.
    #[error("arguments for init (after ' -- ') need kernel arguments before them")]
    OnlyInitArguments,
    /// Any other refusal of the builder.
    #[error("{0}")]
    Other(String),
}

/// The kernel command line of a machine with devices in these `windows`: `words`, then one
/// `virtio_mmio.device=` for each of them (in front of ` -- `, if the words have one: what follows
/// it is for Linux's init).
///
/// # Errors
/// Where `words` are not printable ASCII, or the whole is longer than
/// [`layout::CMDLINE_SIZE`] bytes with its terminating NUL.
pub fn kernel_cmdline(words: &str, windows: &[VirtioMmio]) -> Result<CString, CmdlineError> {
    let mut devices = Cmdline::new(layout::CMDLINE_SIZE).map_err(other)?;
    add_devices(&mut devices, windows).map_err(other)?;
    // The builder's own size for the devices is their length, a space in front and the NUL.
    let taken = devices.as_cstring().map_err(other)?.as_bytes().len() + 2;
    let room = layout::CMDLINE_SIZE - taken;

    if words.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
        return Err(CmdlineError::NotPrintable);
    }
    if words.len() > room {
        return Err(CmdlineError::TooLong {
            len: words.len(),
            room,
        });
    }
    let mut cmdline = Cmdline::try_from(words, layout::CMDLINE_SIZE).map_err(other)?;
    add_devices(&mut cmdline, windows).map_err(other)?;
    cmdline.as_cstring().map_err(|error| match error {
        LoaderError::NoBootArgsInserted => CmdlineError::OnlyInitArguments,
        error => other(error),
    })
}

fn add_devices(cmdline: &mut Cmdline, windows: &[VirtioMmio]) -> Result<(), LoaderError> {
    for window in windows {
        let base = GuestAddress(window.base);
        cmdline.add_virtio_mmio_device(spec::board::VIRTIO_MMIO_SIZE, base, window.gsi, None)?;
    }
    Ok(())
}

fn other(error: LoaderError) -> CmdlineError {
    CmdlineError::Other(error.to_string())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
