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
pub mod plan;
mod rounds;
mod span;
mod targets;

use spec::block::SECTOR_SIZE;

use cell::Measurement;
use disk::Disk;
use floors::Floors;
use guest_io::GuestIo;
use plan::{Cell, Plan};
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
/// How many of these have the cells in which several CPUs are at it.
const QUEUES_ROUNDS: u32 = 3;
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

    let several = cells.iter().filter(|cell| cell.cell.several.is_some());
    let left_out = several.count() as u64 * u64::from(ROUNDS - QUEUES_ROUNDS);
    let steps = (cells.len() as u64 + 1) * u64::from(ROUNDS + 1) - left_out;
    progress.begin("block I/O", steps);
    for number in 0..=ROUNDS {
        let round = Round {
            counting: number == 0,
            seed: number.into(),
            limit: plan.amount.limit(ROUNDS),
        };
        progress.step("the same without a guest");
        floors.measure(&disk, round)?;
        for group in cells.chunk_by_mut(|a, b| a.cell.machine() == b.cell.machine()) {
            let Some(first) = group.first().map(|first| first.cell) else {
                continue;
            };
            let round = match first.several {
                Some(_) if number > QUEUES_ROUNDS => continue,
                Some(_) => Round {
                    limit: plan.queues_amount.limit(QUEUES_ROUNDS),
                    ..round
                },
                None => round,
            };
            let mut machines = Machines::new(plan, &disk, tsc_khz, first, round.counting);
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
                && (first.notify, first.several) == (Notify::Trap, None)
                && let Err(reason) = machines.run(|guest| span.measure(guest, disk.sectors, round))
            {
                span.found = Err(reason);
            }
        }
    }
    if let Some(reason) = cell::reason(&cells) {
        return Err(BenchError::Unsupported(reason.to_owned()));
    }
    let mut block = report::Block {
        disk: disk.name.clone(),
        size: disk.sectors * SECTOR_SIZE,
        notes: notes::of(&cells, plan.engine, span.as_ref()),
        queues_notes: notes::of_queues(&cells),
        cells: Vec::new(),
        queues: Vec::new(),
    };
    for cell in cells {
        match cell.cell.several {
            Some(several) => block.queues.push(cell.report_several(several)),
            None => block.cells.push(cell.report(&floors)),
        }
    }
    let targets = targets::of(&block.cells, span.as_ref());
    Ok(Measured { block, targets })
}

/// The machine of a round and notify mode, and the next one where it is lost.
struct Machines {
    options: MachineOptions,
    tsc_khz: u32,
    current: Option<Machine>,
}

impl Machines {
    /// The machines for `cell` and others like it.
    fn new(plan: &Plan, disk: &Disk, tsc_khz: u32, cell: Cell, counting: bool) -> Self {
        let data = plan.cells.iter().map(|cell| cell.data_size()).max();
        let (notify, registers, cpus) = cell.machine();
        Self {
            options: MachineOptions {
                memory: (MEMORY + data.unwrap_or_default()).next_multiple_of(1 << 20),
                cpus,
                disks: vec![DiskConfig {
                    registers,
                    engine: plan.engine,
                    queues: u16::try_from(cpus).unwrap_or(u16::MAX),
                    ..disk.config(notify)
                }],
                stats: counting,
                pin: plan.pin,
            },
            tsc_khz,
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
