//! Samples of what an exit costs, from three machines by turns, so that whatever else the host does
//! meets all of them alike. How one is made is the guest's matter; what they are of is `exits`'.

use std::time::{Duration, Instant};

use spec::bench::{Command, Kind};

use super::awake::Awake;
use super::control::{HostEnd, Performed};
use super::counts::{Counted, Tally, per_operation};
use super::error::BenchError;
use super::floor::Floor;
use super::kinds::{EMPTY, Subject, Timing};
use super::machine::{Machine, MachineOptions};
use super::probe::{LIMIT, SETTLE, attempt};
use super::report::{ExitCost, ExitCounts, ExitKind, Handled, Series, Summary};
use super::tsc;

/// How exits are measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExitsOptions {
    /// The CPU of the host that the vCPU that is measured is to run on alone.
    pub pin: Option<usize>,
    /// Whether few and short samples will do: to see that it works, not what it costs.
    pub quick: bool,
}

impl ExitsOptions {
    /// How many rounds of samples of a kind there are, one from each machine.
    fn rounds(self) -> usize {
        if self.quick { 3 } else { 75 }
    }

    /// How long a sample is to take.
    fn sample(self) -> Duration {
        Duration::from_millis(if self.quick { 1 } else { 2 })
    }
}

/// The least number of rounds, if there are to be so many, however long they take.
const ROUNDS_MIN: usize = 10;
/// How long the rounds of a kind take at most, if there have been enough.
const TIME_PER_KIND: Duration = Duration::from_millis(900);
/// How many commands without an operation are done, to know what they come to.
const IDLE_COMMANDS: u64 = 4;

/// The machines that samples are taken from by turns, in the order of their numbers.
struct Machines {
    vmm: Machine,
    floor: Floor,
    with_stats: Machine,
}

/// How many they are.
const MACHINES: usize = 3;
/// The number of the one that counts.
const WITH_STATS: usize = 2;

impl Machines {
    fn start(options: &MachineOptions) -> Result<Self, BenchError> {
        let counting = MachineOptions {
            stats: true,
            ..options.clone()
        };
        Ok(Self {
            vmm: Machine::start(options)?,
            floor: Floor::start(options)?,
            with_stats: Machine::start(&counting)?,
        })
    }

    /// What has been counted up to this moment.
    fn tally(&self) -> Tally {
        let counted = self.with_stats.statistics();
        counted.map(Tally::from).unwrap_or_default()
    }

    fn control(&mut self, machine: usize) -> &mut HostEnd {
        match machine {
            0 => &mut self.vmm.control,
            1 => &mut self.floor.control,
            _ => &mut self.with_stats.control, // WITH_STATS
        }
    }
}

/// Machines, and what is to be known of them.
pub struct Bench {
    options: ExitsOptions,
    machine: MachineOptions,
    machines: Machines,
    /// Frequency of the guest's TSC, as KVM gives it; if it does not, by the host's clock.
    pub tsc_khz: u32,
    /// The same by the host's clock.
    pub tsc_khz_by_clock: u32,
    /// What one turn of the empty loop takes in each machine.
    empty: [Sample; MACHINES],
}

/// What one operation takes, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    /// By the clock.
    wall: f64,
    /// CPU time of the vCPU's thread.
    cpu: f64,
}

/// All samples of a kind from one machine.
#[derive(Clone, Debug, Default)]
struct Samples {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

impl Samples {
    fn median(&self) -> Sample {
        Sample {
            wall: Summary::of(&self.wall).median,
            cpu: Summary::of(&self.cpu).median,
        }
    }
}

impl Bench {
    /// Machines of `cpus` CPUs.
    ///
    /// # Errors
    /// Where there can be none, or they cannot do the loop around everything else.
    pub fn new(options: ExitsOptions, cpus: u32) -> Result<Self, BenchError> {
        let machine = MachineOptions {
            cpus,
            pin: options.pin,
            ..MachineOptions::default()
        };
        let mut bench = Self {
            options,
            machines: Machines::start(&machine)?,
            machine,
            tsc_khz: 0,
            tsc_khz_by_clock: 0,
            empty: Default::default(),
        };
        let turn = attempt(&bench.machine, &EMPTY)?;
        let turn = turn.map_err(BenchError::Unsupported)?;
        bench.tsc_khz_by_clock = tsc::khz_by_clock(&mut bench.machines.floor)?;
        bench.tsc_khz = bench
            .machines
            .floor
            .tsc_khz()
            .unwrap_or(bench.tsc_khz_by_clock);
        let iterations = iterations(&EMPTY, turn, options.sample());
        let (samples, _) = bench.samples(&EMPTY, iterations)?;
        bench.empty = samples.map(|samples| samples.median());
        Ok(bench)
    }

    /// Measures `subject`. Why it cannot be measured is in what is returned.
    ///
    /// # Errors
    /// Where there can be no machine to measure it in.
    pub fn kind(&mut self, subject: &Subject) -> Result<ExitKind, BenchError> {
        let each = match attempt(&self.machine, subject)? {
            Ok(each) => each,
            Err(reason) => return Ok(impossible(subject, reason)),
        };
        let iterations = iterations(subject, each, self.options.sample());
        let _awake = subject.sleeps.then(Awake::new).transpose()?;
        let (samples, exits) = match self.samples(subject, iterations) {
            Ok(samples) => samples,
            Err(error) => {
                // What went wrong in one of them may have left them in any state.
                self.machines = Machines::start(&self.machine)?;
                return Ok(impossible(subject, error.to_string()));
            }
        };
        let [vmm, floor, with_stats] = samples;
        let cpu = Series::new(vmm.cpu);
        Ok(ExitKind {
            name: subject.name.into(),
            method: subject.method(),
            handled: handled(subject, &exits),
            cost: Ok(ExitCost {
                per_sample: match subject.timing {
                    Timing::Loop => iterations,
                    Timing::Each | Timing::Interrupt => 1,
                },
                vmm: Series::new(vmm.wall),
                floor: Series::new(floor.wall),
                with_stats: Series::new(with_stats.wall),
                cpu,
                exits,
            }),
        })
    }

