//! One cell of the matrix: what its rounds have found, and what they come to.

use spec::bench::{BlockJob, Kind};

use super::super::cpu_time::CpuTime;
use super::super::error::BenchError;
use super::super::report::{BlockCell, BlockFigures, QueuesCell};
use super::Round;
use super::counts::Counts;
use super::floors::Floors;
use super::guest_io::GuestIo;
use super::plan::{Cell, Several};
use super::rounds::Rounds;

/// A cell, and what has been found of it so far.
#[derive(Debug)]
pub(super) struct Measurement {
    pub(super) cell: Cell,
    /// Or why it cannot be measured.
    pub(super) found: Result<Found, String>,
}

/// What has been found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Requests that have been timed.
    timed: Rounds,
    /// Their CPU time.
    pub(super) cpu: CpuTime,
    /// How many requests have been counted, and what came of that.
    counted: u64,
    counts: Counts,
    notifications: u64,
}

/// Why none of `cells` can be measured, if none can.
pub(super) fn reason(cells: &[Measurement]) -> Option<&str> {
    let reasons = cells.iter().map(|cell| cell.found.as_ref().err());
    let reasons = reasons.collect::<Option<Vec<&String>>>()?;
    reasons.first().map(|reason| reason.as_str())
}

impl Measurement {
    pub(super) fn new(cell: Cell) -> Self {
        let found = Ok(Found::default());
        Self { cell, found }
    }

    /// What a cell comes to that is about several CPUs.
    pub(super) fn report_several(self, several: Several) -> QueuesCell {
        let Several { queues, cpus } = several;
        QueuesCell {
            queues,
            cpus,
            registers: self.cell.registers.name().into(),
            cell: BlockCell {
                floors: Vec::new(),
                ..self.report(&Floors::default())
            },
        }
    }

    /// What the cell comes to.
    pub(super) fn report(self, floors: &Floors) -> BlockCell {
        let Cell {
            notify, io, wait, ..
        } = self.cell;
        BlockCell {
            rw: io.rw.name().into(),
            block_size: io.block_size,
            depth: io.depth,
            notify: notify.name().into(),
            wait: wait.name().into(),
            figures: self.found.map(|found| found.figures()),
            floors: floors.of(io),
        }
    }
}

impl Found {
    fn figures(&self) -> BlockFigures {
        let share = |events: u64| events as f64 / self.counted.max(1) as f64;
        BlockFigures {
            throughput: self.timed.throughput(),
            exits: share(self.counts.exits),
            notify_exits: share(self.counts.notify_exits),
            notifications: share(self.notifications),
            interrupts: share(self.counts.interrupts),
            cpu: self.cpu.per(self.timed.latencies.count()),
        }
    }

    /// Has `guest` do `job` for a round: to count what its requests take beyond what a command takes
    /// that has none, or to time them.
    ///
    /// # Errors
    /// Those of [`GuestIo::run`].
    pub(super) fn measure(
        &mut self,
        guest: &mut GuestIo,
        job: BlockJob,
        round: Round,
    ) -> Result<(), BenchError> {
        if round.counting {
            let start = Counts::of(&guest.machine);
            guest.set_up(job)?;
            let before = Counts::of(&guest.machine);
            let overhead = before.since(start, Counts::default(), 0);
            let sample = guest.run(Kind::Block, job, round.limit)?;
            let after = Counts::of(&guest.machine);
            self.counts = after.since(before, overhead, sample.commands);
            self.counted = sample.latencies.count();
            self.notifications = sample.notifications;
        } else {
            // To start CPUs takes as long as many requests.
            let overhead = match job.more_queues {
                0 => CpuTime::default(),
                _ => guest.set_up(job)?,
            };
            let sample = guest.run(Kind::Block, job, round.limit)?;
            self.timed.iops.push(sample.iops());
            self.timed.latencies.add(&sample.latencies);
            let mut cpu = sample.cpu;
            for _ in 0..sample.commands {
                cpu = cpu.since(overhead);
            }
            self.cpu += cpu;
        }
        Ok(())
    }
}
