//! What the guest's `run=journal` writes, and what it says of it: enough for whoever has the disk and
//! the console to know which content each sector may have. Numbers and layouts only.
//!
//! Write number n, from 1 on, fills a slot of adjacent sectors; which one follows from the seed alone
//! ([`Slots`]). With `clears=on` some of them make the slot zeros instead, or discard it ([`Change`]).
//! There is at most one write to a slot in flight. After every `flush_every` writes follows a FLUSH,
//! submitted while others are in flight, but not before the one before it has completed. When a FLUSH
//! has completed the guest prints a line, [`FLUSHED`] and a number: all writes up to that one had
//! completed when the FLUSH was submitted. With `flush=off`, on a disk in write-through mode, there is
//! no FLUSH, and the line is printed in its place: all writes up to that one have completed.

use crate::block::SECTOR_SIZE;
use crate::rng::Rng;

/// What the line on a completed FLUSH begins with. A character takes an exit, so there are few.
pub const FLUSHED: &str = "f ";

/// The slots of the writes of a run, in their order, for ever.
#[derive(Clone, Debug)]
pub struct Slots {
    rng: Rng,
    count: u64,
}

impl Slots {
    /// Those of the run with `seed` on `count` slots, which must not be 0.
    #[must_use]
    pub const fn new(seed: u64, count: u64) -> Self {
        let rng = Rng::new(seed);
        Self { rng, count }
    }
}

impl Iterator for Slots {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        Some(self.rng.next() % self.count)
    }
}

/// What one write does to its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Puts a [`Stamp`] into each sector.
    Write,
    /// Makes it zeros.
    WriteZeroes {
        /// Whether it may be deallocated.
        unmap: bool,
    },
    /// Gives it up: it is zeros from then on, or what it was.
    Discard,
}

impl Change {
    /// That of the write `sequence` of a run with these `clears`.
    #[must_use]
    pub const fn of(sequence: u64, clears: bool) -> Self {
        match sequence % 8 {
            3 if clears => Self::WriteZeroes { unmap: false },
            5 if clears => Self::WriteZeroes { unmap: true },
            7 if clears => Self::Discard,
            _ => Self::Write,
        }
    }
}

/// What one write puts into one sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The number of the write.
    pub sequence: u64,
    /// The sector.
    pub lba: u64,
    /// The seed of the run.
    pub seed: u64,
}

impl Stamp {
    /// The content of the sector: the stamp, and up to its end a word that depends on all of it, so
    /// that a mixture of two sectors is neither.
    #[must_use]
    pub fn sector(&self) -> [u8; SECTOR_SIZE as usize] {
        let mix = |a: u64, b: u64| Rng::new(a ^ b).state();
        let check = mix(mix(self.seed, self.sequence.rotate_left(32)), self.lba);
        let mut sector = [0; SECTOR_SIZE as usize];
        let (words, _) = sector.as_chunks_mut();
        words.fill(check.to_le_bytes());
        for (word, value) in words.iter_mut().zip([self.sequence, self.lba, self.seed]) {
            *word = value.to_le_bytes();
        }
        sector
    }

    /// The stamp that a sector begins with, whatever follows.
    #[must_use]
    pub fn of(sector: &[u8; SECTOR_SIZE as usize]) -> Self {
        let (words, _) = sector.as_chunks();
        let word = |index: usize| u64::from_le_bytes(words[index]);
        Self {
            sequence: word(0),
            lba: word(1),
            seed: word(2),
        }
    }
}
