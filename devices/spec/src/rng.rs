//! Numbers that look random and are the same on every run, for the host as for the guest.

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

    /// What the next number is made from: a number of its own for each seed. Never 0.
    #[must_use]
    pub const fn state(&self) -> u64 {
        self.0
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Fills `bytes` with the next numbers, of which the last may be used in part.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        let (words, rest) = bytes.as_chunks_mut();
        for word in words {
            *word = self.next().to_le_bytes();
        }
        let last = self.next().to_le_bytes();
        rest.copy_from_slice(&last[..rest.len()]);
    }
}
