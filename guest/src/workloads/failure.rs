//! Why a workload failed, in words for the line that says so.

use core::fmt;
use core::ops::RangeInclusive;

use super::WORKLOADS;
use super::bench::Unsupported;
use super::hostile;
use crate::cmdline::{BadDevice, Window};
use crate::dma::OutOfMemory;
use crate::virtio::Error;
use spec::bench::CONTROL_PORT;

/// Why a workload failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure<'e> {
    /// There is no such workload.
    UnknownWorkload,
    /// The workload has no such parameter.
    UnknownParameter {
        /// What was given.
        key: &'e str,
        /// The parameters it has.
        known: &'static [&'static str],
        /// Those that every workload has.
        common: &'static [&'static str],
    },
    /// A word is not of the form `key=value`, as parameters are.
    NoValue {
        /// The word.
        word: &'e str,
    },
    /// A parameter is not a number, or one out of range.
    BadNumber {
        /// Its name.
        key: &'static str,
        /// What was given.
        value: &'e str,
        /// What it may be.
        range: RangeInclusive<u64>,
    },
    /// A parameter has none of the values it may have.
    BadChoice {
        /// Its name.
        key: &'static str,
        /// What was given.
        value: &'e str,
        /// What it may be.
        choices: &'static [&'static str],
    },
    /// The command line speaks of a device in words that cannot be understood.
    BadDevice(BadDevice<'e>),
    /// There is no such disk.
    NoDisk {
        /// Which was asked for.
        disk: u64,
        /// How many there are.
        disks: u64,
    },
    /// A device cannot be driven.
    Device {
        /// Where it is.
        window: Window,
        /// Why.
        error: Error,
    },
    /// The sectors asked for are not all on the disk.
    PastEnd {
        /// The first.
        lba: u64,
        /// How many.
        count: u64,
        /// How many the disk has.
        capacity: u64,
    },
    /// The disk has too few sectors for the workload.
    DiskTooSmall {
        /// How many it has.
        capacity: u64,
        /// How many it needs.
        needed: u64,
    },
    /// The disk is read-only and the workload would write.
    ReadOnly,
    /// A request failed.
    Request {
        /// What was asked of the device.
        what: &'static str,
        /// The first sector it was about.
        lba: u64,
        /// What became of it.
        error: Error,
    },
    /// The driver could not go on.
    Driver(Error),
    /// A byte that was read back is not the one that was written.
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
    OutOfMemory(OutOfMemory),
    /// A case of the self-test failed.
    Case {
        /// Its name.
        name: &'static str,
        /// Why.
        reason: Reason,
    },
    /// There is no such case of the hostile guest.
    UnknownCase {
        /// What was given.
        value: &'e str,
    },
    /// Cases of the hostile guest failed.
    Cases {
        /// How many.
        failed: u32,
        /// Of how many.
        cases: u32,
    },
    /// Nobody has commands for a benchmark.
    NoControl {
        /// What the control port reads.
        read: u32,
    },
    /// A command of a benchmark makes no sense.
    BadCommand(&'static str),
    /// The machine cannot do what a benchmark is about.
    Unsupported(&'static str),
    /// The console cannot be written to.
    Console,
}

/// Why a case of the self-test failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The driver reported an error.
    Driver(Error),
    /// What was promised did not hold.
    Promise(&'static str),
    /// A request ended with another status than it had to.
    Status {
        /// What was asked of the device.
        what: &'static str,
        /// The status it had to write.
        expected: u8,
        /// The status it wrote.
        found: u8,
    },
    /// The device says that it wrote another number of bytes than it had to.
    Written {
        /// What was asked of the device.
        what: &'static str,
        /// How many it had to write.
        expected: u32,
        /// How many it says.
        found: u32,
    },
}

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownWorkload => {
                f.write_str("no such workload; there are")?;
                WORKLOADS
                    .iter()
                    .try_for_each(|workload| write!(f, " {}", workload.name))
            }
            Self::UnknownParameter { key, known, common } => {
                write!(f, "unknown parameter {key}; there are")?;
                known
                    .iter()
                    .chain(*common)
                    .try_for_each(|name| write!(f, " {name}"))
            }
            Self::NoValue { word } => write!(f, "{word} is not key=value"),
            Self::BadNumber { key, value, range } if *range.end() == u64::MAX => {
                write!(f, "{key}={value} is not a number from {}", range.start())
            }
            Self::BadNumber { key, value, range } => {
                write!(
                    f,
                    "{key}={value} is not a number from {} to {}",
                    range.start(),
                    range.end()
                )
            }
            Self::BadChoice {
                key,
                value,
                choices,
            } => {
                write!(f, "{key}={value} is none of")?;
                choices.iter().try_for_each(|choice| write!(f, " {choice}"))
            }
            Self::BadDevice(bad) => bad.fmt(f),
            Self::NoDisk { disk, disks } => write!(f, "there is no disk {disk}: disks={disks}"),
            Self::Device { window, error } => write!(f, "device at {:#x}: {error}", window.base),
            Self::PastEnd {
                lba,
                count,
                capacity,
            } => write!(
                f,
                "lba={lba} count={count} is past the end of the disk: it has {capacity} sectors"
            ),
            Self::DiskTooSmall { capacity, needed } => {
                write!(
                    f,
                    "the disk has {capacity} sectors; at least {needed} are needed"
                )
            }
            Self::ReadOnly => f.write_str("the disk is read-only"),
            Self::Request { what, lba, error } => write!(f, "{what} at lba={lba}: {error}"),
            Self::Driver(error) => error.fmt(f),
            Self::Mismatch {
                lba,
                offset,
                expected,
                found,
            } => write!(
                f,
                "lba={lba} byte {offset}: {found:#04x} was read, {expected:#04x} was written"
            ),
            Self::OutOfMemory(error) => error.fmt(f),
            Self::Case { name, reason } => write!(f, "{name}: {reason}"),
            Self::UnknownCase { value } => {
                write!(f, "case={value} is none of all list")?;
                hostile::names().try_for_each(|name| write!(f, " {name}"))
            }
            Self::Cases { failed, cases } => write!(f, "failed={failed} cases={cases}"),
            Self::NoControl { read } => write!(
                f,
                "port {CONTROL_PORT:#x} reads {read:#x}: there is no `vmm bench` that has commands"
            ),
            Self::BadCommand(reason) | Self::Unsupported(reason) => f.write_str(reason),
            Self::Console => f.write_str("the console cannot be written to"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(error) => error.fmt(f),
            Self::Promise(broken) => f.write_str(broken),
            Self::Status {
                what,
                expected,
                found,
            } => {
                write!(f, "{what}: status {found:#04x}, not {expected:#04x}")
            }
            Self::Written {
                what,
                expected,
                found,
            } => {
                write!(f, "{what}: used.len {found}, not {expected}")
            }
        }
    }
}

impl From<fmt::Error> for Failure<'_> {
    fn from(_: fmt::Error) -> Self {
        Self::Console
    }
}

impl From<Error> for Failure<'_> {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

impl From<OutOfMemory> for Failure<'_> {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory(error)
    }
}

impl From<Unsupported> for Failure<'_> {
    fn from(Unsupported(reason): Unsupported) -> Self {
        Self::Unsupported(reason)
    }
}

impl From<Error> for Reason {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

impl From<OutOfMemory> for Reason {
    fn from(error: OutOfMemory) -> Self {
        Self::Driver(error.into())
    }
}
