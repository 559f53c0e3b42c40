//! Why a workload failed, in words for the line that says so.

use core::fmt::{self, Formatter};
use core::ops::RangeInclusive;

use spec::bench::CONTROL_PORT;
use thiserror::Error;

use super::WORKLOADS;
use super::bench::Unsupported;
use super::hostile;
use crate::cmdline::{BadDevice, Window};
use crate::dma::OutOfMemory;
use crate::virtio::Error;

/// Why a workload failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Failure<'e> {
    /// There is no such workload.
    #[error(fmt = no_workload)]
    UnknownWorkload,
    /// The workload has no such parameter.
    #[error("unknown parameter {key}; there are{}{}", Words(.known), Words(.common))]
    UnknownParameter {
        /// What was given.
        key: &'e str,
        /// The parameters it has.
        known: &'static [&'static str],
        /// Those that every workload has.
        common: &'static [&'static str],
    },
    /// A word is not of the form `key=value`, as parameters are.
    #[error("{word} is not key=value")]
    NoValue {
        /// The word.
        word: &'e str,
    },
    /// A parameter is not a number, or one out of range.
    #[error(fmt = bad_number)]
    BadNumber {
        /// Its name.
        key: &'static str,
        /// What was given.
        value: &'e str,
        /// What it may be.
        range: RangeInclusive<u64>,
    },
    /// A parameter that must be given is not.
    #[error("{key} is not given: a number from {} to {}", .range.start(), .range.end())]
    NotGiven {
        /// Its name.
        key: &'static str,
        /// What it may be.
        range: RangeInclusive<u64>,
    },
    /// A parameter has none of the values it may have.
    #[error("{key}={value} is none of{}", Words(.choices))]
    BadChoice {
        /// Its name.
        key: &'static str,
        /// What was given.
        value: &'e str,
        /// What it may be.
        choices: &'static [&'static str],
    },
    /// The command line speaks of a device in words that cannot be understood.
    #[error("{0}")]
    BadDevice(BadDevice<'e>),
    /// There is no such disk.
    #[error("there is no disk {disk}: disks={disks}")]
    NoDisk {
        /// Which was asked for.
        disk: u64,
        /// How many there are.
        disks: u64,
    },
    /// A device cannot be driven.
    #[error("device at {:#x}: {error}", .window.base)]
    Device {
        /// Where it is.
        window: Window,
        /// Why.
        error: Error,
    },
    /// The sectors asked for are not all on the disk.
    #[error("lba={lba} count={count} is past the end of the disk: it has {capacity} sectors")]
    PastEnd {
        /// The first.
        lba: u64,
        /// How many.
        count: u64,
        /// How many the disk has.
        capacity: u64,
    },
    /// A sector that there is not has been read.
    #[error("lba={lba} is past the end of the disk, and was read")]
    ReadPastEnd {
        /// Which.
        lba: u64,
    },
    /// The disk has too few sectors for the workload.
    #[error("the disk has {capacity} sectors; at least {needed} are needed")]
    DiskTooSmall {
        /// How many it has.
        capacity: u64,
        /// How many it needs.
        needed: u64,
    },
    /// The disk keeps what is written in its cache, and the workload would not flush.
    #[error("the disk is in write-back mode: without a flush nothing is stable")]
    WriteBack,
    /// The disk is read-only and the workload would write.
    #[error("the disk is read-only")]
    ReadOnly,
    /// A request failed.
    #[error("{what} at lba={lba}: {error}")]
    Request {
        /// What was asked of the device.
        what: &'static str,
        /// The first sector it was about.
        lba: u64,
        /// What became of it.
        error: Error,
    },
    /// A request has not completed in the time that it had, about a second.
    #[error(
        "{what} at lba={lba}: no completion in a second: submitted={submitted} completed={completed}"
    )]
    NoCompletion {
        /// What was asked of the device.
        what: &'static str,
        /// The sector it was about.
        lba: u64,
        /// How many requests have been submitted in all.
        submitted: u32,
        /// How many of them have completed.
        completed: u32,
    },
    /// The driver could not go on.
    #[error(transparent)]
    Driver(#[from] Error),
    /// A byte that was read back is not the one that was written.
    #[error("lba={lba} byte {offset}: {found:#04x} was read, {expected:#04x} was written")]
    Mismatch {
        /// The sector it is in.
        lba: u64,
        /// Its place in the sector.
        offset: usize,
        /// What was written.
        expected: u8,
        /// What was read.
        found: u8,
    },
    /// There is no memory left for buffers.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// A case of the self-test failed.
    #[error("{name}: {reason}")]
    Case {
        /// Its name.
        name: &'static str,
        /// Why.
        reason: Reason,
    },
    /// There is no such case of the hostile guest.
    #[error(fmt = no_case)]
    UnknownCase {
        /// What was given.
        value: &'e str,
    },
    /// Cases of the hostile guest failed.
    #[error("failed={failed} cases={cases}")]
    Cases {
        /// How many.
        failed: u32,
        /// Of how many.
        cases: u32,
    },
    /// The disk that was to be slow has answered all that it was asked.
    #[error("the disk has answered all by now: it is to be a slow one")]
    NotSlow,
    /// Nobody has commands for a benchmark.
    #[error("port {CONTROL_PORT:#x} reads {read:#x}: there is no `vmm bench` that has commands")]
    NoControl {
        /// What the control port reads.
        read: u32,
    },
    /// A command of a benchmark makes no sense.
    #[error("{0}")]
    BadCommand(&'static str),
    /// The machine cannot do what a benchmark is about.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The console cannot be written to.
    #[error("the console cannot be written to")]
    Console,
}

/// Why a case of the self-test failed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Reason {
    /// The driver reported an error.
    #[error(transparent)]
    Driver(#[from] Error),
    /// What was promised did not hold.
    #[error("{0}")]
    Promise(&'static str),
    /// A request ended with another status than it had to.
    #[error("{what}: status {found:#04x}, not {expected:#04x}")]
    Status {
        /// What was asked of the device.
        what: &'static str,
        /// The status it had to write.
        expected: u8,
        /// The status it wrote.
        found: u8,
    },
    /// The device says that it wrote another number of bytes than it had to.
    #[error("{what}: used.len {found}, not {expected}")]
    Written {
        /// What was asked of the device.
        what: &'static str,
        /// How many it had to write.
        expected: u32,
        /// How many it says.
        found: u32,
    },
}

fn no_workload(f: &mut Formatter<'_>) -> fmt::Result {
    f.write_str("no such workload; there are")?;
    let mut workloads = WORKLOADS.iter();
    workloads.try_for_each(|workload| write!(f, " {}", workload.name))
}

fn no_case(value: &str, f: &mut Formatter<'_>) -> fmt::Result {
    write!(f, "case={value} is none of all list")?;
    hostile::names().try_for_each(|name| write!(f, " {name}"))
}

fn bad_number(
    key: &str,
    value: &str,
    range: &RangeInclusive<u64>,
    f: &mut Formatter<'_>,
) -> fmt::Result {
    write!(f, "{key}={value} is {}", NotIn(range))
}

/// That something is not a number in a range.
pub(super) struct NotIn<'r>(pub(super) &'r RangeInclusive<u64>);

impl fmt::Display for NotIn<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "not a number from {}", self.0.start())?;
        match *self.0.end() {
            u64::MAX => Ok(()),
            end => write!(f, " to {end}"),
        }
    }
}

/// Words, each after a space.
struct Words(&'static [&'static str]);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|word| write!(f, " {word}"))
    }
}

impl Failure<'_> {
    /// The failure of a request at `lba` in which `what` was asked for, for `map_err`.
    pub(super) fn request(what: &'static str, lba: u64) -> impl FnOnce(Error) -> Self {
        move |error| Self::Request { what, lba, error }
    }
}

impl From<fmt::Error> for Failure<'_> {
    fn from(_: fmt::Error) -> Self {
        Self::Console
    }
}

impl From<Unsupported> for Failure<'_> {
    fn from(Unsupported(reason): Unsupported) -> Self {
        Self::Unsupported(reason)
    }
}

impl From<OutOfMemory> for Reason {
    fn from(error: OutOfMemory) -> Self {
        Self::Driver(error.into())
    }
}
