//! What the guest can be told to do, by `run=NAME key=value ...` on its command line. Here a
//! workload is chosen, run, and its verdict printed; each one has a file of its own.

use core::fmt::{self, Write};

use spec::Features;
use spec::mmio::{DEVICE_ID_BLOCK, Register};

use crate::cmdline::{CommandLine, Window};
use crate::dma::{Arena, OutOfMemory};
use crate::virtio::{Block, Error, Info, Options, Transport, Width};

pub mod bench;
mod broken;
mod clear;
mod crash;
mod explain;
mod extent;
mod failure;
mod fill;
mod hostile;
mod info;
mod journal;
mod params;
mod read;
mod retry;
mod selftest;
mod shell;
mod stalled;
mod storm;
mod together;
mod verify;
mod watch;

use bench::Probes;
pub use failure::Failure;
use params::Parameters;

/// Where a workload reports, and where it can be told more than there is on the command line.
pub trait Console: Write {
    /// Takes the next byte that is typed; none where there will be no more. Before it is waited for,
    /// all that was written is shown.
    fn read(&mut self) -> Option<u8>;
}

/// The machine that the guest runs on, as far as workloads need it.
pub trait Machine {
    /// The transport of the device at `window`.
    ///
    /// # Errors
    /// [`Error::NoWindow`] where the machine can have no device there.
    fn device(&mut self, window: Window) -> Result<&mut dyn Transport, Error>;

    /// Reads from an I/O port: 1, 2 or 4 bytes. There need be no device behind it.
    fn read_port(&mut self, port: u16, width: Width) -> u32;

    /// Writes to an I/O port as [`read_port`](Self::read_port) reads.
    fn write_port(&mut self, port: u16, width: Width, value: u32);

    /// What measures the machine itself.
    fn probes(&mut self) -> &mut dyn Probes;

    /// How many CPUs can [work together](Self::work_together): at least 1.
    fn cpus(&self) -> usize;

    /// Has each of `cpus` CPUs do `job`, all at once, and returns when each has done it. The device
    /// at `window` is theirs together: each reaches it in a way of its own, by which it can
    /// [wait for](Transport::wait_for) its own queue, where the device is one that
    /// [interrupts](Self::device), and for [nothing else](Transport::wait).
    ///
    /// # Errors
    /// A CPU that does not start, or [`Error::NoWindow`].
    fn work_together(&mut self, window: Window, cpus: usize, job: &Job<'_>) -> Result<(), Error>;

    /// Makes ready what the crate `alloc` allocates from; nothing may be allocated before.
    ///
    /// # Errors
    /// Where the machine has too little memory for it.
    fn start_heap(&mut self) -> Result<(), OutOfMemory>;

    /// Ends the run with an exit status, 0 to 124.
    fn exit(&mut self, status: u8) -> !;

    /// Halts for ever.
    fn halt(&mut self) -> !;

    /// Ends the run in the way `how`.
    fn crash(&mut self, how: Crash) -> !;

    /// Writes a few lines on the machine itself: how it was booted, its CPU, its memory.
    ///
    /// # Errors
    /// That of `out`.
    fn describe(&self, out: &mut dyn Write) -> fmt::Result;
}

/// What a CPU does of which there are several at work: it is told which of them it is, from 0 on.
pub type Job<'j> = dyn Fn(usize, &mut dyn Transport) + Sync + 'j;

/// A way for the guest to end that is nobody's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// An invalid instruction.
    Exception,
    /// A stack that grows past its end.
    Stack,
    /// A panic.
    Panic,
    /// An exception for which there is no handler, nor for those that follow from it.
    TripleFault,
}

/// All that a workload has to do with.
pub struct Environment<'e, 'm> {
    /// The kernel command line.
    pub command_line: CommandLine<'e>,
    /// Where the workload reports.
    pub console: &'e mut dyn Console,
    /// The machine.
    pub machine: &'e mut dyn Machine,
    /// Memory for queues and data.
    pub arena: Arena<'m>,
    /// All RAM that nobody else uses, for who needs more. There may be none.
    pub ram: Arena<'m>,
}

impl<'m> Environment<'_, 'm> {
    /// The console, the machine and the memory.
    fn parts(&mut self) -> (&mut dyn Console, &mut dyn Machine, &mut Arena<'m>) {
        (self.console, self.machine, &mut self.arena)
    }
}

/// A workload.
struct Workload {
    /// The value of `run=` that chooses it.
    name: &'static str,
    /// The parameters it takes of its own.
    parameters: &'static [&'static str],
    /// The parameters it takes as others do.
    common: &'static [&'static str],
    /// Does the work, and prints the line that ends in `ok`.
    run: for<'e> fn(&mut Environment<'e, '_>, &Parameters<'e>) -> Result<(), Failure<'e>>,
}

