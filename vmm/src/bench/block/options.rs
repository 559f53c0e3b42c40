//! What block I/O is to be measured: the options of `vmm bench blk`, checked for sense, as the cells
//! of a matrix. Opens no file.

use std::path::PathBuf;
use std::time::Duration;

use spec::bench::BlockJob;
use spec::block::SECTOR_SIZE;
use thiserror::Error;

use super::super::host_io::Limit;
use crate::config::{Notify, Registers};
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

    const fn is_random(self) -> bool {
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
    /// How the guest reaches the device's registers, in all cells.
    pub registers: Registers,
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
    /// There cannot be so many requests in flight.
    #[error("--depth: from 1 to {DEPTH_MAX} requests can be in flight, not {0}")]
    Depth(u32),
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
    /// So long cannot be measured.
    #[error("--seconds: a cell is measured for 0.01 to 3600 seconds, not {0}")]
    Seconds(f64),
    /// So many requests cannot be measured.
    #[error("--count: a cell has 1 to {COUNT_MAX} requests, not {0}")]
    Count(u64),
}

/// What is to be measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The user's file.
    pub disk: Option<PathBuf>,
    /// How much of the disk is used, in bytes; `None` for all of the user's file.
    pub size: Option<u64>,
    /// Which way data go.
    pub rw: Rw,
    /// How the guest reaches the device's registers.
    pub registers: Registers,
    /// The cells of the matrix: all of a notify mode in a row.
    pub cells: Vec<Cell>,
    /// How long each is measured.
    pub amount: Amount,
    /// The CPU of the host that the vCPU is to run on alone.
    pub pin: Option<usize>,
}

/// A cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// How notifications reach the device.
    pub notify: Notify,
    /// What the guest does.
    pub io: Io,
    /// How the guest waits.
    pub wait: Wait,
}

impl Cell {
    /// What tells it from all others, as text.
    #[must_use]
    pub fn name(self) -> String {
        let Self { notify, io, wait } = self;
        format!(
            "{} bs={} depth={} notify={} wait={}",
            io.rw.name(),
            io.block_size,
            io.depth,
            notify.name(),
            wait.name()
        )
    }

    /// The guest's job, as for [`Io::job`].
    #[must_use]
    pub fn job(self, sectors: u64, seed: u64) -> BlockJob {
        BlockJob {
            poll: (self.wait == Wait::Poll).into(),
            ..self.io.job(sectors, seed)
        }
    }
}

/// I/O that can be done with a guest or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Io {
    /// Which way data go.
    pub rw: Rw,
    /// Size of a request, in bytes.
    pub block_size: u64,
    /// How many requests are in flight.
    pub depth: u32,
}

impl Io {
    /// Data of all requests in flight, in bytes.
    #[must_use]
    pub const fn data_size(self) -> u64 {
        self.block_size.saturating_mul(self.depth as u64)
    }

    /// The job, on the first `sectors` of a disk, at the positions that belong to `seed`.
    #[must_use]
    pub fn job(self, sectors: u64, seed: u64) -> BlockJob {
        BlockJob {
            write: self.rw.writes().into(),
            random: self.rw.is_random().into(),
            block_size: self.block_size,
            depth: self.depth.into(),
            sectors,
            seed,
            poll: 0,
        }
    }
}

impl BlockOptions {
    /// What these options ask for.
    ///
    /// # Errors
    /// They make no sense.
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
        if let Some(&depth) = depths.iter().find(|depth| !(1..=DEPTH_MAX).contains(depth)) {
            return Err(OptionsError::Depth(depth));
        }
        match self.amount {
            Amount::Seconds(seconds) if !SECONDS.contains(&seconds) => {
                return Err(OptionsError::Seconds(seconds));
            }
            Amount::Requests(count) if !(1..=COUNT_MAX).contains(&count) => {
                return Err(OptionsError::Count(count));
            }
            _ => {}
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
                    }));
                }
            }
        }
        Ok(Plan {
            disk: self.disk.clone(),
            size,
            rw: self.rw,
            registers: self.registers,
            cells,
            amount: self.amount,
            pin: None,
        })
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
