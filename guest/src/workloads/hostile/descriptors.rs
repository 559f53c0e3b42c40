//! Descriptors by hand, and chains of them in an indirect table. Nothing is checked.

use spec::queue::{DESC_SIZE, DescFlags, Descriptor};

use crate::dma::Region;

/// Writes a chain of `descriptors` to an indirect table, each with NEXT to the one after it.
pub fn set_table(table: Region<'_>, descriptors: &[Descriptor]) {
    for (i, descriptor) in descriptors.iter().enumerate() {
        let more = i + 1 < descriptors.len();
        let descriptor = linked(*descriptor, more.then_some(i as u16 + 1));
        table.write(i * DESC_SIZE as usize, &descriptor.to_bytes());
    }
}

/// `descriptor` with this next one, if there is one.
pub fn linked(descriptor: Descriptor, next: Option<u16>) -> Descriptor {
    let mut descriptor = descriptor;
    if let Some(next) = next {
        descriptor.flags |= DescFlags::NEXT;
        descriptor.next = next;
    }
    descriptor
}

/// The descriptor of a buffer that the device reads from.
pub fn readable(memory: Region<'_>) -> Descriptor {
    descriptor(memory.addr(), memory.len() as u32, DescFlags::empty())
}

/// The descriptor of a buffer that the device writes to.
pub fn writable(memory: Region<'_>) -> Descriptor {
    descriptor(memory.addr(), memory.len() as u32, DescFlags::WRITE)
}

/// A descriptor that refers to an indirect table of `len` bytes.
pub const fn indirect(addr: u64, len: u32) -> Descriptor {
    descriptor(addr, len, DescFlags::INDIRECT)
}

/// A descriptor with no next one.
pub const fn descriptor(addr: u64, len: u32, flags: DescFlags) -> Descriptor {
    Descriptor {
        addr,
        len,
        flags,
        next: 0,
    }
}
