//! What `run=bench` asks of a machine: the port by which it is told what to do, a clock, and the
//! operations that need the bare machine. What is done with the figures is not its matter.

use spec::bench::Kind;

use super::Latencies;

/// A clock, in ticks of the TSC.
pub type Clock = fn() -> u64;

/// A machine that can be measured.
pub trait Probes {
    /// Tells the VMM at which guest-physical address the page for commands is.
    fn announce(&mut self, page: u64);

    /// Asks the VMM for a command: what CONTROL_PORT reads, once it does. Interrupts are held off
    /// from then on until what is commanded lets them in, as those that it is about may follow at
    /// once.
    fn ask(&mut self) -> u32;

    /// The clock.
    fn clock(&self) -> Clock;

    /// Does `kind`, which is no block I/O, `iterations` times. Where the kind has latencies,
    /// as many go to `latencies`.
    ///
    /// # Errors
    /// [`Unsupported`] where the machine cannot do it; then nothing has been measured.
    fn perform(
        &mut self,
        kind: Kind,
        iterations: u64,
        latencies: &mut Latencies<'_>,
    ) -> Result<Performed, Unsupported>;
}

/// How long it took, as [`spec::bench::Outcome`] has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Performed {
    /// Ticks from the first to the last, the loop included.
    pub ticks: u64,
    /// How many interrupts have been handled.
    pub interrupts: u64,
}

/// Why a machine cannot do something, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported(pub &'static str);
