//! What block I/O is to be measured: the options of `vmm bench blk`, checked for sense, and the
//! [plan](super::plan) that they make. Opens no file.

use std::path::PathBuf;
use std::time::Duration;

use spec::block::SECTOR_SIZE;
use thiserror::Error;

use super::super::host_io::Limit;
use super::plan::{Cell, Io, Plan, Several};
use crate::config::{Engine, Notify, Registers};
use crate::named::named;

/// The largest request, in bytes.
pub const BLOCK_SIZE_MAX: u64 = 1 << 20;
/// The most requests in flight.
pub const DEPTH_MAX: u32 = 128;
/// The most requests of a cell.
pub const COUNT_MAX: u64 = 1_000_000_000;
/// How long a cell can be measured, in seconds.
pub const SECONDS: std::ops::RangeInclusive<f64> = 0.01..=3600.0;

/// Size of the scratch file where nothing is said, in bytes.
const SCRATCH_SIZE: u64 = 64 << 20;
const BLOCK_SIZES: [u64; 1] = [4096];
const DEPTHS: [u32; 4] = [1, 4, 32, 128];
/// How long a cell is measured where nothing is said, in seconds.
const CELL_SECONDS: f64 = 0.9;
/// The same of one in which several CPUs are at it, which has fewer rounds.
const QUEUES_CELL_SECONDS: f64 = 0.24;
/// How many CPUs are at it there, how many requests each has in flight, and how notifications reach
/// the device: with several queues, `ioeventfd` has a datamatch for each.
const QUEUES: [u32; 3] = [1, 2, 4];
const QUEUES_DEPTHS: [u32; 1] = [32];
const QUEUES_NOTIFY: [Notify; 3] = [Notify::Trap, Notify::IoEventFd, Notify::Poll];
/// The most CPUs that the guest puts to work.
pub const CPUS_MAX: u32 = 8;

named! {
    /// Which way, and in which order, data go.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Rw {
        /// Reads at random.
        #[default]
        RandRead = "randread",
        /// Writes at random.
        RandWrite = "randwrite",
        /// Reads in order.
        Read = "read",
        /// Writes in order.
        Write = "write",
    }
}

impl Rw {
    /// Whether the disk is written.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::RandWrite | Self::Write)
    }

    /// Whether they go to any place of the disk.
    #[must_use]
    pub const fn is_random(self) -> bool {
        matches!(self, Self::RandRead | Self::RandWrite)
    }
}

named! {
    /// How the guest waits for completions.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Wait {
        /// Halted, for the interrupt.
        #[default]
        Irq = "irq",
        /// By looking at the used ring again and again.
        Poll = "poll",
    }
}

/// How long a cell is measured, all its rounds together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// For so many seconds, as [`SECONDS`] has them.
    Seconds(f64),
    /// For so many requests, from 1 to [`COUNT_MAX`], or a few more: each round has as many.
    Requests(u64),
}

impl Amount {
    /// The share of one of `rounds`.
    #[must_use]
    pub fn limit(self, rounds: u32) -> Limit {
        match self {
            Self::Seconds(seconds) => Limit {
                requests: u64::MAX,
                time: Duration::from_secs_f64(seconds / f64::from(rounds)),
            },
            Self::Requests(count) => Limit {
                requests: count.div_ceil(rounds.into()),
                time: Duration::MAX,
            },
        }
    }
}

impl Default for Amount {
    fn default() -> Self {
        Self::Seconds(CELL_SECONDS)
    }
}

/// What a user can choose. An empty list, or `None`, is what is measured where nothing is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockOptions {
    /// The file to use as the disk; without one, a scratch file in the temporary directory.
    pub disk: Option<PathBuf>,
    /// How much of it is used, in bytes from its start: a multiple of 512.
    pub size: Option<u64>,
    /// Sizes of a request, in bytes: multiples of 512, up to [`BLOCK_SIZE_MAX`].
    pub block_sizes: Vec<u64>,
    /// How many requests are in flight: 1 to [`DEPTH_MAX`].
    pub depths: Vec<u32>,
    /// Which way data go. A file of the user's is opened for writing for no other reason.
    pub rw: Rw,
    /// How notifications reach the device.
    pub notify: Vec<Notify>,
    /// How the guest reaches the device's registers. Where nothing is said each access exits; where
    /// several queues are used it is both ways, one after the other.
    pub registers: Option<Registers>,
    /// What moves the data of the machines' disks.
    pub engine: Engine,
    /// How many queues are used at once, in cells of their own: from 1 to how many CPUs there are.
    /// There are none where nothing is said of them and something of the other cells.
    pub queues: Vec<u32>,
    /// How many CPUs the machine has in these, and queues the disk: up to [`CPUS_MAX`], where nothing
    /// is said as many as are used.
    pub cpus: Option<u32>,
    /// How the guest waits. Where nothing is said it is by interrupt; where the device polls, in
    /// either way, one after the other.
    pub wait: Option<Wait>,
    /// How long each cell is measured.
    pub amount: Amount,
}

