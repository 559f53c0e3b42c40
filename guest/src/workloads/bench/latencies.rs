//! Latencies, as the VMM finds them in RAM.

use spec::bench::LATENCIES_MAX;

use crate::dma::{Arena, OutOfMemory, Region};

/// Size of a latency, in bytes.
const SIZE: usize = size_of::<u32>();

/// Latencies of one command: little-endian numbers of four bytes, in ticks.
#[derive(Debug)]
pub struct Latencies<'m> {
    memory: Region<'m>,
    count: usize,
}

impl<'m> Latencies<'m> {
    /// Room for [`LATENCIES_MAX`] of them.
    ///
    /// # Errors
    /// Where `arena` has not so much memory.
    pub(super) fn new(arena: &mut Arena<'m>) -> Result<Self, OutOfMemory> {
        Ok(Self {
            memory: arena.alloc(LATENCIES_MAX as usize * SIZE, SIZE as u64)?,
            count: 0,
        })
    }

    /// Forgets those of the last command.
    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    /// Adds one; what does not fit into 32 bits counts as the most that does. No command has more
    /// than [`LATENCIES_MAX`].
    pub fn push(&mut self, ticks: u64) {
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        self.memory.write(self.count * SIZE, &ticks.to_le_bytes());
        self.count += 1;
    }

    /// Guest-physical address of the first.
    #[must_use]
    pub const fn addr(&self) -> u64 {
        self.memory.addr()
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count as u64
    }
}
