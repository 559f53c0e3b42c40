//! What exits cost: each kind in a machine of this VMM, on the floor, and in a machine that counts.
//! Samples are `sampler`'s; here is what they are taken of, and what is concluded from them.

use std::num::NonZero;
use std::thread;

use super::error::BenchError;
use super::kinds::{self, ONE_CPU, TWO_CPUS};
use super::progress::Progress;
use super::report::{ExitCost, Exits, Target};
use super::sampler::{Bench, impossible};

pub use super::sampler::ExitsOptions;

/// Measures all kinds. Why one cannot be measured is in the report.
///
/// # Errors
/// Where there can be no machine to measure.
pub fn measure(options: &ExitsOptions, progress: &mut dyn Progress) -> Result<Exits, BenchError> {
    progress.begin("exits", (ONE_CPU.len() + TWO_CPUS.len()) as u64);
    let mut bench = Bench::new(*options, 1)?;
    let (tsc_khz, tsc_khz_by_clock) = (bench.tsc_khz, bench.tsc_khz_by_clock);
    let mut kinds = Vec::new();
    for subject in &ONE_CPU {
        progress.step(subject.name);
        kinds.push(bench.kind(subject)?);
    }
    // Those machines would only be in the way of the others.
    drop(bench);
    // The CPU that one is pinned to is not among those that this thread may use.
    let others = thread::available_parallelism().map_or(1, NonZero::get);
    let cpus = others + usize::from(options.pin.is_some());
    let mut bench = (cpus > 1).then(|| Bench::new(*options, 2)).transpose()?;
    for subject in &TWO_CPUS {
        progress.step(subject.name);
        kinds.push(match &mut bench {
            Some(bench) => bench.kind(subject)?,
            None => impossible(subject, "this host has a single CPU".into()),
        });
    }
    Ok(Exits {
        tsc_khz,
        tsc_khz_by_clock,
        kinds,
    })
}

/// What makes the figures of `exits` less trustworthy, a sentence each.
#[must_use]
pub fn warnings(exits: &Exits) -> Vec<String> {
    let (khz, by_clock) = (exits.tsc_khz, exits.tsc_khz_by_clock);
    let far = f64::from(khz.abs_diff(by_clock)) > f64::from(khz) * TSC_TOLERANCE;
    let warning = || {
        format!(
            "KVM gives the guest's TSC {khz} kHz, and by the host's clock it has {by_clock}: all \
             times that the guest takes are wrong by as much."
        )
    };
    far.then(warning).into_iter().collect()
}

/// By how much the frequency of the TSC may be wrong, as a share of it.
const TSC_TOLERANCE: f64 = 0.01;

/// What exits were to cost, against the floor.
#[must_use]
pub fn targets(exits: &Exits) -> Vec<Target> {
    let ratio = |name: &&str| {
        let cost = cost(exits, name)?;
        Some(Target {
            name: format!("{name}, against the floor"),
            value: cost.vmm.ratio(&cost.floor)?.summary.median,
            limit: 1.03,
            unit: String::new(),
            from: "Median, over all rounds, of the time in a machine of this VMM divided by that \
                   on a bare loop around KVM_RUN in the same round."
                .into(),
        })
    };
    kinds::TO_USER.iter().filter_map(ratio).collect()
}

fn cost<'e>(exits: &'e Exits, name: &str) -> Option<&'e ExitCost> {
    let kind = exits.kinds.iter().find(|kind| kind.name == name)?;
    kind.cost.as_ref().ok()
}

#[cfg(test)]
#[path = "exits_tests.rs"]
mod tests;
