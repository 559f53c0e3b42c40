//! The dump against what `hexdump -C` (util-linux) printed for the same bytes.

use super::*;
use std::string::String;
use std::vec::Vec;

/// Four sectors: text and every byte value; zeros; the sector before, but for one byte; zeros.
fn sample() -> Vec<u8> {
    let mut bytes = b"Hello, sector 0!".to_vec();
    bytes.extend(0..=255u8);
    bytes.resize(1024, 0);
    bytes.resize(1536, 0);
    bytes[1111] = b'x';
    bytes.resize(2048, 0);
    bytes
}

fn dump(offset: u64, pieces: &[&[u8]]) -> String {
    let mut out = String::new();
    let mut dump = Hexdump::new(offset);
    for piece in pieces {
        dump.feed(&mut out, piece).unwrap();
    }
    dump.finish(&mut out).unwrap();
    out
}

#[test]
fn the_dump_is_what_hexdump_prints() {
    assert_eq!(
        dump(0, &[&sample()]),
        include_str!("hexdump_tests/whole.txt")
    );
}

#[test]
fn the_dump_of_a_part_is_what_hexdump_prints_for_it() {
    assert_eq!(
        dump(512, &[&sample()[512..1536]]),
        include_str!("hexdump_tests/part.txt")
    );
}

#[test]
fn offsets_beyond_four_gigabytes_have_more_digits() {
    assert_eq!(
        dump(0x1_2345_6000, &[&[0; 16]]),
        include_str!("hexdump_tests/far.txt")
    );
}

#[test]
fn how_the_bytes_are_fed_makes_no_difference() {
    let sample = sample();
    let pieces: Vec<&[u8]> = sample.chunks(512).collect();
    assert_eq!(dump(0, &pieces), dump(0, &[&sample]));
}
