//! The buffers of a chain, and their descriptors (section 2.7.5). Which descriptors they get is the
//! queue's matter.

use spec::queue::{DESC_SIZE, DescFlags, Descriptor};

use crate::dma::Region;

/// One buffer of a chain.
#[derive(Clone, Copy, Debug)]
pub struct Buffer<'m> {
    /// Where it is.
    pub memory: Region<'m>,
    /// Whether the device writes to it; otherwise it reads from it.
    pub device_writable: bool,
}

impl<'m> Buffer<'m> {
    /// A buffer that the device reads from.
    #[must_use]
    pub const fn readable(memory: Region<'m>) -> Self {
        Self {
            memory,
            device_writable: false,
        }
    }

    /// A buffer that the device writes to.
    #[must_use]
    pub const fn writable(memory: Region<'m>) -> Self {
        Self {
            memory,
            device_writable: true,
        }
    }
}

/// The descriptor of `buffer`, with the index of the next one of its chain if there is one.
pub(crate) fn descriptor(buffer: &Buffer<'_>, next: Option<u16>) -> Descriptor {
    let mut flags = DescFlags::empty();
    flags.set(DescFlags::WRITE, buffer.device_writable);
    flags.set(DescFlags::NEXT, next.is_some());
    Descriptor {
        addr: buffer.memory.addr(),
        len: buffer.memory.len() as u32,
        flags,
        next: next.unwrap_or(0),
    }
}

/// Writes the descriptor `index` of a table.
pub(super) fn write_descriptor(table: Region<'_>, index: u16, descriptor: &Descriptor) {
    let offset = usize::from(index) * DESC_SIZE as usize;
    table.write(offset, &descriptor.to_bytes());
}
