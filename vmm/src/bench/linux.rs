//! What a stock Linux guest gets from its disk, as `resources/linux/bench` has measured it: its
//! lines put together, disk by disk, and what the figures were to reach. Nothing is measured here.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::files::FileError;
use super::report::{Linux, LinuxDisk, LinuxHost, Series, Target};

/// What names this VMM among the machines.
const OURS: &str = "vmm";
/// The registers that are memory.
const MAPPED: &str = "registers=mapped";
/// Those of which each access exits, which others are compared with.
pub const TRAP: &str = "registers=trap";
/// How many times as many reads with the former there were to be at least.
const GAIN: f64 = 1.5;

/// A figure of a disk that was measured again and again.
pub type Figure = fn(&LinuxDisk) -> &Series;

/// Where the figures are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: they take another machine, or minutes in the lab.
    Unmeasured,
    /// In this file, as `resources/linux/bench` printed them.
    File(PathBuf),
}

/// A line of `resources/linux/bench`.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// Where all that follows is measured.
    Host(LinuxHost),
    /// A round with a disk.
    Run(Run),
    /// What could not be measured and why, in a sentence.
    Missing(String),
}

/// A round with a disk.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    /// See [`LinuxDisk::machine`].
    machine: String,
    /// See [`LinuxDisk::options`].
    disk: String,
    /// Random reads of 4 KiB a second.
    iops: f64,
    /// The median of their latency, in microseconds.
    latency_us: f64,
    /// How many of them there were.
    requests: u64,
    /// All exits meanwhile that KVM counted.
    exits: u64,
    /// Those among them that may be handed to user space.
    exits_to_user: u64,
    /// Reads of 1 MiB into scattered pages, in MiB a second.
    scattered_mib_per_s: f64,
}

impl Source {
    /// The figures, or where there are none the reason.
    ///
    /// # Errors
    /// Where the file cannot be read, or holds something else.
    pub fn read(&self) -> Result<Linux, FileError> {
        match self {
            Self::Unmeasured => Ok(Linux {
                host: None,
                disks: Vec::new(),
                missing: vec![
                    "Not measured: 'make bench' does it, in the lab, and 'vmm bench --linux FILE' \
                     shows it."
                        .into(),
                ],
            }),
            Self::File(path) => read(path),
        }
    }
}

fn read(path: &Path) -> Result<Linux, FileError> {
    let text = fs::read(path).map_err(|source| {
        let path = path.into();
        FileError::Read { path, source }
    })?;
    let lines: Vec<Line> = serde_json::Deserializer::from_slice(&text)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|source| {
            let path = path.into();
            FileError::NoLinux { path, source }
        })?;
    Ok(put_together(lines))
}

/// The rounds of `lines`, disk by disk, in the order in which each came first.
fn put_together(lines: Vec<Line>) -> Linux {
    let (mut host, mut missing) = (None, Vec::new());
    let mut disks: Vec<Vec<Run>> = Vec::new();
    for line in lines {
        match line {
            Line::Host(found) => host = Some(found),
            Line::Missing(reason) => missing.push(reason),
            Line::Run(run) => {
                let same = |rounds: &&mut Vec<Run>| {
                    let first = rounds.first();
                    first.is_some_and(|r| (&r.machine, &r.disk) == (&run.machine, &run.disk))
                };
                match disks.iter_mut().find(same) {
                    Some(rounds) => rounds.push(run),
                    None => disks.push(vec![run]),
                }
            }
        }
    }
    Linux {
        host,
        disks: (disks.iter())
            .filter_map(|rounds| disk(rounds.get(..whole_rounds(&disks, rounds))?))
            .collect(),
        missing,
    }
}

/// In how many rounds each disk of the machine of `rounds` has been measured: in the last one the
/// machine may have ended.
fn whole_rounds(disks: &[Vec<Run>], rounds: &[Run]) -> usize {
    let machine = |rounds: &[Run]| rounds.first().map(|run| run.machine.clone());
    let alike = disks.iter().filter(|disk| machine(disk) == machine(rounds));
    alike.map(Vec::len).min().unwrap_or(0)
}

/// The disk of these rounds, if there are any.
fn disk(rounds: &[Run]) -> Option<LinuxDisk> {
    let first = rounds.first()?;
    let series = |of: fn(&Run) -> f64| Series::new(rounds.iter().map(of).collect());
    let sum = |of: fn(&Run) -> u64| rounds.iter().map(of).sum::<u64>() as f64;
    let requests = sum(|run| run.requests).max(1.0);
    Some(LinuxDisk {
        machine: first.machine.clone(),
        options: first.disk.clone(),
        iops: series(|run| run.iops),
        latency: series(|run| run.latency_us * 1e3),
        exits: sum(|run| run.exits) / requests,
        exits_to_user: sum(|run| run.exits_to_user) / requests,
        scattered: series(|run| run.scattered_mib_per_s),
    })
}

impl Linux {
    /// The disk of which each access to a register exits, and which is like `disk` in all else; for
    /// one of these itself none.
    #[must_use]
    pub fn trap_of(&self, disk: &LinuxDisk) -> Option<&LinuxDisk> {
        let options = disk.options.replace(MAPPED, TRAP);
        let mut others = self.disks.iter().filter(|other| *other != disk);
        others.find(|other| other.machine == disk.machine && other.options == options)
    }

    /// How many times that of [`Self::trap_of`] a figure of `disk` is, in each round.
    #[must_use]
    pub fn by_trap(&self, disk: &LinuxDisk, figure: Figure) -> Option<Series> {
        figure(disk).ratio(figure(self.trap_of(disk)?))
    }

    /// The disks of this VMM.
    pub fn ours(&self) -> impl Iterator<Item = &LinuxDisk> {
        self.disks.iter().filter(|disk| disk.machine == OURS)
    }

    /// The first disk of another.
    #[must_use]
    pub fn other(&self) -> Option<&LinuxDisk> {
        self.disks.iter().find(|disk| disk.machine != OURS)
    }
}

impl LinuxDisk {
    /// What tells it from the others: of this VMM's the options alone.
    #[must_use]
    pub fn name(&self) -> String {
        let machine = self.machine.strip_prefix(OURS).unwrap_or(&self.machine);
        format!("{machine} {}", self.options).trim().to_owned()
    }
}

/// What mapped registers were to buy, where they have been measured beside others.
#[must_use]
pub fn targets(linux: &Linux) -> Vec<Target> {
    let target = |disk: &LinuxDisk| {
        let gain = linux.by_trap(disk, |disk| &disk.iops)?.summary.median;
        (gain > 0.0).then(|| Target {
            name: format!("4 KiB read in Linux, {}: against trap", disk.options),
            value: 1.0 / gain,
            limit: 1.0 / GAIN,
            unit: String::new(),
            from: format!(
                "of each round the reads a second with {MAPPED} by those with {TRAP}, of the rounds \
                 the median, {gain:.2}, and of that the inverse"
            ),
        })
    };
    linux.ours().filter_map(target).collect()
}

#[cfg(test)]
#[path = "linux_tests.rs"]
mod tests;
