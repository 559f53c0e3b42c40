//! Guest RAM as plain bytes.

use spec::queue::Descriptor;
use vm_memory::GuestMemoryMmap;

use crate::ram::{self, REGIONS};

/// The RAM of a guest.
#[derive(Clone, Debug)]
pub struct Ram {
    pub regions: [Vec<u8>; 3],
}

impl Ram {
    /// What is in `memory`.
    pub fn of(memory: &GuestMemoryMmap) -> Self {
        let regions = ram::contents(memory);
        Self { regions }
    }

    /// Whether all of the `len` bytes from `addr` are RAM.
    pub fn holds(addr: u64, len: u64) -> bool {
        let (mut addr, Some(end)) = (addr, addr.checked_add(len)) else {
            return false;
        };
        // Regions are in the order of their addresses.
        for (base, size) in REGIONS {
            if (base..base + size as u64).contains(&addr) {
                addr = end.min(base + size as u64);
            }
        }
        addr == end
    }

    /// Whether they are RAM of one region, and there is one at least.
    pub fn holds_in_one_region(addr: u64, len: u64) -> bool {
        let Some(last) = len.checked_sub(1).and_then(|rest| addr.checked_add(rest)) else {
            return false;
        };
        let mut regions = REGIONS.into_iter();
        regions.any(|(base, size)| {
            let region = base..base + size as u64;
            region.contains(&addr) && region.contains(&last)
        })
    }

    /// The bytes from `addr` to the end of its region, which there is.
    fn from(&mut self, addr: u64) -> &mut [u8] {
        let mut regions = REGIONS.into_iter().zip(&mut self.regions);
        let from = regions.find_map(|((base, size), bytes)| {
            let offset = addr
                .checked_sub(base)
                .filter(|offset| *offset < size as u64)?;
            Some(&mut bytes[offset as usize..])
        });
        from.unwrap()
    }

    /// The `len` bytes from `addr`, which are RAM.
    pub fn read(&mut self, addr: u64, len: u64) -> Vec<u8> {
        let mut read = Vec::new();
        while read.len() < len as usize {
            let rest = self.from(addr + read.len() as u64);
            let taken = rest.len().min(len as usize - read.len());
            read.extend_from_slice(&rest[..taken]);
        }
        read
    }

    /// Writes `bytes` at `addr`, where there is RAM.
    pub fn write(&mut self, mut addr: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let rest = self.from(addr);
            let (part, others) = bytes.split_at(rest.len().min(bytes.len()));
            rest[..part.len()].copy_from_slice(part);
            addr += part.len() as u64;
            bytes = others;
        }
    }

    /// The field of a ring at `addr`, which is RAM.
    pub fn field(&mut self, addr: u64) -> u16 {
        let bytes = self.read(addr, 2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    /// The descriptor at `addr`, which is RAM.
    pub fn descriptor(&mut self, addr: u64) -> Descriptor {
        Descriptor::from_bytes(self.read(addr, 16).try_into().unwrap())
    }
}
