//! The arguments of `vmm explain`: a machine with one disk, and where its story goes; nothing else.
//! Opens no file.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::{NoRun, one_line, parse_disk, parse_memory, to_no_run, with_id};
use crate::config::{DiskConfig, Notify, VmConfig, kernel_cmdline};
use crate::explain::Request;
use crate::explain::run::JsonOutput;
use crate::layout;

const EXAMPLES: &str = "\
Examples:
  vmm explain                                   the built-in guest on a built-in disk
  vmm explain --html story.html                 ... and a page that steps through it
  vmm explain --disk disk.img,readonly=on --cmdline 'run=explain lba=8'
  vmm explain --kernel bzImage --initrd initrd.img --disk disk.img --cmdline console=ttyS0

The story goes to stdout as text. Exit status: 0 when it has been told; 2 for a wrong command line;
125 where it could not be told, or not to its end; what the guest ended with, if that was not 0;
126 for a guest that crashed; 128 + n after signal n.";

const SEE_HELP: &str = " (see 'vmm explain --help')";

/// Tell the story of one read and one write, from the driver and from the device
///
/// Runs a guest until it has made one read and one write, and tells what became of each: in every
/// register, in the three areas of the queue, in guest memory, in the file. The guest is ended then.
#[derive(Parser, Debug)]
#[command(bin_name = "vmm explain", after_help = EXAMPLES)]
struct Explain {
    /// Kernel to boot, as without 'explain' [default: the built-in guest]
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,

    /// Initial RAM disk to hand to the kernel
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,

    /// Disk image, with the keys that it has without 'explain', but for notify and queues [default:
    /// one in memory]. 'run=explain' writes back what it has read: nothing on the disk changes
    #[arg(
        long,
        value_name = "PATH[,KEY=VALUE]...",
        value_parser = OsStringValueParser::new().try_map(|value| parse_disk(&value))
    )]
    disk: Option<DiskConfig>,

    /// Kernel command line; what names the disk is appended
    #[arg(long, value_name = "STRING", allow_hyphen_values = true)]
    #[arg(default_value = "run=explain indirect=off queue_size=8")]
    cmdline: String,

    /// Size of the guest's RAM, in bytes or with K, M, G or T
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = parse_memory)]
    memory: u64,

    /// Write the story as a page for a browser, which steps through it
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write the story as JSON: to FILE, or to stdout in place of the text
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    json: Option<Option<PathBuf>>,

    /// Hold no thread to the system calls that it needs, and keep none from the host's files
    #[arg(long)]
    no_sandbox: bool,
}

/// What the arguments `args` (`explain` first) ask for.
///
/// # Errors
/// See [`NoRun`].
pub fn parse(args: &[OsString]) -> Result<Request, NoRun> {
    let args = Explain::try_parse_from(args).map_err(|error| to_no_run(&error, SEE_HELP))?;
    request(args).map_err(|reason| NoRun::Wrong(one_line(&reason) + SEE_HELP))
}

fn request(args: Explain) -> Result<Request, String> {
    if let Some(disk) = &args.disk
        && disk.notify != Notify::Trap
    {
        return Err(
            "--disk: explain follows the vCPU's thread, and that serves the queue with \
                    notify=trap alone"
                .into(),
        );
    }
    if args.disk.as_ref().is_some_and(|disk| disk.queues != 1) {
        return Err("--disk: explain tells of one queue, and not of several".into());
    }
    // The built-in disk is one, too.
    let window = (args.disk.as_ref()).map_or(layout::virtio_mmio(0), |disk| disk.window(0));
    let cmdline =
        kernel_cmdline(&args.cmdline, &[window]).map_err(|error| format!("--cmdline: {error}"))?;
    let json = args.json.map(|file| match file {
        Some(path) => JsonOutput::File(path),
        None => JsonOutput::Stdout,
    });
    if let (Some(JsonOutput::File(json)), Some(html)) = (&json, &args.html)
        && json == html
    {
        return Err(format!("{} is to be two files at once", html.display()));
    }
    Ok(Request {
        config: VmConfig {
            kernel: args.kernel,
            initrd: args.initrd,
            disks: args.disk.map(|disk| with_id(disk, 0)).into_iter().collect(),
            cpus: 1,
            memory: args.memory,
            cmdline,
            stats: None,
            trace: None,
            pin: false,
            sandbox: !args.no_sandbox,
            dump_guest_core: false,
            #[cfg(feature = "gdb")]
            gdb: None,
        },
        json,
        html: args.html,
    })
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
