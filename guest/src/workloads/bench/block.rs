//! stub
use super::*;
pub(super) fn run<'e>(
    _: CommandLine<'e>,
    _: &mut dyn Machine,
    _: Arena<'_>,
    _: &Command,
    _: &mut Latencies<'_>,
) -> Result<Outcome, Failure<'e>> {
    Err(Failure::Unsupported("block I/O"))
}
