//! What the guest writes to its serial port: kept for whoever wants to know why it ended, and looked
//! through for the lines by which the built-in guest says what has become of its requests.

use std::collections::VecDeque;

use spec::board::COM1_PORT;
use spec::explain::WOKEN;

use crate::observe::HandledExit;
use crate::stats::exits::ExitKind;

/// How many bytes are kept, up to the last.
const MAX: usize = 16 << 10;
/// How long a line is that is looked at, in bytes.
const LINE_MAX: usize = 256;
/// Offset of the line control register, and the bit in it that puts the divisor in the place of the
/// data.
const LINE_CONTROL: u64 = 3;
const DIVISOR_LATCH: u64 = 0x80;

/// The serial port's output so far.
#[derive(Debug, Default)]
pub struct Console {
    text: VecDeque<u8>,
    line: Vec<u8>,
    divisor: bool,
}

/// What the guest says of a request that it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Testimony {
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

    /// The guest has written `byte`. Returns what it says of a request, once it has.
    pub fn push(&mut self, byte: u8) -> Option<Testimony> {
        self.text.push_back(byte);
        if self.text.len() > MAX {
            self.text.pop_front();
        }
        if byte != b'\n' {
            if self.line.len() < LINE_MAX {
                self.line.push(byte);
            }
            return None;
        }
        let line = std::mem::take(&mut self.line);
        parse(&String::from_utf8_lossy(&line))
    }

    /// The end of it, in whole lines, without any other control characters.
    #[must_use]
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.text.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let shown = |c: &char| *c == '\n' || !c.is_control();
        let mut text: String = text.chars().filter(shown).collect();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text
    }
}

/// What a line of `run=explain` says.
fn parse(line: &str) -> Option<Testimony> {
    let words = line.strip_prefix(WOKEN)?;
    let value = |key: &str| {
        let mut pairs = words
            .split_ascii_whitespace()
            .filter_map(|word| word.split_once('='));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    Some(Testimony {
        head: value("head")?.parse().ok()?,
        written: value("written")?.parse().ok()?,
        status: value("status")?.parse().ok()?,
    })
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
