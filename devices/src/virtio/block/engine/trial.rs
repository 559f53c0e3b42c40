//! Whether a disk answers at once, as one does whose data the host has in its memory, or is waited
//! for. That is found out by reading; what follows from it is not decided here.

use std::io;
use std::time::{Duration, Instant};

use spec::block::SECTOR_SIZE;
use vm_memory::VolatileSlice;

use crate::virtio::block::backend::BlockBackend;

/// How many reads are made at most: a power of two.
const READS: u64 = 32;
/// How many bytes each reads.
const LEN: usize = 4096;
/// Once it has taken so long there is no other read.
const TIME: Duration = Duration::from_millis(1);
/// A read from memory of the host takes no longer, even on a busy machine; one from a disk takes
/// longer, even from the fastest.
const PROMPT: Duration = Duration::from_micros(10);

/// What has come of reading a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// How many reads there were, of 4 KiB each, all over the disk.
    pub reads: usize,
    /// How long a read took: half of them took no longer.
    pub median: Duration,
}

impl Trial {
    /// Reads `disk` here and there for about a millisecond, or for as long as one read takes.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn new(disk: &dyn BlockBackend) -> io::Result<Self> {
        let size = disk.size()?;
        let mut buffer = [0; LEN];
        let len = LEN.min(usize::try_from(size).unwrap_or(LEN));
        let slice = VolatileSlice::from(buffer.get_mut(..len).unwrap_or_default());
        let span = size.saturating_sub(len as u64) / SECTOR_SIZE;
        let mut times = Vec::new();
        let start = Instant::now();
        let mut last = start;
        for index in 0..READS {
            let sector = u128::from(span) * u128::from(spread(index)) / u128::from(READS);
            let position = (sector as u64).saturating_mul(SECTOR_SIZE);
            disk.read_at(&[slice], position)
                .map_err(|error| error.source)?;
            let now = Instant::now();
            times.push(now - last);
            last = now;
            if now - start >= TIME {
                break;
            }
        }
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied();
        Ok(Self {
            reads: times.len(),
            median: median.unwrap_or_default(),
        })
    }

    /// Whether the disk answers at once.
    #[must_use]
    pub fn is_prompt(&self) -> bool {
        self.median <= PROMPT
    }
}

/// The `index`-th of all numbers below [`READS`], each far from those before: its bits in reverse.
fn spread(index: u64) -> u64 {
    index.reverse_bits() >> (READS.leading_zeros() + 1)
}

#[cfg(test)]
#[path = "trial_tests.rs"]
mod tests;
