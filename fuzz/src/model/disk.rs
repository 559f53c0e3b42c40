//! The disk: what requests do to it and to RAM, and what they are answered.

use devices::virtio::block::backend::MemoryBackend;
use spec::Features;
use spec::block::{ID_SIZE, status};
use spec::queue::Descriptor;

use super::ram::Ram;
use super::request::{Expected, Extent, Geometry, Operation, expected, len};

/// As how many bytes a flush counts in the share of a drain.
const FLUSH_BYTES: u64 = 4 << 20;

/// A disk.
#[derive(Clone, Debug)]
pub struct Disk {
    pub bytes: Vec<u8>,
    pub id: [u8; ID_SIZE],
    pub read_only: bool,
    /// What the driver has accepted.
    pub features: Features,
    /// Whether the cache is in write-back mode.
    pub writeback: bool,
}

/// What has become of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer {
    /// How many device-writable bytes were written: what `used.len` must be.
    pub written: u32,
    /// How much of the share of a drain it took, in bytes.
    pub share: u64,
}

impl Disk {
    /// Does what `chain` asks for.
    pub fn answer(&mut self, ram: &mut Ram, chain: &[Descriptor]) -> Answer {
        let geometry = Geometry {
            capacity: self.bytes.len() as u64 / 512,
            read_only: self.read_only,
            discard: self.features.contains(Features::VIRTIO_BLK_F_DISCARD),
            write_zeroes: self.features.contains(Features::VIRTIO_BLK_F_WRITE_ZEROES),
        };
        let (answer, code, address) = match expected(ram, chain, geometry) {
            Expected::Done(operation, address) => {
                (self.execute(ram, operation), status::OK, address)
            }
            Expected::Refused(code, address) => (Answer::default(), code, address),
            Expected::NoStatus => return Answer::default(),
        };
        ram.write(address, &[code]);
        Answer {
            written: answer.written + 1,
            ..answer
        }
    }

    fn execute(&mut self, ram: &mut Ram, operation: Operation) -> Answer {
        match operation {
            Operation::In(position, data) => {
                let mut rest = &self.bytes[position as usize..];
                for &(addr, len) in &data {
                    let (part, others) = rest.split_at(len as usize);
                    ram.write(addr, part);
                    rest = others;
                }
                Answer {
                    written: len(&data) as u32,
                    share: len(&data),
                }
            }
            Operation::Out(position, data) => {
                let mut rest = &mut self.bytes[position as usize..];
                for &(addr, len) in &data {
                    let (part, others) = rest.split_at_mut(len as usize);
                    part.copy_from_slice(&ram.read(addr, len));
                    rest = others;
                }
                Answer {
                    written: 0,
                    share: len(&data) + self.flush_of_a_write(),
                }
            }
            Operation::Flush => Answer {
                written: 0,
                share: FLUSH_BYTES,
            },
            Operation::Discard(extents) => Answer {
                written: 0,
                share: self.fill(&extents, MemoryBackend::DISCARDED),
            },
            Operation::WriteZeroes(extents) => Answer {
                written: 0,
                share: self.fill(&extents, 0) + self.flush_of_a_write(),
            },
            Operation::GetId(data) => {
                let mut rest = &self.id[..];
                for &(addr, len) in &data {
                    let (part, others) = rest.split_at(rest.len().min(len as usize));
                    ram.write(addr, part);
                    rest = others;
                }
                Answer {
                    written: (ID_SIZE - rest.len()) as u32,
                    share: 0,
                }
            }
        }
    }

    /// What the flush that a write in write-through mode is takes of the share.
    fn flush_of_a_write(&self) -> u64 {
        let can_flush = Features::VIRTIO_BLK_F_FLUSH | Features::VIRTIO_BLK_F_CONFIG_WCE;
        if self.writeback && self.features.intersects(can_flush) {
            0
        } else {
            FLUSH_BYTES
        }
    }

    /// Fills `extents` with `byte`, and returns how many they are.
    fn fill(&mut self, extents: &[Extent], byte: u8) -> u64 {
        for &(position, len) in extents {
            self.bytes[position as usize..][..len as usize].fill(byte);
        }
        extents.iter().map(|&(_, len)| len).sum()
    }
}