    /// Rounds of samples of `iterations` operations each, after one that does not count; and how
    /// many exits one of them is in the machine that counts.
    fn samples(
        &mut self,
        subject: &Subject,
        iterations: u64,
    ) -> Result<([Samples; MACHINES], ExitCounts), BenchError> {
        for machine in 0..MACHINES {
            self.perform(machine, subject, iterations)?;
        }
        let start = self.machines.tally();
        for _ in 0..IDLE_COMMANDS {
            self.perform(WITH_STATS, subject, 0)?;
        }
        let idle = self.machines.tally();
        let mut samples: [Samples; MACHINES] = Default::default();
        let begin = Instant::now();
        let mut rounds = 0;
        while rounds < self.options.rounds()
            && (rounds < ROUNDS_MIN || begin.elapsed() < TIME_PER_KIND)
        {
            for turn in 0..MACHINES {
                // None of them is always the first, nor always after the same other.
                let machine = match rounds % 2 {
                    0 => (rounds + turn) % MACHINES,
                    _ => (rounds + MACHINES - turn) % MACHINES,
                };
                let (wall, cpu) = self.sample(machine, subject, iterations)?;
                if let Some(samples) = samples.get_mut(machine) {
                    samples.wall.extend(wall);
                    samples.cpu.push(cpu);
                }
            }
            rounds += 1;
        }
        let rounds = rounds as u64;
        let counted = Counted {
            commands: rounds,
            operations: rounds * iterations,
            tally: self.machines.tally().since(&idle),
        };
        let idle = Counted {
            commands: IDLE_COMMANDS,
            operations: 0,
            tally: idle.since(&start),
        };
        Ok((samples, per_operation(&idle, &counted)))
    }

    /// What one operation takes by the clock, on average or each, and in CPU time on average.
    fn sample(
        &mut self,
        machine: usize,
        subject: &Subject,
        iterations: u64,
    ) -> Result<(Vec<f64>, f64), BenchError> {
        let (performed, times) = self.perform(machine, subject, iterations)?;
        let nanos_per_tick = 1e6 / f64::from(self.tsc_khz);
        let cpu = performed.cpu.as_nanos() as f64 / iterations as f64;
        Ok(match subject.timing {
            Timing::Loop => {
                let empty = self.empty.get(machine).copied().unwrap_or_default();
                let wall = performed.outcome.ticks as f64 * nanos_per_tick / iterations as f64;
                // On a CPU that does several things at once the little that there is in a loop may
                // take no time.
                let wall = (wall - empty.wall).max(0.0);
                (vec![wall], (cpu - empty.cpu).max(0.0))
            }
            Timing::Each => {
                let latencies = performed.latencies.iter();
                let wall = latencies.map(|&ticks| f64::from(ticks) * nanos_per_tick);
                (wall.collect(), cpu)
            }
            Timing::Interrupt => {
                let wall = times.iter().map(|time| time.as_nanos() as f64);
                (wall.collect(), cpu)
            }
        })
    }

    /// Has `machine` do `iterations` of `subject`, and takes the time of each if the host does.
    fn perform(
        &mut self,
        machine: usize,
        subject: &Subject,
        iterations: u64,
    ) -> Result<(Performed, Vec<Duration>), BenchError> {
        let command = Command::new(subject.kind, iterations);
        let control = self.machines.control(machine);
        match subject.timing {
            Timing::Interrupt => control.interrupt(&command, SETTLE, LIMIT),
            Timing::Loop | Timing::Each => Ok((control.perform(&command, LIMIT)?, Vec::new())),
        }
    }
}

/// `subject`, which cannot be measured for this `reason`.
#[must_use]
pub fn impossible(subject: &Subject, reason: String) -> ExitKind {
    ExitKind {
        name: subject.name.into(),
        method: subject.method(),
        handled: subject.handled,
        cost: Err(reason),
    }
}

/// How many operations of `subject` that take `each` make a sample that takes `sample`.
fn iterations(subject: &Subject, each: Duration, sample: Duration) -> u64 {
    let iterations = sample.as_nanos() / each.as_nanos().max(1);
    u64::try_from(iterations)
        .unwrap_or(u64::MAX)
        .clamp(1, subject.timing.max_iterations())
}

/// Where an operation of `subject` ends that is `exits`.
fn handled(subject: &Subject, exits: &ExitCounts) -> Handled {
    // A CPU may deliver interrupts of the local APIC by itself. (On a KVM that emulates
    // instructions those that it handles itself are no exits, and yet it is what handles them.)
    let is_ipi = matches!(subject.kind, Kind::SelfIpi | Kind::Ipi);
    match (exits.vmm, exits.kernel) {
        (0.5.., _) => Handled::User,
        (_, Some(0.5..)) => Handled::Kernel,
        (_, Some(_)) if is_ipi => Handled::Guest,
        _ => subject.handled,
    }
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
