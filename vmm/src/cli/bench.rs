//! Arguments of `vmm bench` to what is to be measured, shown and compared; nothing else. Opens no
//! file.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use super::{NoRun, one_line, parse_size, to_no_run};
use crate::bench::block::options::{
    Amount, BlockOptions, COUNT_MAX, CPUS_MAX, DEPTH_MAX, Rw, SECONDS, Wait,
};
use crate::bench::linux::Source;
use crate::bench::{Measurement, Outputs, Request};
use crate::config::{Engine, Notify, Registers};
use crate::number::number;

const EXAMPLES: &str = "\
Examples:
  vmm bench                                     everything, in about a minute
  vmm bench exits --pin --json exits.json
  vmm bench blk --bs 4K,64K --depth 1,32 --notify trap,ioeventfd --seconds 2
  vmm bench blk --disk disk.img --rw randwrite  overwrites disk.img
  vmm bench blk --depth 32 --queues 1,2,4 --cpus 4
  vmm bench compare before.json after.json

The report goes to stdout as text. Exit status: 0 when everything asked for was measured or
compared, 2 for a wrong command line, 125 for an error of the VMM.";

const SEE_HELP: &str = " (see 'vmm bench --help')";

/// Measure what VM exits, block I/O and starting a machine cost on this host
///
/// Without a command, measures all three. Everything is measured beside a floor, in turns with it:
/// exits in the same VM on a bare loop around KVM_RUN, block I/O by system calls on the same file,
/// the start of a machine by a minimal program that makes the same one. The threads of machines are
/// in the sandbox, as they are without 'bench'; the floors and what measures are not.
#[derive(Parser, Debug)]
#[command(bin_name = "vmm bench", after_help = EXAMPLES)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Bench {
    #[command(flatten)]
    common: Common,

    /// Show what resources/linux/bench has printed into FILE, too: what a stock Linux guest gets
    #[arg(long, value_name = "FILE")]
    linux: Option<PathBuf>,

    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Measure what exits cost, kind by kind
    Exits(Common),
    /// Measure block I/O on a virtio-blk device
    Blk(Box<Blk>),
    /// Measure how long it takes from exec to the guest's first serial byte, and how much memory
    Start(Common),
    /// Compare two reports that --json has kept
    Compare(Compare),
}

#[derive(Args, Debug)]
struct Common {
    /// Keep the report in FILE as JSON, which can be compared with others
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Keep the figures in FILE as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Keep the report in FILE as a page with plots, for a browser
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Keep a CPU of the host for the vCPU that is measured; takes two
    #[arg(long)]
    pin: bool,

    /// Take few and short samples: to see that it works, not what it costs
    #[arg(long)]
    quick: bool,
}

#[derive(Args, Debug)]
struct Blk {
    #[command(flatten)]
    common: Common,

    /// File to use as the disk; it is never written, unless --rw asks for that [default: a scratch
    /// file in the temporary directory]
    #[arg(long, value_name = "FILE")]
    disk: Option<PathBuf>,

    /// How much of the disk is used, in bytes or with K, M, G or T [default: 64M, or all of FILE]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    size: Option<u64>,

    /// Size of a request [default: 4K]
    #[arg(long, value_name = "SIZE[,...]", value_delimiter = ',', value_parser = parse_size)]
    bs: Vec<u64>,

    /// How many requests are in flight [default: 1,4,32,128]
    #[arg(long, value_name = "N[,...]", value_delimiter = ',')]
    #[arg(value_parser = number(1..=DEPTH_MAX))]
    depth: Vec<u32>,

    /// What the requests do: at random positions, or in order
    #[arg(long, value_name = "MODE", default_value = Rw::ALL[0].name())]
    #[arg(value_parser = names(Rw::ALL.map(Rw::name), Rw::from_name))]
    rw: Rw,

    /// How notifications reach the device [default: every mode]
    #[arg(long, value_name = "MODE[,...]", value_delimiter = ',')]
    #[arg(value_parser = names(Notify::ALL.map(Notify::name), Notify::from_name))]
    notify: Vec<Notify>,

    /// How the guest reaches the device's registers: each access exits, or neither reads nor
    /// acknowledgements of interrupts do [default: trap, and with several queues both]
    #[arg(long, value_name = "KIND")]
    #[arg(value_parser = names(Registers::ALL.map(Registers::name), Registers::from_name))]
    registers: Option<Registers>,

    /// What moves the data: a system call after the other, io_uring, or what is found to be faster
    #[arg(long, value_name = "ENGINE", default_value = Engine::ALL[0].name())]
    #[arg(value_parser = names(Engine::ALL.map(Engine::name), Engine::from_name))]
    engine: Engine,

