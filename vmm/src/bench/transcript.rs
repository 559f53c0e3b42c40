//! What a benchmark's guest writes to its console: kept, as far as it is the end of it, and shown
//! only where the guest fails.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use devices::locks::lock;

/// How much is kept, in bytes.
const ROOM: usize = 16 << 10;

/// The end of what the guest wrote. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Transcript(Arc<Mutex<VecDeque<u8>>>);

impl Transcript {
    /// What there is, in lines, without any other control characters.
    #[must_use]
    pub fn text(&self) -> String {
        let mut kept = lock(&self.0);
        let text = String::from_utf8_lossy(kept.make_contiguous());
        let shown = |c: &char| *c == '\n' || !c.is_control();
        text.chars().filter(shown).collect()
    }
}

impl Write for Transcript {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = lock(&self.0);
        kept.extend(bytes);
        let beyond = kept.len().saturating_sub(ROOM);
        kept.drain(..beyond);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_what_was_written_is_kept() {
        let mut transcript = Transcript::default();
        transcript.write_all(&vec![b'a'; ROOM]).unwrap();
        transcript.write_all(b"end\r\n").unwrap();
        let text = transcript.text();
        assert_eq!(text.len(), ROOM - 1, "but for the carriage return");
        assert!(text.ends_with("aend\n"));
    }
}
