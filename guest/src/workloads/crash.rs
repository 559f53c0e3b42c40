//! `run=crash how=exception|stack|panic|triple-fault`: ends the guest as a mistake would, to show,
//! and to test, what is seen of one.

use super::params::Parameters;
use super::{Crash, Environment, Failure};

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let choices = &["exception", "stack", "panic", "triple-fault"];
    let how = match parameters.choice("how", choices)? {
        "stack" => Crash::Stack,
        "panic" => Crash::Panic,
        "triple-fault" => Crash::TripleFault,
        _ => Crash::Exception,
    };
    environment.machine.crash(how)
}