    /// How many queues are used at once, each by a CPU of its own, in a table beside the others
    /// [default: 1,2,4, where neither --bs nor --depth, --notify, --registers or --wait is given]
    #[arg(long, value_name = "N[,...]", value_delimiter = ',')]
    #[arg(value_parser = number(1..=CPUS_MAX))]
    queues: Vec<u32>,

    /// How many CPUs there are for that, 8 at most, and queues of the disk [default: as many as are
    /// used]
    #[arg(long, value_name = "N", value_parser = number(1..=CPUS_MAX))]
    cpus: Option<u32>,

    /// How the guest waits for completions [default: irq, and where the device polls also poll]
    #[arg(long, value_name = "WAY")]
    #[arg(value_parser = names(Wait::ALL.map(Wait::name), Wait::from_name))]
    wait: Option<Wait>,

    /// How long each combination is measured [default: 0.9]
    #[arg(long, value_name = "S", value_parser = number(SECONDS))]
    seconds: Option<f64>,

    /// How many requests of each combination are measured
    #[arg(long, value_name = "N", value_parser = number(1..=COUNT_MAX))]
    #[arg(conflicts_with = "seconds")]
    count: Option<u64>,
}

#[derive(Args, Debug)]
struct Compare {
    /// The report that is compared with
    #[arg(value_name = "A.json")]
    a: PathBuf,

    /// The report that is compared
    #[arg(value_name = "B.json")]
    b: PathBuf,

    /// Keep the comparison in FILE as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Parses one of `names`, which `from_name` knows.
fn names<const N: usize, T>(
    names: [&'static str; N],
    from_name: fn(&str) -> Option<T>,
) -> impl TypedValueParser<Value = T>
where
    T: Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(move |name| from_name(&name).ok_or("unknown"))
}

/// What the arguments `args` (`bench` first) ask for.
///
/// # Errors
/// See [`NoRun`].
pub fn parse(args: &[OsString]) -> Result<Request, NoRun> {
    let Bench {
        common,
        linux,
        what,
    } = Bench::try_parse_from(args).map_err(|error| to_no_run(&error, SEE_HELP))?;
    let measurement = match what {
        Some(What::Compare(Compare { a, b, json })) => return Ok(Request::Compare { a, b, json }),
        None => Measurement {
            exits: true,
            block: Some(BlockOptions::default()),
            linux: Some(linux.map_or(Source::Unmeasured, Source::File)),
            start: true,
            ..common.measurement()
        },
        Some(What::Exits(common)) => Measurement {
            exits: true,
            ..common.measurement()
        },
        Some(What::Blk(blk)) => blk.measurement(),
        Some(What::Start(common)) => Measurement {
            start: true,
            ..common.measurement()
        },
    };
    check(&measurement).map_err(|reason| NoRun::Wrong(one_line(&reason) + SEE_HELP))?;
    Ok(Request::Measure(Box::new(measurement)))
}

/// What no argument shows to be wrong on its own.
fn check(measurement: &Measurement) -> Result<(), String> {
    if let Some(options) = &measurement.block {
        options.plan().map_err(|error| error.to_string())?;
    }
    let Outputs { json, csv, html } = &measurement.outputs;
    for (a, b) in [(json, csv), (json, html), (csv, html)] {
        if let (Some(a), Some(b)) = (a, b)
            && a == b
        {
            return Err(format!("{} is to be two files at once", a.display()));
        }
    }
    Ok(())
}

impl Common {
    /// Of nothing so far.
    fn measurement(self) -> Measurement {
        Measurement {
            outputs: Outputs {
                json: self.json,
                csv: self.csv,
                html: self.html,
            },
            pin: self.pin,
            quick: self.quick,
            ..Measurement::default()
        }
    }
}

impl Blk {
    fn measurement(self) -> Measurement {
        let amount = match (self.seconds, self.count) {
            (Some(seconds), _) => Amount::Seconds(seconds),
            (None, Some(count)) => Amount::Requests(count),
            (None, None) => Amount::default(),
        };
        Measurement {
            block: Some(BlockOptions {
                disk: self.disk,
                size: self.size,
                block_sizes: self.bs,
                depths: self.depth,
                rw: self.rw,
                notify: self.notify,
                registers: self.registers,
                engine: self.engine,
                queues: self.queues,
                cpus: self.cpus,
                wait: self.wait,
                amount,
            }),
            ..self.common.measurement()
        }
    }
}

#[cfg(test)]
#[path = "bench_tests.rs"]
mod tests;