/// All workloads, the default first.
const WORKLOADS: &[Workload] = &[
    Workload {
        name: "info",
        parameters: &["queue_size"],
        common: &params::DRIVER,
        run: info::run,
    },
    Workload {
        name: "read",
        parameters: &["lba", "count", "retry", "queue_size"],
        common: &params::DRIVER,
        run: read::run,
    },
    Workload {
        name: "fill",
        parameters: &["lba", "count", "byte", "retry", "queue_size"],
        common: &params::DRIVER,
        run: fill::run,
    },
    Workload {
        name: "clear",
        parameters: &["lba", "count", "how", "queue_size"],
        common: &params::DRIVER,
        run: clear::run,
    },
    Workload {
        name: "verify",
        parameters: &["lba", "count", "seed", "depth", "queues", "queue_size"],
        common: &params::DRIVER,
        run: verify::run,
    },
    Workload {
        name: "watch",
        parameters: &["count", "queue_size"],
        common: &params::DRIVER,
        run: watch::run,
    },
    Workload {
        name: "journal",
        parameters: &[
            "lba",
            "count",
            "seed",
            "writes",
            "size",
            "depth",
            "flush_every",
            "flush",
            "clears",
            "queue_size",
        ],
        common: &params::DRIVER,
        run: journal::run,
    },
    Workload {
        name: "explain",
        parameters: &["lba", "queue_size"],
        common: &params::DRIVER,
        run: explain::run,
    },
    Workload {
        name: "selftest",
        parameters: &[],
        common: &params::DRIVER,
        run: selftest::run,
    },
    Workload {
        name: "hostile",
        parameters: &["case", "disk"],
        common: &[],
        run: hostile::run,
    },
    Workload {
        name: "storm",
        parameters: &["kind", "rounds", "then", "disk"],
        common: &[],
        run: storm::run,
    },
    Workload {
        name: "stalled",
        parameters: &["rounds", "beside", "disk"],
        common: &[],
        run: stalled::run,
    },
    Workload {
        name: "broken",
        parameters: &["bug", "disk"],
        common: &[],
        run: broken::run,
    },
    Workload {
        name: "shell",
        parameters: &["queue_size"],
        common: &params::DRIVER,
        run: shell::run,
    },
    Workload {
        name: "bench",
        parameters: &[],
        common: &[],
        run: bench::run,
    },
    Workload {
        name: "crash",
        parameters: &["how"],
        common: &[],
        run: crash::run,
    },
];

/// Runs the workload that the command line chooses, and prints its verdict. Returns whether it
/// succeeded.
pub fn run(environment: &mut Environment<'_, '_>) -> bool {
    let command_line = environment.command_line;
    let name = command_line.value("run").unwrap_or(WORKLOADS[0].name);
    let result = match WORKLOADS.iter().find(|workload| workload.name == name) {
        None => Err(Failure::UnknownWorkload),
        Some(workload) => Parameters::new(command_line, workload.parameters, workload.common)
            .and_then(|parameters| (workload.run)(environment, &parameters)),
    };
    match result {
        Ok(()) => true,
        Err(failure) => {
            let console = &mut *environment.console;
            // A console that cannot be written to leaves the exit status to tell.
            let _ = write!(console, "{name}")
                .and_then(|()| params::print(command_line, console))
                .and_then(|()| writeln!(console, " FAILED: {failure}"));
            false
        }
    }
}

/// A disk, ready for requests, and which one it is.
fn open<'d, 'm, 'e>(
    command_line: CommandLine<'e>,
    machine: &'d mut dyn Machine,
    disk: u64,
    options: &Options,
    arena: &mut Arena<'m>,
) -> Result<Block<'d, 'm>, Failure<'e>> {
    let window = find(command_line, machine, disk)?;
    machine
        .device(window)
        .and_then(|transport| Block::new(transport, options, arena))
        .map_err(|error| Failure::Device { window, error })
}

/// The disk that `parameters` choose, ready in the way that they say.
fn open_chosen<'d, 'm, 'e>(
    parameters: &Parameters<'e>,
    machine: &'d mut dyn Machine,
    arena: &mut Arena<'m>,
) -> Result<Block<'d, 'm>, Failure<'e>> {
    let (disk, options) = (parameters.disk()?, parameters.options()?);
    open(parameters.command_line(), machine, disk, &options, arena)
}

/// Sees that the disk can be written to.
fn writable<'e>(info: &Info) -> Result<(), Failure<'e>> {
    match info.accepted.contains(Features::VIRTIO_BLK_F_RO) {
        true => Err(Failure::ReadOnly),
        false => Ok(()),
    }
}

/// Where the block device number `disk` is, counted in the order of the command line. Devices of
/// other types do not count; transports that cannot be driven do, so that the reason is told.
fn find<'e>(
    command_line: CommandLine<'e>,
    machine: &mut dyn Machine,
    disk: u64,
) -> Result<Window, Failure<'e>> {
    let mut disks = 0;
    for window in command_line.devices() {
        let window = window.map_err(Failure::BadDevice)?;
        let transport = machine
            .device(window)
            .map_err(|error| Failure::Device { window, error })?;
        if !is_disk(transport) {
            continue;
        }
        if disks == disk {
            return Ok(window);
        }
        disks += 1;
    }
    Err(Failure::NoDisk { disk, disks })
}

/// Whether what is at `transport` is, or might be, a block device.
fn is_disk(transport: &mut dyn Transport) -> bool {
    match transport.check(DEVICE_ID_BLOCK) {
        Ok(()) | Err(Error::NoTransport { .. }) => true,
        Err(_) => transport.read(Register::DeviceID) == DEVICE_ID_BLOCK,
    }
}
