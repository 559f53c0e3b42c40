//! The span from the guest's write to QueueNotify to its interrupt handler, one request at a time,
//! beside that of the least that could serve it: a bare loop around KVM_RUN that, when the guest
//! writes to a register, reads a block by one system call and raises an interrupt.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use spec::bench::{Command, Kind, Positions};
use spec::block::SECTOR_SIZE;

use super::super::error::BenchError;
use super::super::floor::{AtDoorbell, Floor};
use super::super::host_io::Limit;
use super::super::latencies::Latencies;
use super::super::machine::MachineOptions;
use super::Round;
use super::disk::Disk;
use super::guest_io::GuestIo;
use super::options::Wait;
use super::plan::{Io, Plan};
use crate::config::Notify;

/// The size of a request of which this is told, in bytes.
const BLOCK_SIZE: u64 = 4096;
/// How many requests are made in a round, on either side.
const REQUESTS: u64 = 500;
/// How long either side has for these.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the floor's positions depend on: other than those of any round, so that neither side has
/// its blocks brought into the caches of the CPU by the other.
const SEED: u64 = 1 << 63;

/// The span, and what has been found of it so far.
pub(super) struct NotifySpan {
    io: Io,
    floor: Floor,
    /// Or why it cannot be measured.
    pub(super) found: Result<Found, String>,
}

/// What has been found: a median for each round, in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In a machine of this VMM.
    pub(super) spans: Vec<f64>,
    /// On the floor.
    pub(super) floors: Vec<f64>,
}

impl NotifySpan {
    /// The span of a request that is among the cells of `plan`, if one is that traps: a read of
    /// 4 KiB by itself, from `disk`.
    ///
    /// # Errors
    /// There can be no floor.
    pub(super) fn of(plan: &Plan, disk: &Disk) -> Result<Option<Self>, BenchError> {
        let mut cells = plan.cells.iter();
        let cell = cells.find(|cell| {
            let how = (cell.notify, cell.wait) == (Notify::Trap, Wait::Irq);
            let what = (cell.io.block_size, cell.io.depth) == (BLOCK_SIZE, 1);
            how && what && !cell.io.rw.writes()
        });
        let Some(io) = cell.map(|cell| cell.io) else {
            return Ok(None);
        };
        let Some(positions) = Positions::new(&io.job(disk.sectors, SEED)) else {
            return Ok(None);
        };
        let work = read_one(disk.file()?, positions);
        let options = MachineOptions {
            pin: plan.pin,
            ..MachineOptions::default()
        };
        Ok(Some(Self {
            io,
            floor: Floor::start_with(&options, Some(work))?,
            found: Ok(Found::default()),
        }))
    }

    /// Measures it in `guest`, on the first `sectors` of its disk, and on the floor.
    ///
    /// # Errors
    /// A guest does not succeed.
    pub(super) fn measure(
        &mut self,
        guest: &mut GuestIo,
        sectors: u64,
        round: Round,
    ) -> Result<(), BenchError> {
        let Ok(found) = &mut self.found else {
            return Ok(());
        };
        let limit = Limit {
            requests: REQUESTS,
            time: PATIENCE,
        };
        let job = self.io.job(sectors, round.seed);
        let sample = guest.run(Kind::BlockNotify, job, limit)?;
        let command = Command::new(Kind::Doorbell, REQUESTS);
        let mut floor = Latencies::default();
        let ticks = self.floor.control.perform(&command, PATIENCE)?.latencies;
        floor.extend((ticks.into_iter()).map(|ticks| guest.nanoseconds(ticks.into()) as u64));
        found.floors.push(floor.summary().p50 as f64);
        found.spans.push(sample.latencies.summary().p50 as f64);
        Ok(())
    }
}

/// Reads the next block of `positions` from `file`, into memory that stays the same, as that of the
/// guest's requests does.
fn read_one(file: File, mut positions: Positions) -> AtDoorbell {
    let mut block = vec![0; BLOCK_SIZE as usize];
    Box::new(move || file.read_exact_at(&mut block, positions.next() * SECTOR_SIZE))
}
