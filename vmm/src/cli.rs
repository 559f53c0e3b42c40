//! Arguments to a [`VmConfig`] or to what `vmm bench` is to do, and what is wrong with them in one
//! line; nothing else. Opens no file.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Parser, ValueEnum};
use spec::board::VIRTIO_MMIO_MAX;
use thiserror::Error;

use crate::config::{CmdlineError, DiskConfig, StatsReport, VmConfig, kernel_cmdline, windows};
#[cfg(feature = "gdb")]
use crate::gdb::{GdbOptions, address::Address};
use crate::layout::{MIN_MEMORY, PAGE_SIZE};
use crate::number::number;

#[cfg(feature = "bench")]
mod bench;
mod disk;
#[cfg(feature = "explain")]
mod explain;
mod trace;

use disk::{parse_disk, with_id};

const EXAMPLES: &str = "\
Examples:
  vmm                                           boot the built-in guest
  vmm --disk disk.img                           ... and let it look at a disk
  vmm --disk disk.img,readonly=on --cmdline 'run=read lba=0 count=1'
  vmm --kernel guest.elf --disk a.img --disk b.img,id=scratch,notify=ioeventfd
  vmm --kernel vmlinux --cpus 4 --memory 1G --cmdline 'console=ttyS0'
  vmm bench                                     measure what virtualization costs on this host
  vmm explain                                   tell the story of one read and one write

The guest's serial port is the terminal: Ctrl-A X leaves, Ctrl-A Ctrl-A sends Ctrl-A.

Exit status: what the guest wrote to the debug-exit port 0xf4 (0 to 124), 0 after a reset,
2 for a wrong command line, 125 for an error of the VMM, 126 for a guest that crashed,
128 + n after signal n, but for SIGHUP with disks, which look at the sizes of their images again;
159 (SIGSYS) after a system call that the sandbox forbids.";

/// A minimal KVM virtual machine monitor with a built-in virtio-blk device
#[derive(Parser, Debug)]
#[command(version, after_help = EXAMPLES)]
struct Args {
    /// Kernel to boot: a bzImage, an ELF64 with or without a PVH note, or a flat binary [default:
    /// the built-in guest]
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,

    /// Initial RAM disk to hand to the kernel
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,

    /// Disk image, as a virtio-blk device; may be repeated. The keys: format=qcow2, and it is such an
    /// image, not a raw one, with the backing files that it names; readonly=on, and the guest
    /// may not write it; id=ID (default diskN) is what GET_ID answers; notify=MODE is how the guest
    /// notifies the device: trap (the default, served by the vCPU's thread), ioeventfd or
    /// ioeventfd-datamatch (KVM wakes the queue's own thread), or poll (that thread watches the
    /// queue, and sleeps when it stays empty); registers=mapped, and reading the device's registers
    /// does not exit, nor does acknowledging its interrupt (default trap: each access does); queues=4
    /// lets 4 CPUs use the disk at once, each with a queue of its own (default 1);
    /// cache=writethrough, and each write is on stable storage when it completes, not (writeback, the
    /// default) when the guest flushes; direct=on, and the image is read and written past the host's
    /// cache (O_DIRECT); engine=io_uring, and up to 128 transfers of a queue are in flight at once, not
    /// (sync, the default) one after the other, or auto, which is the one that suits the image;
    /// sqpoll=on, and a thread of the kernel looks for what io_uring is to do, without system calls;
    /// block_size=4096 is the size of the blocks that the guest is to read and write (default 512);
    /// throttle=iops:1000+bps:50M lets it make so many requests, and move so many bytes, in a second
    #[arg(
        long = "disk",
        value_name = "PATH[,KEY=VALUE]...",
        value_parser = OsStringValueParser::new().try_map(|value| parse_disk(&value))
    )]
    disks: Vec<DiskConfig>,

    /// How many CPUs the guest has
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = number(1..=u32::MAX))]
    cpus: u32,

    /// Size of the guest's RAM, in bytes or with K, M, G or T
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = parse_memory)]
    memory: u64,

    /// Kernel command line; what names the disks is appended
    #[arg(
        long,
        value_name = "STRING",
        default_value = "",
        hide_default_value = true
    )]
    #[arg(allow_hyphen_values = true)]
    cmdline: String,

    /// Keep statistics of exits and of the disks' queues, and write them to stderr at the end, and
    /// on SIGUSR1: as tables, or as a JSON object in a line
    #[arg(
        long,
        value_name = "FORMAT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "text"
    )]
    stats: Option<StatsFormat>,

    #[command(flatten)]
    trace: trace::TraceArgs,

    /// Keep each thread that runs a CPU of the guest or serves a queue of a disk on one CPU of the
    /// host, of those that this process may use: first the guest's CPUs, then the queues, in order
    #[arg(long)]
    pin: bool,

    /// Hold no thread to the system calls that it needs, and keep none from the host's files
    #[arg(long)]
    no_sandbox: bool,

    /// Leave the guest's RAM in the core file of a VMM that dies; where the host writes cores to
    /// files, not to a program, the sandbox allows none
    #[arg(long)]
    dump_guest_core: bool,

    /// Let gdb look at the guest, at any time: ADDRESS is tcp:PORT, of this host alone (0 is one that
    /// is free), or unix:PATH
    #[cfg(feature = "gdb")]
    #[arg(
        long,
        value_name = "ADDRESS",
        value_parser = OsStringValueParser::new().try_map(|value| Address::parse(&value))
    )]
    gdb: Option<Address>,

    /// Keep the guest from its first instruction until gdb lets it run
    #[cfg(feature = "gdb")]
    #[arg(long, requires = "gdb")]
    gdb_wait: bool,
}

