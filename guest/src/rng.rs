//! Data that look random and are the same on every run: what `verify` writes, so that it can know
//! what it ought to read.

use spec::block::SECTOR_SIZE;
pub use spec::rng::Rng;

/// Fills `sectors` with what belongs to `seed` at the sectors from `lba` on. It depends on both,
/// so that data of another seed, or in another place, is noticed.
pub fn pattern(seed: u64, lba: u64, sectors: &mut [u8]) {
    for (sector, lba) in sectors.chunks_mut(SECTOR_SIZE as usize).zip(lba..) {
        Rng::new(Rng::new(seed).state() ^ lba).fill(sector);
    }
}

#[cfg(test)]
#[path = "rng_tests.rs"]
mod tests;
