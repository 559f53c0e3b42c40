//! The input of targets that perform a sequence: records of eight bytes, so that a fuzzer can
//! insert, repeat and cut them, and so that seeds can be written by hand.

/// Size of a record, in bytes.
pub const SIZE: usize = 8;

/// A record: what to do, two small numbers to do it with, and a large one.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub code: u8,
    pub a: u8,
    pub b: u16,
    pub value: u32,
}

/// The whole records in `data`.
pub fn records(data: &[u8]) -> impl Iterator<Item = Record> {
    data.as_chunks::<SIZE>()
        .0
        .iter()
        .map(|&[code, a, b0, b1, v0, v1, v2, v3]| Record {
            code,
            a,
            b: u16::from_le_bytes([b0, b1]),
            value: u32::from_le_bytes([v0, v1, v2, v3]),
        })
}

impl Record {
    /// The low half of the large number.
    pub fn low(&self) -> u16 {
        self.value as u16
    }

    /// The high half of the large number.
    pub fn high(&self) -> u16 {
        (self.value >> 16) as u16
    }
}
