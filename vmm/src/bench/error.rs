//! What can go wrong while something is measured. Each message is one line.

use std::io;
use std::time::Duration;

use thiserror::Error;
use vm_memory::GuestMemoryError;

use super::block::disk::DiskError;
use crate::error::Error as MachineError;
use crate::stop::StopReason;

/// Why something cannot be measured.
#[derive(Debug, Error)]
pub enum BenchError {
    /// There is no machine to measure.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// There is no disk to measure.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// This host, or its KVM, cannot do it: why.
    #[error("{0}")]
    Unsupported(String),
    /// The guest ended, or failed in what it was to do.
    #[error("the built-in guest {how}{}", last_words(console))]
    Guest {
        /// How.
        how: String,
        /// The end of what it wrote to its console.
        console: String,
    },
    /// The guest has not done in time what it was to do.
    #[error(
        "the built-in guest did not {what} within {limit:?}{}",
        last_words(console)
    )]
    Timeout {
        /// What it was to do.
        what: &'static str,
        /// How long it had.
        limit: Duration,
        /// The end of what it wrote to its console.
        console: String,
    },
    /// The guest names an address at which there is no RAM.
    #[error("the built-in guest keeps {what} where it has no RAM: {source}")]
    Address {
        /// What is at the address.
        what: &'static str,
        /// Why it cannot be reached.
        source: GuestMemoryError,
    },
    /// The host refuses something else that measuring needs.
    #[error("cannot {what}: {source}")]
    Host {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl BenchError {
    /// What `reason` is to somebody who waits for the guest, whose console shows `console`.
    #[must_use]
    pub fn stopped(reason: StopReason, console: String) -> Self {
        let how = match reason {
            StopReason::Failed(error) => return error.into(),
            StopReason::Exited(value) => format!("ended with {value}"),
            StopReason::Reset => "asked for a reset".into(),
            StopReason::Crashed(crash) => format!("crashed: {}", crash.reason),
            StopReason::Signal(number) => format!("was stopped by signal {number}"),
            StopReason::Quit => "was left".into(),
            StopReason::Panicked => "was lost with a thread of the VMM".into(),
        };
        Self::Guest { how, console }
    }
}

/// Names what the host refused, for `map_err`.
pub fn cannot<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> BenchError {
    move |source| BenchError::Host {
        what,
        source: source.into(),
    }
}

/// The last line of `console`, as the end of a message.
fn last_words(console: &str) -> String {
    match console.lines().rfind(|line| !line.trim().is_empty()) {
        Some(line) => format!("; its console ends in '{}'", line.trim()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_fails_is_told_of_in_one_line_with_its_last_words() {
        let how = "ended with 1".to_owned();
        let console = "one\r\nbench FAILED: no disk\r\n\r\n".to_owned();
        assert_eq!(
            BenchError::Guest { how, console }.to_string(),
            "the built-in guest ended with 1; its console ends in 'bench FAILED: no disk'"
        );
    }

    #[test]
    fn a_guest_that_said_nothing_is_told_of_without_words() {
        let error = BenchError::stopped(StopReason::Reset, String::new());
        assert_eq!(error.to_string(), "the built-in guest asked for a reset");
    }
}
