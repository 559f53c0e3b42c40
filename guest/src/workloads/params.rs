//! The parameters of a workload: which there are, and what values they may have. A parameter that
//! is wrong is named, never ignored.

use core::fmt::{self, Write};
use core::ops::RangeInclusive;

use super::Failure;
use crate::cmdline::{CommandLine, number};
use crate::virtio::Options;
use crate::virtio::block::Wait;

/// What every workload takes that drives a disk.
pub(super) const DRIVER: [&str; 4] = ["disk", "wait", "indirect", "event_idx"];

/// Words that are for kernels in general, and that VMMs put on every command line.
const KERNEL: [&str; 8] = [
    "acpi",
    "console",
    "earlycon",
    "earlyprintk",
    "panic",
    "pci",
    "reboot",
    "root",
];

/// Such words that have no value.
const KERNEL_ALONE: [&str; 8] = [
    "debug",
    "nokaslr",
    "nomodules",
    "noreplace-smp",
    "nosmp",
    "quiet",
    "ro",
    "rw",
];

/// The parameters of one workload.
pub(super) struct Parameters<'e>(CommandLine<'e>);

impl<'e> Parameters<'e> {
    /// The parameters on the command line of a workload that takes those in `known` and `common`.
    pub(super) fn new(
        command_line: CommandLine<'e>,
        known: &'static [&'static str],
        common: &'static [&'static str],
    ) -> Result<Self, Failure<'e>> {
        let is_known = |key| known.contains(&key) || common.contains(&key);
        for (key, value) in given(command_line) {
            if value.is_none() {
                return Err(Failure::NoValue { word: key });
            }
            if !is_known(key) {
                return Err(Failure::UnknownParameter { key, known, common });
            }
        }
        Ok(Self(command_line))
    }

    /// The command line that they are on.
    pub(super) const fn command_line(&self) -> CommandLine<'e> {
        self.0
    }

    /// Whether a parameter is on the command line.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.0.value(key).is_some()
    }

    /// What a parameter is, as it was given.
    pub(super) fn value(&self, key: &str) -> Option<&'e str> {
        self.0.value(key)
    }

    /// A number; `default` where it is not given.
    pub(super) fn number(
        &self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, Failure<'e>> {
        let Some(value) = self.0.value(key) else {
            return Ok(default);
        };
        match number(value) {
            Some(number) if range.contains(&number) => Ok(number),
            _ => Err(Failure::BadNumber { key, value, range }),
        }
    }

    /// A number that must be given.
    pub(super) fn required_number(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Result<u64, Failure<'e>> {
        match self.is_given(key) {
            true => self.number(key, *range.start(), range),
            false => Err(Failure::NotGiven { key, range }),
        }
    }

    /// One of `choices`; the first where none is given.
    pub(super) fn choice(
        &self,
        key: &'static str,
        choices: &'static [&'static str],
    ) -> Result<&'static str, Failure<'e>> {
        let value = self.0.value(key).unwrap_or(choices[0]);
        let choice = choices.iter().find(|&&choice| choice == value);
        choice.copied().ok_or(Failure::BadChoice {
            key,
            value,
            choices,
        })
    }

    /// Which disk: `disk=N`.
    pub(super) fn disk(&self) -> Result<u64, Failure<'e>> {
        self.number("disk", 0, 0..=u64::MAX)
    }

    /// Which disk, for a workload that is about all of them where none is named.
    pub(super) fn only_disk(&self) -> Result<Option<u64>, Failure<'e>> {
        let disk = self.disk()?;
        Ok(self.is_given("disk").then_some(disk))
    }

    /// Which sectors: `lba=` and `count=`.
    pub(super) fn sectors(&self) -> Result<(u64, u64), Failure<'e>> {
        Ok((
            self.number("lba", 0, 0..=u64::MAX)?,
            self.number("count", 1, 1..=u64::MAX)?,
        ))
    }

    /// How the driver is to work: `wait=`, `queue_size=`, `indirect=`, `event_idx=`.
    pub(super) fn options(&self) -> Result<Options, Failure<'e>> {
        // The driver itself says which sizes there can be.
        let queue_size = self.number("queue_size", 0, 0..=u64::from(u16::MAX))?;
        let wait = match self.choice("wait", &["irq", "poll"])? {
            "poll" => Wait::Poll,
            _ => Wait::Irq,
        };
        Ok(Options {
            wait,
            indirect: self.choice("indirect", &["on", "off"])? == "on",
            event_idx: self.choice("event_idx", &["on", "off"])? == "on",
            queue_size: self.is_given("queue_size").then_some(queue_size as u16),
        })
    }
}

/// The words of the command line that are meant for the workload.
fn given<'e>(command_line: CommandLine<'e>) -> impl Iterator<Item = (&'e str, Option<&'e str>)> {
    command_line.words().filter(|(key, value)| match value {
        _ if key.contains('.') => false,
        Some(_) => *key != "run" && !KERNEL.contains(key),
        None => !KERNEL_ALONE.contains(key),
    })
}

/// Prints the parameters as they were given.
pub(super) fn print(command_line: CommandLine<'_>, out: &mut dyn Write) -> fmt::Result {
    given(command_line).try_for_each(|(key, value)| match value {
        Some(value) => write!(out, " {key}={value}"),
        None => write!(out, " {key}"),
    })
}
