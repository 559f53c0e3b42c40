//! What a case expects and what it sees, as values that are compared and printed. Nothing here asks
//! a device for anything.

use core::fmt;

use spec::block::status;

use super::yard::UNTOUCHED;
use crate::dma::OutOfMemory;
use crate::virtio::Error;

/// Something that a case sees, or expects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing was looked at.
    Nothing,
    /// A chain that came back.
    Answer {
        /// `len` of its entry in the used ring.
        len: u32,
        /// Its status byte.
        status: u8,
    },
    /// What a register reads, or another number.
    Value(u64),
    /// Something that is so, or is not, in words.
    Words(&'static str),
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Nothing => f.write_str("nothing"),
            Self::Answer { len, status } => {
                write!(f, "used.len {len}, ")?;
                match status {
                    status::OK => f.write_str("OK"),
                    status::IOERR => f.write_str("IOERR"),
                    status::UNSUPP => f.write_str("UNSUPP"),
                    UNTOUCHED => f.write_str("no status"),
                    other => write!(f, "status {other:#04x}"),
                }
            }
            Self::Value(value) => write!(f, "{value:#x}"),
            Self::Words(words) => f.write_str(words),
        }
    }
}

/// A chain that came back with nothing written.
pub const REFUSED: Seen = Seen::Answer {
    len: 0,
    status: UNTOUCHED,
};

/// A request that came back with this status alone.
const fn status(status: u8) -> Seen {
    Seen::Answer { len: 1, status }
}

/// A request that came back with OK, and no data.
pub const OK: Seen = status(status::OK);
/// One that came back with IOERR.
pub const IOERR: Seen = status(status::IOERR);
/// One that came back with UNSUPP.
pub const UNSUPP: Seen = status(status::UNSUPP);

/// A read that came back with `len` bytes of data.
pub const fn read_of(len: usize) -> Seen {
    Seen::Answer {
        len: len as u32 + 1,
        status: status::OK,
    }
}

/// Why a case fails.
#[derive(Clone, Copy, Debug)]
pub enum Broken {
    /// The device did not do what the driver waited for.
    Driver(Error),
    /// Something is not as it must be.
    Differs {
        /// What.
        what: &'static str,
        /// Which of those that were tried: a number that is its own.
        of: u64,
        /// What it must be.
        expected: Seen,
        /// What it is.
        seen: Seen,
    },
}

/// What becomes of a case.
pub type Outcome = Result<(), Broken>;

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Driver(error)
    }
}

impl From<OutOfMemory> for Broken {
    fn from(error: OutOfMemory) -> Self {
        Self::Driver(error.into())
    }
}

/// What a case has compared.
#[derive(Clone, Copy, Debug)]
pub struct Checks {
    /// How often.
    pub count: u32,
    /// What it saw last.
    pub last: Seen,
}

impl Checks {
    /// Nothing yet.
    pub const NONE: Self = Self {
        count: 0,
        last: Seen::Nothing,
    };

    /// Sees that `what`, of those that are tried the one named `of`, is as `expected`.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&mut self, what: &'static str, of: u64, seen: Seen, expected: Seen) -> Outcome {
        self.count += 1;
        self.last = seen;
        if seen == expected {
            return Ok(());
        }
        Err(Broken::Differs {
            what,
            of,
            expected,
            seen,
        })
    }
}
