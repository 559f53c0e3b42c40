//! `--pin`: which CPU of the host a thread is to stay on. Which threads there are, and when each
//! begins, is not known here.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use thiserror::Error;

/// Why threads cannot be pinned.
#[derive(Debug, Error)]
pub enum PinError {
    /// No CPU would be left for the others.
    #[error("--pin: needs 2 CPUs, and this process may use {0}")]
    TooFew(usize),
    /// The host does not tell.
    #[error("--pin: cannot read which CPUs this process may use: {0}")]
    Read(io::Error),
    /// The host refuses a CPU to a thread.
    #[error("--pin: cannot keep a thread on CPU {cpu} of the host: {source}")]
    Cpu {
        /// Number of the CPU.
        cpu: usize,
        /// Why not.
        source: io::Error,
    },
    /// The host refuses to keep a thread off a CPU.
    #[error("--pin: cannot keep a thread off CPU {cpu} of the host: {source}")]
    OffCpu {
        /// Number of the CPU.
        cpu: usize,
        /// Why not.
        source: io::Error,
    },
}

/// The CPUs of the host for the threads of one machine: the first for its vCPUs, those that follow
/// for the workers that serve its queues. Where there are more threads than CPUs some share one.
#[derive(Debug)]
pub struct Pins {
    /// At least one.
    cpus: Vec<usize>,
    vcpus: usize,
    workers: usize,
}

impl Pins {
    /// The CPUs that this process may use, for a machine of so many vCPUs.
    ///
    /// # Errors
    /// The host does not tell.
    pub fn new(vcpus: u8) -> Result<Self, PinError> {
        let set = own_cpus()?;
        Ok(Self::among(cpus(&set).collect(), vcpus))
    }

    /// The same for these CPUs.
    fn among(cpus: Vec<usize>, vcpus: u8) -> Self {
        Self {
            cpus,
            vcpus: 0,
            workers: vcpus.into(),
        }
    }

    /// The CPU for the next vCPU.
    pub fn vcpu(&mut self) -> usize {
        take(&self.cpus, &mut self.vcpus)
    }

    /// The CPU for the next worker.
    pub fn worker(&mut self) -> usize {
        take(&self.cpus, &mut self.workers)
    }
}

/// That of `cpus` whose turn it is, which is the turn of the `next` after.
fn take(cpus: &[usize], next: &mut usize) -> usize {
    let turn = *next;
    *next = next.wrapping_add(1);
    // A process has a CPU that it may use.
    cpus.iter().copied().cycle().nth(turn).unwrap_or(0)
}

/// Keeps this thread on `cpu` of the host alone.
///
/// # Errors
/// The host refuses it.
pub fn stay_on(cpu: usize) -> Result<(), PinError> {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).map_err(|error| PinError::Cpu {
        cpu,
        source: error.into(),
    })
}

/// Keeps this thread, and all that it starts, off one CPU, and returns that one: the last of those
/// that this process may use, since the first are more often interrupted.
///
/// # Errors
/// Where this process may use one only, or the host refuses it.
pub fn spare_a_cpu() -> Result<usize, PinError> {
    let set = own_cpus()?;
    let (cpu, rest) = split(&set).ok_or(PinError::TooFew(set.count() as usize))?;
    sched_setaffinity(None, &rest).map_err(|error| PinError::OffCpu {
        cpu,
        source: error.into(),
    })?;
    Ok(cpu)
}

fn own_cpus() -> Result<CpuSet, PinError> {
    sched_getaffinity(None).map_err(|error| PinError::Read(error.into()))
}

/// The CPUs in `set`, in their order.
fn cpus(set: &CpuSet) -> impl DoubleEndedIterator<Item = usize> + '_ {
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu))
}

/// The last CPU of `set`, and all others; nothing where there are no others.
fn split(set: &CpuSet) -> Option<(usize, CpuSet)> {
    let last = cpus(set).next_back()?;
    let mut rest = *set;
    rest.unset(last);
    (rest.count() > 0).then_some((last, rest))
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

    /// The CPUs for this many vCPUs and workers, where there are `cpus`; the workers begin first, as
    /// in a machine.
    fn spread(cpus: &[usize], vcpus: u8, workers: usize) -> (Vec<usize>, Vec<usize>) {
        let mut pins = Pins::among(cpus.to_vec(), vcpus);
        let workers = (0..workers).map(|_| pins.worker()).collect();
        ((0..vcpus).map(|_| pins.vcpu()).collect(), workers)
    }

    #[test]
    fn each_thread_has_a_cpu_of_its_own_as_long_as_there_are_some_vcpus_first() {
        let (vcpus, workers) = spread(&[0, 1, 2, 3, 8, 9], 2, 4);
        assert_eq!((vcpus, workers), (vec![0, 1], vec![2, 3, 8, 9]));
    }

    #[test]
    fn more_threads_than_cpus_share_them_evenly() {
        let (vcpus, workers) = spread(&[4, 5, 7], 4, 5);
        assert_eq!((vcpus, workers), (vec![4, 5, 7, 4], vec![5, 7, 4, 5, 7]));
        let (vcpus, workers) = spread(&[6], 2, 3);
        assert_eq!((vcpus, workers), (vec![6; 2], vec![6; 3]));
    }

    #[test]
    fn a_thread_stays_on_the_cpu_that_it_is_given_and_a_cpu_that_is_not_there_is_named() {
        let stayed = std::thread::spawn(|| {
            let cpu = Pins::new(1).unwrap().vcpu();
            stay_on(cpu).unwrap();
            own_cpus().unwrap() == set(&[cpu])
        });
        assert!(stayed.join().unwrap());
        let error = stay_on(CpuSet::MAX_CPU - 1).unwrap_err().to_string();
        let begin = "--pin: cannot keep a thread on CPU 1023 of the host: ";
        assert!(error.starts_with(begin), "{error}");
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
