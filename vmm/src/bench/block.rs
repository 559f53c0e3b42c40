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
use crate::config::Notify;

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
            let mut machines = Machines::new(plan, &disk, group, round.counting);
            for measurement in group.iter_mut().filter(|cell| !cell.has_failed()) {
                progress.step(&measurement.name());
                let result = machines.current().and_then(|machine| {
                    let mut guest = GuestIo { machine, tsc_khz };
                    measurement.measure(&mut guest, disk.sectors, round)
                });
                if let Err(error) = result {
                    measurement.fail(machines.lost(&error));
                }
            }
            if let (Some(span), false) = (&mut span, round.counting)
                && machines.notify == Some(Notify::Trap)
            {
                let result = machines.current().and_then(|machine| {
                    let mut guest = GuestIo { machine, tsc_khz };
                    span.measure(&mut guest, disk.sectors, round)
                });
                if let Err(error) = result {
                    span.fail(machines.lost(&error));
                }
            }
        }
    }
    if let Some(reason) = cell::reason(&cells) {
        return Err(BenchError::Unsupported(reason.to_owned()));
    }
    let notes = notes::of(&cells, span.as_ref());
    Ok(Measured {
        targets: targets::of(&cells, span.as_ref()),
        block: report::Block {
            disk: disk.name.clone(),
            size: disk.sectors * SECTOR_SIZE,
            cells: cells.into_iter().map(|cell| cell.report(&floors)).collect(),
            notes,
        },
    })
}

/// The machine of a round and notify mode, and the next one where it is lost.
struct Machines {
    options: MachineOptions,
    notify: Option<Notify>,
    current: Option<Machine>,
}

impl Machines {
    fn new(plan: &Plan, disk: &Disk, group: &[Measurement], counting: bool) -> Self {
        let data = plan.cells.iter().map(|cell| cell.io.data_size()).max();
        let notify = group.first().map(|first| first.cell.notify);
        Self {
            options: MachineOptions {
                memory: (MEMORY + data.unwrap_or_default()).next_multiple_of(1 << 20),
                disks: notify
                    .map(|notify| disk.config(notify))
                    .into_iter()
                    .collect(),
                stats: counting,
                pin: plan.pin,
                ..MachineOptions::default()
            },
            notify,
            current: None,
        }
    }

    /// The machine, which is started if there is none.
    fn current(&mut self) -> Result<&mut Machine, BenchError> {
        match &mut self.current {
            Some(machine) => Ok(machine),
            none => Ok(none.insert(Machine::start(&self.options)?)),
        }
    }

    /// The guest may be anywhere after `error`: the next is in a new machine. Returns why the cell
    /// cannot be measured.
    fn lost(&mut self, error: &BenchError) -> String {
        self.current = None;
        error.to_string()
    }
}
