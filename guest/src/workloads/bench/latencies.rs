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

    /// Those of CPU number `cpu` of `cpus`, none so far: they have their share of the room.
    pub(super) fn share(&self, cpu: usize, cpus: usize) -> Self {
        let room = self.memory.len() / SIZE / cpus * SIZE;
        Self {
            memory: self.memory.part(cpu * room, room),
            count: 0,
        }
    }

    /// For how many there is room.
    pub(super) const fn room(&self) -> u64 {
        (self.memory.len() / SIZE) as u64
    }

    /// Adds the first `count` of what [`share`](Self::share) gave; those of the CPUs before have been
    /// added already.
    pub(super) fn gather(&mut self, share: &Self, count: u64) {
        let mut some = [0; 1024];
        let from = share.memory.part(0, count as usize * SIZE);
        let to = self.memory.part(self.count * SIZE, from.len());
        for offset in (0..from.len()).step_by(some.len()) {
            // Where they overlap, what is read is ahead of what is written.
            let some = &mut some[..(from.len() - offset).min(1024)];
            from.read(offset, some);
            to.write(offset, some);
        }
        self.count += count as usize;
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
