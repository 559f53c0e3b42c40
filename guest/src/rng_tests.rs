//! What `verify` relies on: that a sector's content tells its seed and its place.

use super::*;
use std::collections::HashSet;
use std::vec::Vec;

fn sectors(seed: u64, lba: u64, count: usize) -> Vec<u8> {
    let mut bytes = std::vec![0; count * 512];
    pattern(seed, lba, &mut bytes);
    bytes
}

#[test]
fn a_sector_is_the_same_however_it_is_reached() {
    let many = sectors(7, 100, 4);
    for i in 0..4 {
        assert_eq!(many[i * 512..][..512], sectors(7, 100 + i as u64, 1));
    }
}

#[test]
fn sectors_of_other_seeds_and_other_places_differ() {
    let mut seen = HashSet::new();
    for seed in 0..16 {
        for sector in sectors(seed, 0, 64).chunks(512) {
            assert!(seen.insert(sector.to_vec()));
        }
    }
}

#[test]
fn no_seed_leaves_the_generator_at_zero() {
    for seed in [0, 1, u64::MAX, 0x61c8_8646_80b5_83eb] {
        assert_ne!(Rng::new(seed).next(), 0);
    }
}

#[test]
fn the_sequence_never_changes() {
    // A disk that one version wrote can be checked by another.
    assert_eq!(
        &sectors(1, 0, 1)[..8],
        &[0x5c, 0x94, 0x12, 0x6e, 0x91, 0x69, 0x7e, 0xa2]
    );
}
