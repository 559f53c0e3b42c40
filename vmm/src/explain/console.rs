//! What the guest writes to its serial port: kept for whoever wants to know why it ended, and looked
//! through for the lines by which the built-in guest says what has become of its requests.

use spec::board::COM1_PORT;
use spec::explain::WOKEN;

use super::areas::Areas;
use super::story::Code;
use crate::observe::HandledExit;
use crate::stats::exits::ExitKind;

/// How many bytes are kept, from the first on.
const MAX: usize = 64 << 10;
/// How long a line is that is looked at, in bytes.
const LINE_MAX: usize = 256;
/// Offset of the line control register, and the bit in it that puts the divisor in the place of the
/// data.
const LINE_CONTROL: u64 = 3;
const DIVISOR_LATCH: u64 = 0x80;

/// The serial port's output so far.
#[derive(Debug, Default)]
pub struct Console {
    text: Vec<u8>,
    line: Vec<u8>,
    /// Where the guest was, and when, when it began the line.
    begun: Option<(u64, Code, Areas)>,
    divisor: bool,
}

/// What the guest says of a request that it waited for.
#[derive(Debug)]
pub struct Testimony {
    /// When it began to.
    pub at: u64,
    /// Where it was.
    pub code: Code,
    /// The queue at that moment.
    pub areas: Areas,
    /// `id` of the entry in the used ring.
    pub head: u32,
    /// `len` of the entry.
    pub written: u32,
    /// The status byte.
    pub status: u8,
}

impl Console {
    /// The byte that `exit` has written to the port, if it has.
    pub fn byte(&mut self, exit: &HandledExit<'_>) -> Option<u8> {
        let offset = exit.site.address?.checked_sub(COM1_PORT.into())?;
        if exit.site.kind != ExitKind::PioOut || exit.len != 1 {
            return None;
        }
        if offset == LINE_CONTROL {
            self.divisor = exit.value & DIVISOR_LATCH != 0;
        }
        (offset == 0 && !self.divisor).then_some(exit.value as u8)
    }

    /// Whether the next byte begins a line.
    #[must_use]
    pub fn is_at_line_start(&self) -> bool {
        self.line.is_empty()
    }

    /// A line begins, at this moment, where the guest is at `code` and the queue as `areas`.
    pub fn line_begins(&mut self, at: u64, code: Code, areas: Option<Areas>) {
        self.begun = areas.map(|areas| (at, code, areas));
    }

    /// The guest has written `byte`. Returns what it says of a request, once it has.
    pub fn push(&mut self, byte: u8) -> Option<Testimony> {
        if self.text.len() < MAX {
            self.text.push(byte);
        }
        if byte != b'\n' {
            if self.line.len() < LINE_MAX {
                self.line.push(byte);
            }
            return None;
        }
        let line = std::mem::take(&mut self.line);
        let (at, code, areas) = self.begun.take()?;
        let (head, written, status) = parse(&String::from_utf8_lossy(&line))?;
        Some(Testimony {
            at,
            code,
            areas,
            head,
            written,
            status,
        })
    }

    /// All of it, or the beginning of what is long.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// Head, written bytes and status in a line of `run=explain`.
fn parse(line: &str) -> Option<(u32, u32, u8)> {
    let words = line.strip_prefix(WOKEN)?;
    let value = |key: &str| {
        let mut pairs = words
            .split_ascii_whitespace()
            .filter_map(|word| word.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    Some((
        value("head")?.parse().ok()?,
        value("written")?.parse().ok()?,
        value("status")?.parse().ok()?,
    ))
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
