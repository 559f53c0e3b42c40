//! `--pin`: a CPU of the host for the first vCPU of a measured machine alone. All other threads run
//! on those that are left.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use thiserror::Error;

/// Why threads cannot be pinned.
#[derive(Debug, Error)]
pub enum PinError {
    /// No CPU would be left for the others.
    #[error("--pin: needs 2 CPUs, and this process may use {0}")]
    TooFew(usize),
    /// The host refuses it.
    #[error("--pin: cannot {what}: {source}")]
    Host {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Keeps this thread, and all that it starts, off one CPU, and returns that one: the last of those
/// that this process may use, since the first are more often interrupted.
///
/// # Errors
/// Where this process may use one only, or the host refuses it.
pub fn spare_a_cpu() -> Result<usize, PinError> {
    let what = "read which CPUs this process may use";
    let set = sched_getaffinity(None).map_err(|source| host(what, source))?;
    let (spared, rest) = split(&set).ok_or(PinError::TooFew(set.count() as usize))?;
    sched_setaffinity(None, &rest).map_err(|source| host("choose CPUs", source))?;
    Ok(spared)
}

/// The last CPU of `set`, and all others; nothing where there are no others.
fn split(set: &CpuSet) -> Option<(usize, CpuSet)> {
    let last = (0..CpuSet::MAX_CPU).rfind(|&cpu| set.is_set(cpu))?;
    let mut rest = *set;
    rest.unset(last);
    (rest.count() > 0).then_some((last, rest))
}

fn host(what: &'static str, source: rustix::io::Errno) -> PinError {
    PinError::Host {
        what,
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cpus: &[usize]) -> CpuSet {
        let mut set = CpuSet::new();
        for &cpu in cpus {
            set.set(cpu);
        }
        set
    }

    #[test]
    fn the_last_cpu_is_spared_and_the_others_are_left() {
        let (spared, rest) = split(&set(&[1, 4, 900])).unwrap();
        assert_eq!(spared, 900);
        assert!(rest == set(&[1, 4]));
    }

    #[test]
    fn one_cpu_is_too_few() {
        assert!(split(&set(&[3])).is_none());
    }
}
