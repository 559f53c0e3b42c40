//! The lines of TAP 14 that tell what became of a case. What they tell of is not their matter.

use core::fmt::{self, Write};

use super::case::{Case, Mode};
use super::seen::{Broken, Checks, Outcome};

/// What a line says of a case, whatever became of it.
pub struct Title {
    /// Its number, from 1 on.
    pub number: u32,
    /// The case.
    pub case: &'static Case,
    /// How it is run.
    pub mode: Mode,
}

impl fmt::Display for Title {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, case, mode } = self;
        write!(f, "{number} - {}, {mode}", case.name)
    }
}

impl Title {
    /// Prints the line, and after it what is to be known of a case that fails.
    ///
    /// # Errors
    /// That of `out`.
    pub fn print(&self, out: &mut dyn Write, outcome: &Outcome, checks: Checks) -> fmt::Result {
        let (required, Checks { count, last }) = (self.case.required, checks);
        let broken = match outcome {
            Ok(()) => {
                let s = if count == 1 { "" } else { "s" };
                return writeln!(
                    out,
                    "ok {self}: expected {required}; seen {last}, {count} check{s}"
                );
            }
            Err(broken) => broken,
        };
        write!(out, "not ok {self}: expected {required}; seen ")?;
        match broken {
            Broken::Driver(error) => writeln!(out, "that {error}\n  ---")?,
            Broken::Differs {
                what,
                of,
                expected,
                seen,
            } => {
                writeln!(out, "{seen}\n  ---")?;
                writeln!(
                    out,
                    "  what: \"{what}, {of:#x}\"\n  expected: \"{expected}\""
                )?;
                writeln!(out, "  seen: \"{seen}\"")?;
            }
        }
        writeln!(
            out,
            "  hazard: \"{}\"\n  check: {count}\n  ...",
            self.case.hazard
        )
    }
}
