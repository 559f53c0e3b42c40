//! One cell of the matrix: what its rounds have found, and what they come to.

use spec::bench::{BlockJob, Kind};

use super::super::cpu_time::CpuTime;
use super::super::error::BenchError;
use super::super::latencies::Latencies;
use super::super::report::{BlockCell, BlockFigures, Series, Throughput};
use super::Round;
use super::counts::Counts;
use super::floors::Floors;
use super::guest_io::GuestIo;
use super::options::{Cell, Wait};

/// A cell, and what has been found of it so far.
#[derive(Debug)]
pub(super) struct Measurement {
    pub(super) cell: Cell,
    /// Or why it cannot be measured.
    found: Result<Found, String>,
}

/// What has been found.
#[derive(Debug, Default)]
struct Found {
    /// Requests per second, of each round.
    iops: Vec<f64>,
    latencies: Latencies,
    /// How many requests have been timed, and their CPU time.
    timed: u64,
    cpu: CpuTime,
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

/// The CPU time of all requests that have been timed in `cells`.
pub(super) fn cpu_time(cells: &[Measurement]) -> CpuTime {
    let mut sum = CpuTime::default();
    for found in cells.iter().flat_map(|cell| &cell.found) {
        sum += found.cpu;
    }
    sum
}

impl Measurement {
    pub(super) fn new(cell: Cell) -> Self {
        let found = Ok(Found::default());
        Self { cell, found }
    }

    pub(super) fn name(&self) -> String {
        let Cell { notify, io, wait } = self.cell;
        format!(
            "{} bs={} depth={} notify={} wait={}",
            io.rw.name(),
            io.block_size,
            io.depth,
            notify.name(),
            wait.name()
        )
    }

    /// Whether the cell cannot be measured.
    pub(super) const fn has_failed(&self) -> bool {
        self.found.is_err()
    }

    /// The cell cannot be measured, because of `reason`.
    pub(super) fn fail(&mut self, reason: String) {
        self.found = Err(reason);
    }

    /// Measures the cell in `guest`, on the first `sectors` of its disk.
    ///
    /// # Errors
    /// Those of [`GuestIo::run`].
    pub(super) fn measure(
        &mut self,
        guest: &mut GuestIo<'_>,
        sectors: u64,
        round: Round,
    ) -> Result<(), BenchError> {
        let Ok(found) = &mut self.found else {
            return Ok(());
        };
        let job = BlockJob {
            poll: (self.cell.wait == Wait::Poll).into(),
            ..self.cell.io.job(sectors, round.seed)
        };
        if round.counting {
            found.count(guest, job, round)
        } else {
            found.time(guest, job, round)
        }
    }

    /// What the cell comes to.
    pub(super) fn report(self, floors: &Floors) -> BlockCell {
        let figures = self.figures();
        let Cell { notify, io, wait } = self.cell;
        BlockCell {
            rw: io.rw.name().into(),
            block_size: io.block_size,
            depth: io.depth,
            notify: notify.name().into(),
            wait: wait.name().into(),
            figures,
            floors: floors.of(io),
        }
    }

    /// The figures of the cell, or why there are none.
    pub(super) fn figures(&self) -> Result<BlockFigures, String> {
        let found = self.found.as_ref().map_err(Clone::clone)?;
        let share = |events: u64| events as f64 / found.counted.max(1) as f64;
        Ok(BlockFigures {
            throughput: Throughput {
                iops: Series::new(found.iops.clone()),
                latency: found.latencies.summary(),
            },
            exits: share(found.counts.exits),
            notify_exits: share(found.counts.notify_exits),
            notifications: share(found.notifications),
            interrupts: share(found.counts.interrupts),
            cpu: found.cpu.per(found.timed),
        })
    }
}

impl Found {
    /// Counts what the requests of a round take, beyond what a command takes that has none.
    fn count(
        &mut self,
        guest: &mut GuestIo<'_>,
        job: BlockJob,
        round: Round,
    ) -> Result<(), BenchError> {
        let start = Counts::of(guest.machine);
        guest.set_up(job)?;
        let before = Counts::of(guest.machine);
        let overhead = before.since(start, Counts::default(), 0);
        let sample = guest.run(Kind::Block, job, round.limit)?;
        let after = Counts::of(guest.machine);
        self.counts = after.since(before, overhead, sample.commands);
        self.counted = sample.requests;
        self.notifications = sample.notifications;
        Ok(())
    }

    /// Times the requests of a round.
    fn time(
        &mut self,
        guest: &mut GuestIo<'_>,
        job: BlockJob,
        round: Round,
    ) -> Result<(), BenchError> {
        let sample = guest.run(Kind::Block, job, round.limit)?;
        self.iops.push(sample.iops());
        self.latencies.add(&sample.latencies);
        self.timed += sample.requests;
        self.cpu += sample.cpu;
        Ok(())
    }
}