/// How `--stats` shows them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum StatsFormat {
    Text,
    Json,
}

/// What the user wants.
#[derive(Debug)]
pub enum Command {
    /// A machine to run.
    Run(Box<VmConfig>),
    /// Something to measure or to compare.
    #[cfg(feature = "bench")]
    Bench(crate::bench::Request),
    /// A story to tell.
    #[cfg(feature = "explain")]
    Explain(Box<crate::explain::Request>),
}

/// Why there is nothing to run.
#[derive(Debug, PartialEq, Eq)]
pub enum NoRun {
    /// `--help` or `--version`: the text they ask for.
    Text(String),
    /// The command line is wrong: why, in one line.
    Wrong(String),
}

/// What the arguments `args` (the program's name first) ask for: `bench` as the first of them is
/// `vmm bench`, `explain` is `vmm explain`, all else describes a machine.
///
/// # Errors
/// See [`NoRun`].
pub fn parse<I>(args: I) -> Result<Command, NoRun>
where
    I: IntoIterator<Item: Into<OsString>>,
{
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    #[cfg(feature = "bench")]
    if let Some((_, words)) = args.split_first()
        && words.first().is_some_and(|word| word == "bench")
    {
        return bench::parse(words).map(Command::Bench);
    }
    #[cfg(feature = "explain")]
    if let Some((_, words)) = args.split_first()
        && words.first().is_some_and(|word| word == "explain")
    {
        return explain::parse(words).map(|request| Command::Explain(Box::new(request)));
    }
    let args = Args::try_parse_from(args).map_err(|error| to_no_run(&error, SEE_HELP))?;
    let config = config(args).map_err(|error| NoRun::Wrong(format!("{error}{SEE_HELP}")))?;
    Ok(Command::Run(Box::new(config)))
}

const SEE_HELP: &str = " (see 'vmm --help')";

fn to_no_run(error: &clap::Error, see_help: &str) -> NoRun {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => NoRun::Text(error.to_string()),
        _ => NoRun::Wrong(one_line(first_paragraph(&error.to_string())) + see_help),
    }
}

/// Clap's message, without its hints and usage.
fn first_paragraph(text: &str) -> &str {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.split("\n\n").next().unwrap_or(text)
}

/// A message as a line, whatever is in the user's words that it quotes.
fn one_line(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    words.join(" ")
}

/// What no argument shows to be wrong on its own.
#[derive(Debug, Error, PartialEq, Eq)]
enum ConfigError {
    #[error("--disk is given {0} times, and there can be no more than {VIRTIO_MMIO_MAX} disks")]
    TooManyDisks(usize),
    #[error("--cmdline: {0}")]
    Cmdline(#[from] CmdlineError),
}

fn config(args: Args) -> Result<VmConfig, ConfigError> {
    if args.disks.len() > VIRTIO_MMIO_MAX {
        return Err(ConfigError::TooManyDisks(args.disks.len()));
    }
    Ok(VmConfig {
        cmdline: kernel_cmdline(&args.cmdline, &windows(&args.disks))?,
        kernel: args.kernel,
        initrd: args.initrd,
        cpus: args.cpus,
        memory: args.memory,
        stats: args.stats.map(|format| match format {
            StatsFormat::Text => StatsReport::Text,
            StatsFormat::Json => StatsReport::Json,
        }),
        trace: args.trace.config(),
        pin: args.pin,
        sandbox: !args.no_sandbox,
        dump_guest_core: args.dump_guest_core,
        #[cfg(feature = "gdb")]
        gdb: args.gdb.map(|address| GdbOptions {
            address,
            wait: args.gdb_wait,
        }),
        disks: args
            .disks
            .into_iter()
            .enumerate()
            .map(|(index, disk)| with_id(disk, index))
            .collect(),
    })
}

#[derive(Debug, Error, PartialEq, Eq)]
enum SizeError {
    #[error("a size is a whole number, with K, M, G or T after it or nothing")]
    NotANumber,
    #[error("it is more than 2^64 - 1 bytes")]
    Overflow,
    #[error("the least a machine can have is {} MiB", MIN_MEMORY >> 20)]
    TooSmall,
    #[error("it is no multiple of a page, {PAGE_SIZE} bytes")]
    NotPages,
}

fn parse_memory(value: &str) -> Result<u64, SizeError> {
    let size = parse_size(value)?;
    if size < MIN_MEMORY {
        Err(SizeError::TooSmall)
    } else if !size.is_multiple_of(PAGE_SIZE) {
        Err(SizeError::NotPages)
    } else {
        Ok(size)
    }
}

/// A number of bytes, or of KiB, MiB, GiB or TiB where a letter (or `KiB` and so on) follows.
fn parse_size(value: &str) -> Result<u64, SizeError> {
    let digits = value
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(value.len());
    let (number, unit) = value.split_at(digits);
    if number.is_empty() {
        return Err(SizeError::NotANumber);
    }
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(SizeError::NotANumber),
    };
    // All digits, so the only way to fail is to be too large.
    let number: u64 = number.parse().map_err(|_| SizeError::Overflow)?;
    number.checked_mul(1 << shift).ok_or(SizeError::Overflow)
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
