//! Which content the sectors of a disk may have after the cases of `run=hostile` in which several CPUs
//! work together: what a request can rightly have written. It looks at bytes, and runs nothing.

use std::ops::Range;

/// The sectors that the requests of these cases may be for. The first are written with what is known
/// of them, those that follow are nobody's.
pub const WRITTEN: Range<usize> = 16..64;

/// A sector of one byte: what was there before; what requests 0 and 2 write, in which nobody else has
/// a hand; or, in the first, what is written when all is over.
pub fn is_whole(lba: usize, sector: &[u8]) -> bool {
    let old = 0x50 | (lba % 16) as u8;
    let last = lba == WRITTEN.start && sector[0] == 0x64;
    sector.iter().all(|byte| *byte == sector[0]) && (last || [old, 0x60, 0x62].contains(&sector[0]))
}

/// The same in any mixture, and with it the bytes of headers and status bytes, and those of memory
/// that is nobody's: whatever is at the addresses that descriptors are given.
pub fn is_known(_: usize, sector: &[u8]) -> bool {
    let known = |byte: &u8| matches!(byte, 0..0x20 | 0x50..=0x6f);
    sector.iter().all(known)
}
