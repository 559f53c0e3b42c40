//! The requests of a [`BlockJob`] by the guest of a machine, as many commands as that takes. It
//! does not know what the figures are for.

use std::time::Duration;

use spec::bench::{BlockJob, Command, Kind, LATENCIES_MAX, Outcome};

use super::super::cpu_time::CpuTime;
use super::super::error::{BenchError, cannot};
use super::super::host_io::Limit;
use super::super::latencies::Latencies;
use super::super::machine::Machine;

/// How long a command lasts at most.
const SLICE: Duration = Duration::from_secs(1);
/// How much longer a guest has until it counts as lost: a slow disk may take its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine whose guest does block I/O.
pub struct GuestIo {
    /// The machine.
    pub machine: Machine,
    /// Frequency of the guest's TSC, in kHz.
    pub tsc_khz: u32,
}

/// What came of a job.
#[derive(Clone, Debug, Default)]
pub struct GuestSample {
    /// How many commands it took.
    pub commands: u64,
    /// From the first to the last of each command, in nanoseconds.
    pub elapsed: f64,
    /// The latency of each request.
    pub latencies: Latencies,
    /// Available buffer notifications that the guest has sent.
    pub notifications: u64,
    /// CPU time of the process during the commands.
    pub cpu: CpuTime,
}

impl GuestSample {
    /// Requests per second.
    #[must_use]
    pub fn iops(&self) -> f64 {
        self.latencies.count() as f64 * 1e9 / self.elapsed.max(1.0)
    }
}

impl GuestIo {
    /// Does `job` in the way of `kind` until `limit`. Each command has a seed of its own, the first
    /// that of the job.
    ///
    /// # Errors
    /// The guest does not succeed, or the host does not tell the CPU time.
    pub fn run(
        &mut self,
        kind: Kind,
        job: BlockJob,
        limit: Limit,
    ) -> Result<GuestSample, BenchError> {
        let mut sample = GuestSample::default();
        let Limit {
            mut requests,
            mut time,
        } = limit;
        while requests > 0 && !time.is_zero() {
            let slice = time.min(SLICE);
            let block = BlockJob {
                seed: job.seed.wrapping_add(sample.commands << 32),
                ..job
            };
            let command = Command {
                kind: kind as u64,
                iterations: requests.min(LATENCIES_MAX),
                ticks: self.ticks(slice),
                block,
            };
            let done = self.add(&command, &mut sample)?;
            if done.iterations == 0 {
                return Err(BenchError::Unsupported("the guest made no request".into()));
            }
            requests = requests.saturating_sub(done.iterations);
            let spent = if done.iterations < command.iterations {
                slice
            } else {
                Duration::from_nanos(self.nanoseconds(done.ticks) as u64)
            };
            time = time.saturating_sub(spent);
        }
        Ok(sample)
    }

    /// Has the guest make the device ready for `job`, and do nothing with it. Returns the CPU time of
    /// the process meanwhile.
    ///
    /// # Errors
    /// The guest does not succeed, or the host does not tell the CPU time.
    pub fn set_up(&mut self, job: BlockJob) -> Result<CpuTime, BenchError> {
        let command = Command {
            kind: Kind::Block as u64,
            iterations: 0,
            ticks: 0,
            block: job,
        };
        let mut nothing = GuestSample::default();
        self.add(&command, &mut nothing)?;
        Ok(nothing.cpu)
    }

    fn add(&mut self, command: &Command, sample: &mut GuestSample) -> Result<Outcome, BenchError> {
        let now = || CpuTime::now().map_err(cannot("read the CPU time of the process"));
        let before = now()?;
        let done = self.machine.control.perform(command, SLICE + PATIENCE)?;
        sample.cpu += now()?.since(before);
        sample.commands += 1;
        sample.elapsed += self.nanoseconds(done.outcome.ticks);
        sample.notifications = sample
            .notifications
            .saturating_add(done.outcome.notifications);
        let ticks = done.latencies.iter();
        let nanoseconds = ticks.map(|&ticks| self.nanoseconds(ticks.into()) as u64);
        sample.latencies.extend(nanoseconds);
        Ok(done.outcome)
    }

    fn ticks(&self, time: Duration) -> u64 {
        (time.as_secs_f64() * f64::from(self.tsc_khz) * 1e3) as u64
    }

    /// How long `ticks` are.
    #[must_use]
    pub fn nanoseconds(&self, ticks: u64) -> f64 {
        ticks as f64 * 1e6 / f64::from(self.tsc_khz.max(1))
    }
}
