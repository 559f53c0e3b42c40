//! What is measured of block I/O: the cells of the matrix, and what the guest is to do in each of
//! them. What a user can choose of that is in `options`.

use std::path::PathBuf;

use spec::bench::BlockJob;

use super::options::{Amount, Rw, Wait};
use crate::config::{Engine, Notify, Registers};

/// What is to be measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The user's file.
    pub disk: Option<PathBuf>,
    /// How much of the disk is used, in bytes; `None` for all of the user's file.
    pub size: Option<u64>,
    /// Which way data go.
    pub rw: Rw,
    /// What moves the data of the machines' disks.
    pub engine: Engine,
    /// The cells of the matrix: all of one kind of machine in a row.
    pub cells: Vec<Cell>,
    /// How long each is measured.
    pub amount: Amount,
    /// The same of one of [several](Cell::several) CPUs.
    pub queues_amount: Amount,
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
    /// How the guest reaches the device's registers.
    pub registers: Registers,
    /// The CPUs that are at it, where it is about several.
    pub several: Option<Several>,
}

/// CPUs that drive a queue each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Several {
    /// How many do.
    pub queues: u32,
    /// How many the machine has, and queues the disk.
    pub cpus: u32,
}

impl Cell {
    /// What tells it from all others, as text.
    #[must_use]
    pub fn name(self) -> String {
        let Self {
            notify, io, wait, ..
        } = self;
        let mut name = format!(
            "{} bs={} depth={} notify={} wait={}",
            io.rw.name(),
            io.block_size,
            io.depth,
            notify.name(),
            wait.name()
        );
        if let Some(Several { queues, .. }) = self.several {
            name += &format!(" registers={} queues={queues}", self.registers.name());
        }
        name
    }

    /// What the machine has in which it is measured: notifications, registers and CPUs.
    #[must_use]
    pub fn machine(self) -> (Notify, Registers, u32) {
        let cpus = self.several.map_or(1, |several| several.cpus);
        (self.notify, self.registers, cpus)
    }

    /// Data of all requests in flight, in bytes.
    #[must_use]
    pub fn data_size(self) -> u64 {
        let queues = self.several.map_or(1, |several| several.queues);
        self.io.data_size().saturating_mul(queues.into())
    }

    /// The guest's job, as for [`Io::job`].
    #[must_use]
    pub fn job(self, sectors: u64, seed: u64) -> BlockJob {
        BlockJob {
            poll: (self.wait == Wait::Poll).into(),
            more_queues: self
                .several
                .map_or(0, |several| (several.queues - 1).into()),
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
            more_queues: 0,
        }
    }
}
