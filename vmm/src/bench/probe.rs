//! Tries each kind of exit before it is measured, in a machine that is thrown away where that goes
//! wrong: some KVMs cannot do some of them. Tells how long one takes, roughly, or why there is
//! none.

use std::time::Duration;

use spec::bench::Command;

use super::control::HostEnd;
use super::error::BenchError;
use super::floor::Floor;
use super::kinds::{Subject, Timing};
use super::machine::MachineOptions;

/// How long the guest has for one command, which is to take some milliseconds.
pub const LIMIT: Duration = Duration::from_secs(10);
/// How long it has for one that it may not come back from.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(1);
/// How long a command takes, or more, from which it is told how long one operation takes.
const ENOUGH: Duration = Duration::from_millis(2);
/// By how much the number of operations grows at most from one try to the next.
const GROWTH: u64 = 64;
/// How long after an interrupt has been handled the next is raised: long enough for the guest to
/// halt, and for KVM to stop waiting for that to end (`halt_poll_ns`, 0.2 ms) and to sleep.
pub const SETTLE: Duration = Duration::from_micros(500);

/// Tries `subject` in a machine of `options`. How long one takes, or why there is none.
///
/// # Errors
/// Where there can be no machine to try it in.
pub fn attempt(
    options: &MachineOptions,
    subject: &Subject,
) -> Result<Result<Duration, String>, BenchError> {
    match time(&mut Floor::start(options)?.control, subject) {
        Ok(time) => Ok(Ok(time)),
        Err(error) => verdict(error).map(Err),
    }
}

/// How long one operation of `subject` takes.
fn time(control: &mut HostEnd, subject: &Subject) -> Result<Duration, BenchError> {
    let mut iterations = 1;
    loop {
        let command = Command::new(subject.kind, iterations);
        let time = match subject.timing {
            // Other threads that get the CPU meanwhile do not count.
            Timing::Loop => control.perform(&command, ATTEMPT_LIMIT)?.cpu,
            Timing::Each => control.perform(&command, ATTEMPT_LIMIT)?.wall,
            Timing::Interrupt => control.interrupt(&command, SETTLE, ATTEMPT_LIMIT)?.0.wall,
        };
        match more(time, iterations, subject.timing.max_iterations()) {
            Some(next) => iterations = next,
            // A u32 holds all numbers of iterations that take a time worth dividing.
            None => return Ok(time / u32::try_from(iterations).unwrap_or(u32::MAX)),
        }
    }
}

/// How often to do next what took `time` for `iterations`, of `max` at most; `None` where that says
/// how long one takes.
fn more(time: Duration, iterations: u64, max: u64) -> Option<u64> {
    if time >= ENOUGH || iterations >= max {
        return None;
    }
    let factor = ENOUGH.as_nanos() / time.as_nanos().max(1) + 1;
    let factor = u64::try_from(factor).unwrap_or(GROWTH).clamp(2, GROWTH);
    Some(iterations.saturating_mul(factor).min(max))
}

/// Why a kind cannot be measured on which `error` came up; an error that is of the host, and of all
/// kinds, stays one.
fn verdict(error: BenchError) -> Result<String, BenchError> {
    match error {
        BenchError::Unsupported(reason) => Ok(reason),
        BenchError::Guest { .. } | BenchError::Timeout { .. } | BenchError::Address { .. } => {
            Ok(format!("this KVM cannot do it: {error}"))
        }
        BenchError::Machine(_) | BenchError::Disk(_) | BenchError::Host { .. } => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_short_is_done_more_often_until_it_takes_long_enough() {
        let micros = Duration::from_micros;
        assert_eq!(more(micros(2000), 1, 100), None, "long enough");
        assert_eq!(more(micros(1), 100, 100), None, "as often as allowed");
        assert_eq!(more(micros(1), 1, 1000), Some(64), "by no more than that");
        assert_eq!(more(Duration::ZERO, 1, 1000), Some(64));
        assert_eq!(more(micros(1999), 1, 1000), Some(2), "but by some");
        assert_eq!(more(micros(100), 10, 1000), Some(210));
        assert_eq!(more(micros(1), 1 << 60, u64::MAX), Some(u64::MAX));
    }

    #[test]
    fn a_guest_that_fails_is_a_verdict_and_a_host_that_refuses_is_an_error() {
        let (how, console) = ("crashed: KVM internal error 1".to_owned(), String::new());
        let error = BenchError::Guest { how, console };
        assert_eq!(
            verdict(error).unwrap(),
            "this KVM cannot do it: the built-in guest crashed: KVM internal error 1"
        );
        let error = BenchError::Timeout {
            what: "do what it was told",
            limit: ATTEMPT_LIMIT,
            console: String::new(),
        };
        assert_eq!(
            verdict(error).unwrap(),
            "this KVM cannot do it: the built-in guest did not do what it was told within 1s"
        );
        let error = BenchError::Unsupported("no such instruction".into());
        assert_eq!(verdict(error).unwrap(), "no such instruction");
        let error = BenchError::Host {
            what: "start a thread",
            source: std::io::ErrorKind::OutOfMemory.into(),
        };
        assert!(verdict(error).is_err());
    }
}
