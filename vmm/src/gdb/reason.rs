//! How gdb is told why a vCPU has stopped, or how the machine has ended. Stops nothing.

use gdbstub::common::Signal;
use gdbstub::stub::MultiThreadStopReason;

use crate::stop::StopReason;

/// Why a vCPU has stopped, as gdb is told.
pub type Reason = MultiThreadStopReason<u64>;

/// How the machine has ended, as gdb is told.
pub type Ended = Reason;

/// What gdb is told where a vCPU can no longer run.
pub const CRASH: Signal = Signal::SIGSEGV;

/// What a vCPU has met where it is it meets again. But an access has been made; and a vCPU that can
/// no longer run ends the machine when it is resumed.
#[must_use]
pub fn comes_again(reason: &Reason) -> bool {
    !matches!(
        reason,
        Reason::Watch { .. } | Reason::SignalWithThread { signal: CRASH, .. }
    )
}

/// How gdb is told that a machine has ended: with the exit status or signal of this process, as far
/// as the machine says.
#[must_use]
pub fn ended(reason: &StopReason) -> Ended {
    match reason {
        StopReason::Exited(value) => Ended::Exited(u8::try_from(*value).unwrap_or(u8::MAX)),
        StopReason::Reset | StopReason::Quit => Ended::Exited(0),
        StopReason::Signal(number @ (libc::SIGHUP | libc::SIGINT | libc::SIGQUIT)) => {
            Ended::Terminated(Signal(*number as u8))
        }
        StopReason::Signal(_) => Ended::Terminated(Signal::SIGTERM),
        StopReason::Crashed(_) => Ended::Terminated(CRASH),
        StopReason::Failed(_) | StopReason::Panicked => Ended::Terminated(Signal::SIGABRT),
    }
}

#[cfg(test)]
#[path = "reason_tests.rs"]
mod tests;
