//! Numbers that look random and are the same on every run: what `verify` writes, so that it can
//! know what it ought to read.

use spec::block::SECTOR_SIZE;

/// An xorshift generator: a few integer instructions a number.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator of the sequence that belongs to `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        // Spread the seed over all bits (the finalizer of SplitMix64), as xorshift would show
        // small seeds for a while; and it cannot leave 0.
        let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        Self(if x == 0 { 1 } else { x })
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Fills `sectors` with what belongs to `seed` at the sectors from `lba` on. It depends on both,
/// so that data of another seed, or in another place, is noticed.
pub fn pattern(seed: u64, lba: u64, sectors: &mut [u8]) {
    for (sector, lba) in sectors.chunks_mut(SECTOR_SIZE as usize).zip(lba..) {
        let mut rng = Rng::new(Rng::new(seed).0 ^ lba);
        let (words, rest) = sector.as_chunks_mut();
        for word in words {
            *word = rng.next().to_le_bytes();
        }
        rest.copy_from_slice(&rng.next().to_le_bytes()[..rest.len()]);
    }
}

#[cfg(test)]
#[path = "rng_tests.rs"]
mod tests;
