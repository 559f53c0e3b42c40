//! The output of `hexdump -C`, byte for byte, so that what the guest has read can be compared
//! with what the host has by nothing more than `diff`.

use core::fmt::{self, Write};

/// Bytes in a line.
const WIDTH: usize = 16;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A dump in progress. Feed it the bytes in order and finish it.
pub struct Hexdump {
    offset: u64,
    previous: Option<[u8; WIDTH]>,
    squeezing: bool,
}

impl Hexdump {
    /// A dump whose first byte has the offset `offset`.
    #[must_use]
    pub const fn new(offset: u64) -> Self {
        Self {
            offset,
            previous: None,
            squeezing: false,
        }
    }

    /// Dumps `bytes`. Lines are not carried over from one call to the next: the length must be a
    /// multiple of 16, as that of a sector is; what is over is left out.
    ///
    /// # Errors
    /// That of `out`.
    pub fn feed(&mut self, out: &mut dyn Write, bytes: &[u8]) -> fmt::Result {
        for line in bytes.as_chunks::<WIDTH>().0 {
            if self.previous.as_ref() != Some(line) {
                self.squeezing = false;
                self.line(out, line)?;
                self.previous = Some(*line);
            } else if !self.squeezing {
                self.squeezing = true;
                out.write_str("*\n")?;
            }
            self.offset = self.offset.wrapping_add(WIDTH as u64);
        }
        Ok(())
    }

    /// Ends the dump with the offset behind the last byte.
    ///
    /// # Errors
    /// That of `out`.
    pub fn finish(self, out: &mut dyn Write) -> fmt::Result {
        writeln!(out, "{:08x}", self.offset)
    }

    /// One line: the offset, two groups of eight bytes, the printable ones as characters. Put
    /// together by hand: on a software KVM, formatting sixteen bytes by `core::fmt` would cost
    /// more than reading them.
    fn line(&self, out: &mut dyn Write, bytes: &[u8; WIDTH]) -> fmt::Result {
        let mut text = *b"  .. .. .. .. .. .. .. ..  .. .. .. .. .. .. .. ..  |................|\n";
        let (hex, characters) = text.split_at_mut(HEX_WIDTH);
        let mut at = 2;
        for (i, &byte) in bytes.iter().enumerate() {
            if i == WIDTH / 2 {
                at += 1;
            }
            hex[at] = DIGITS[usize::from(byte >> 4)];
            hex[at + 1] = DIGITS[usize::from(byte & 15)];
            at += 3;
            if matches!(byte, b' '..=b'~') {
                characters[i] = byte;
            }
        }
        let text = core::str::from_utf8(&text).map_err(|_| fmt::Error)?;
        write!(out, "{:08x}{text}", self.offset)
    }
}

/// Bytes of a line between its offset and its first character.
const HEX_WIDTH: usize = 53;

#[cfg(test)]
#[path = "hexdump_tests.rs"]
mod tests;
