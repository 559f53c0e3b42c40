//! What block I/O costs: a matrix of cells, measured round by round, so that whatever disturbs the
//! host disturbs all of them, and their floors too. How a cell or a floor is measured is in files
//! of their own.
//!
//! There is one machine at a time, new for each round and notify mode: CPU time is that of all
//! threads of the process, and a device that polls would take a CPU away from the other machines.

mod cell;
mod counts;
pub mod disk;
mod floors;
mod guest_io;
mod notes;
pub mod options;
mod rounds;
mod span;
mod targets;

use spec::block::SECTOR_SIZE;

use cell::Measurement;
use disk::Disk;
use floors::Floors;
use guest_io::GuestIo;
use options::Plan;
use span::NotifySpan;

use super::error::BenchError;
use super::floor::Floor;
use super::host_io::Limit;
use super::machine::{Machine, MachineOptions};
use super::progress::Progress;
use super::report::{self, Target};
use super::tsc;
use crate::config::{DiskConfig, Notify};

/// How many rounds are timed. One more, the first, is for warming up, and for counting.
const ROUNDS: u32 = 5;
/// RAM of a machine besides the data of its requests, in bytes.
const MEMORY: u64 = 128 << 20;

/// What block I/O costs, and whether that is what it was to be.
#[derive(Debug)]
pub struct Measured {
    /// The figures.
    pub block: report::Block,
    /// The targets for which there are cells.
    pub targets: Vec<Target>,
}

/// One time through the matrix.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Whether exits and the like are counted, and no times are taken.
    counting: bool,
    /// What the positions of requests depend on.
    seed: u64,
    /// How much is measured of a cell.
    limit: Limit,
}

/// Measures what `plan` says.
///
/// # Errors
/// The disk cannot be used, or no cell can be measured. What goes wrong in one is said in its place.
pub fn measure(plan: &Plan, progress: &mut dyn Progress) -> Result<Measured, BenchError> {
    let disk = Disk::open(plan)?;
    let tsc_khz = tsc::khz(&mut Floor::start(&MachineOptions::default())?)?;
    let mut cells: Vec<Measurement> = plan.cells.iter().copied().map(Measurement::new).collect();
    let mut floors = Floors::new(plan);
    let mut span = NotifySpan::of(plan, &disk)?;

    let steps = (cells.len() as u64 + 1) * u64::from(ROUNDS + 1);
    progress.begin("block I/O", steps);
    for number in 0..=ROUNDS {
        let round = Round {
            counting: number == 0,
            seed: number.into(),
            limit: plan.amount.limit(ROUNDS),
        };
        progress.step("the same without a guest");
        floors.measure(&disk, round)?;
        for group in cells.chunk_by_mut(|a, b| a.cell.notify == b.cell.notify) {
            let mut machines = Machines::new(plan, &disk, tsc_khz, group, round.counting);
            for Measurement { cell, found } in group {
                if let Ok(so_far) = found {
                    progress.step(&cell.name());
                    let job = cell.job(disk.sectors, round.seed);
                    if let Err(reason) = machines.run(|guest| so_far.measure(guest, job, round)) {
                        *found = Err(reason);
                    }
                }
            }
            if let (Some(span), false) = (&mut span, round.counting)
                && machines.notify == Some(Notify::Trap)
                && let Err(reason) = machines.run(|guest| span.measure(guest, disk.sectors, round))
            {
                span.found = Err(reason);
            }
        }
    }
    if let Some(reason) = cell::reason(&cells) {
        return Err(BenchError::Unsupported(reason.to_owned()));
    }
    let block = report::Block {
        disk: disk.name.clone(),
        size: disk.sectors * SECTOR_SIZE,
        notes: notes::of(plan.registers, &cells, span.as_ref()),
        cells: cells.into_iter().map(|cell| cell.report(&floors)).collect(),
    };
    let targets = targets::of(&block.cells, span.as_ref());
    Ok(Measured { block, targets })
}

/// The machine of a round and notify mode, and the next one where it is lost.
struct Machines {
    options: MachineOptions,
    tsc_khz: u32,
    notify: Option<Notify>,
    current: Option<Machine>,
}

impl Machines {
    fn new(plan: &Plan, disk: &Disk, tsc_khz: u32, group: &[Measurement], counting: bool) -> Self {
        let data = plan.cells.iter().map(|cell| cell.io.data_size()).max();
        let notify = group.first().map(|first| first.cell.notify);
        Self {
            options: MachineOptions {
                memory: (MEMORY + data.unwrap_or_default()).next_multiple_of(1 << 20),
                disks: notify
                    .map(|notify| DiskConfig {
                        registers: plan.registers,
                        ..disk.config(notify)
                    })
                    .into_iter()
                    .collect(),
                stats: counting,
                pin: plan.pin,
                ..MachineOptions::default()
            },
            tsc_khz,
            notify,
            current: None,
        }
    }

    /// Has `work` done in the machine, which is started if there is none; or says why it cannot be.
    /// The guest may be anywhere after an error: the next is in a new machine.
    fn run(
        &mut self,
        work: impl FnOnce(&mut GuestIo) -> Result<(), BenchError>,
    ) -> Result<(), String> {
        let work = || {
            let machine = match self.current.take() {
                Some(machine) => machine,
                None => Machine::start(&self.options)?,
            };
            let mut guest = GuestIo {
                machine,
                tsc_khz: self.tsc_khz,
            };
            work(&mut guest)?;
            self.current = Some(guest.machine);
            Ok(())
        };
        work().map_err(|error: BenchError| error.to_string())
    }
}