/// What is wrong with [`BlockOptions`].
#[derive(Clone, Debug, Error, PartialEq)]
pub enum OptionsError {
    /// There is no request of this size.
    #[error("--bs: a request is a multiple of {SECTOR_SIZE} bytes up to 1 MiB, not {0}")]
    BlockSize(u64),
    /// The size is not one of a disk.
    #[error("--size: {0} bytes are no multiple of {SECTOR_SIZE}")]
    Size(u64),
    /// No request fits into the size.
    #[error("--size: {size} bytes have no room for a request of {block_size}")]
    SmallSize {
        /// The size.
        size: u64,
        /// Size of the request.
        block_size: u64,
    },
    /// There cannot be so many queues.
    #[error("--queues: each CPU drives one, and there are {cpus}: from 1 to {cpus}, not {queues}")]
    Queues {
        /// How many.
        queues: u32,
        /// How many CPUs there are.
        cpus: u32,
    },
}

impl BlockOptions {
    /// What these options ask for, whose numbers are in their ranges.
    ///
    /// # Errors
    /// They make no sense together, or sizes do not alone.
    pub fn plan(&self) -> Result<Plan, OptionsError> {
        let block_sizes = or_default(&self.block_sizes, &BLOCK_SIZES);
        let depths = or_default(&self.depths, &DEPTHS);
        let modes = or_default(&self.notify, &Notify::ALL);
        let size = match &self.disk {
            None => Some(self.size.unwrap_or(SCRATCH_SIZE)),
            Some(_) => self.size,
        };
        for &block_size in block_sizes {
            check_block_size(block_size, size)?;
        }

        let mut cells = Vec::new();
        for &notify in modes {
            for &block_size in block_sizes {
                for wait in self.waits(notify) {
                    cells.extend(depths.iter().map(|&depth| Cell {
                        notify,
                        io: Io {
                            rw: self.rw,
                            block_size,
                            depth,
                        },
                        wait,
                        registers: self.registers.unwrap_or_default(),
                        several: None,
                    }));
                }
            }
        }
        cells.extend(self.several(block_sizes)?);
        Ok(Plan {
            disk: self.disk.clone(),
            size,
            rw: self.rw,
            engine: self.engine,
            cells,
            amount: self.amount,
            queues_amount: match self.amount == Amount::default() {
                true => Amount::Seconds(QUEUES_CELL_SECONDS),
                false => self.amount,
            },
            pin: None,
        })
    }

    /// Whether nothing is said of what the cells are to be.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.block_sizes.is_empty()
            && self.depths.is_empty()
            && self.notify.is_empty()
            && self.registers.is_none()
            && self.wait.is_none()
    }

    /// The cells in which several CPUs are at it, of requests of `block_sizes`.
    fn several(&self, block_sizes: &[u64]) -> Result<Vec<Cell>, OptionsError> {
        let all = self.queues.is_empty() && (self.cpus.is_some() || self.is_whole());
        let queues = if all { &QUEUES[..] } else { &self.queues[..] };
        let cpus = (self.cpus.or(queues.iter().max().copied())).unwrap_or(1);
        let some = |queues: &u32| !all || *queues <= cpus;
        let queues: Vec<u32> = queues.iter().copied().filter(some).collect();
        if let Some(&queues) = queues.iter().find(|queues| **queues > cpus) {
            return Err(OptionsError::Queues { queues, cpus });
        }
        let registers = match self.registers {
            Some(registers) => vec![registers],
            None => Registers::ALL.into(),
        };
        let mut cells = Vec::new();
        for &notify in or_default(&self.notify, &QUEUES_NOTIFY) {
            for &registers in &registers {
                for &block_size in block_sizes {
                    for &depth in or_default(&self.depths, &QUEUES_DEPTHS) {
                        cells.extend(queues.iter().map(|&queues| Cell {
                            notify,
                            io: Io {
                                rw: self.rw,
                                block_size,
                                depth,
                            },
                            wait: self.wait.unwrap_or_default(),
                            registers,
                            several: Some(Several { queues, cpus }),
                        }));
                    }
                }
            }
        }
        Ok(cells)
    }

    fn waits(&self, notify: Notify) -> Vec<Wait> {
        match self.wait {
            Some(wait) => vec![wait],
            None if notify == Notify::Poll => Wait::ALL.into(),
            None => vec![Wait::default()],
        }
    }
}

fn check_block_size(block_size: u64, size: Option<u64>) -> Result<(), OptionsError> {
    if !(SECTOR_SIZE..=BLOCK_SIZE_MAX).contains(&block_size)
        || !block_size.is_multiple_of(SECTOR_SIZE)
    {
        return Err(OptionsError::BlockSize(block_size));
    }
    match size {
        Some(size) if !size.is_multiple_of(SECTOR_SIZE) => Err(OptionsError::Size(size)),
        Some(size) if size < block_size => Err(OptionsError::SmallSize { size, block_size }),
        _ => Ok(()),
    }
}

fn or_default<'a, T>(list: &'a [T], default: &'a [T]) -> &'a [T] {
    if list.is_empty() { default } else { list }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
