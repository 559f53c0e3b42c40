//! Descriptors and chains of them, and a request that is made of one.

use spec::queue::{DescFlags, Descriptor};

use super::{DATA, HEADER, STATUS};

/// A read of one sector, in three descriptors.
pub fn read_chain() -> [Descriptor; 3] {
    [
        readable(HEADER, 16),
        writable(DATA, 512),
        writable(STATUS, 1),
    ]
}

pub fn readable(addr: u64, len: u32) -> Descriptor {
    Descriptor {
        addr,
        len,
        ..Default::default()
    }
}

pub fn writable(addr: u64, len: u32) -> Descriptor {
    Descriptor {
        flags: DescFlags::WRITE,
        ..readable(addr, len)
    }
}

/// A descriptor that refers to an indirect table.
pub fn indirect(addr: u64, len: u32) -> Descriptor {
    Descriptor {
        flags: DescFlags::INDIRECT,
        ..readable(addr, len)
    }
}

/// `descriptors` with NEXT from each to the one after it, when they are in a table from `first`.
pub fn linked(descriptors: &[Descriptor], first: u16) -> Vec<Descriptor> {
    let mut linked = descriptors.to_vec();
    let last = linked.len() - 1;
    for (next, descriptor) in (first + 1..).zip(&mut linked[..last]) {
        descriptor.flags |= DescFlags::NEXT;
        descriptor.next = next;
    }
    linked
}

/// The bytes of an indirect table with this chain.
pub fn table(descriptors: &[Descriptor]) -> Vec<u8> {
    let chain = linked(descriptors, 0);
    chain.into_iter().flat_map(Descriptor::to_bytes).collect()
}
