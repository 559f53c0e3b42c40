//! Descriptor chains: the walk from a head through the descriptor table, and runs of bytes over
//! the buffers found. The walk trusts no index and no length; it knows no kind of device.

use std::io;

use spec::queue::{DESC_SIZE, DescFlags, Descriptor};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileMemory, VolatileSlice};

use super::ram::{self, is_ram};

/// Why a chain of descriptors is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The chain goes on at a descriptor that does not exist.
    #[error("descriptor {index} is beyond a table of {size}")]
    Index {
        /// Index of the missing descriptor.
        index: u16,
        /// How many descriptors the table has.
        size: u16,
    },
    /// There are more descriptors than the queue is long: a loop, or as good as one.
    #[error("the chain is longer than the queue")]
    TooLong,
    /// INDIRECT without VIRTIO_F_INDIRECT_DESC.
    #[error("INDIRECT has not been negotiated")]
    IndirectNotNegotiated,
    /// INDIRECT in an indirect table.
    #[error("an indirect table refers to another")]
    IndirectNested,
    /// INDIRECT and NEXT in one descriptor.
    #[error("INDIRECT and NEXT are both set")]
    IndirectWithNext,
    /// An indirect table of an impossible size.
    #[error("an indirect table of {0} bytes")]
    IndirectLength(u32),
    /// An indirect table, in part at least, where there is no RAM.
    #[error("the descriptors at {0:#x} are not in RAM")]
    OutsideRam(u64),
}

/// Why a buffer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BufferError {
    /// The buffer has no bytes.
    #[error("a buffer of length 0")]
    Empty,
    /// The buffer is, in part at least, where there is no RAM.
    #[error("the buffer of {len:#x} bytes at {addr:#x} is not in RAM")]
    OutsideRam {
        /// Guest-physical address of the buffer.
        addr: u64,
        /// Length of the buffer, in bytes.
        len: u32,
    },
}

/// A table of descriptors: that of the queue, or an indirect one.
#[derive(Clone, Copy, Debug)]
pub struct Table<'m>(VolatileSlice<'m>);

impl<'m> Table<'m> {
    /// The table in `bytes`, of which there are no more than 2^16 - 1 times the size of a
    /// descriptor.
    #[must_use]
    pub fn new(bytes: VolatileSlice<'m>) -> Self {
        Self(bytes)
    }

    /// How many descriptors the table has.
    fn size(&self) -> u16 {
        u16::try_from(self.0.len() / DESC_SIZE as usize).unwrap_or(u16::MAX)
    }

    fn get(&self, index: u16) -> Result<Descriptor, ChainError> {
        let offset = DESC_SIZE as usize * usize::from(index);
        // As one number, for it is read in the fewest pieces.
        match self.0.get_ref::<u128>(offset) {
            Ok(descriptor) => Ok(Descriptor::from_bytes(descriptor.load().to_ne_bytes())),
            Err(_) => Err(ChainError::Index {
                index,
                size: self.size(),
            }),
        }
    }

    /// The indirect table that `descriptor` refers to. A chain is never longer than the queue
    /// (section 2.7.5.3.1), so neither is a table.
    fn indirect(
        &self,
        memory: &'m GuestMemoryMmap,
        descriptor: &Descriptor,
    ) -> Result<Self, ChainError> {
        let Descriptor { addr, len, .. } = *descriptor;
        let bytes = usize::try_from(len).map_err(|_| ChainError::IndirectLength(len))?;
        if len == 0 || bytes > self.0.len() || !u64::from(len).is_multiple_of(DESC_SIZE) {
            return Err(ChainError::IndirectLength(len));
        }
        let slice = memory.get_slice(GuestAddress(addr), bytes);
        slice.map(Self).map_err(|_| ChainError::OutsideRam(addr))
    }
}

/// Walks the chain from `head` through `table`, and leaves its descriptors in `chain`, those of
/// an indirect table in the place of the one that refers to it. Each is read once. Only the shape
/// of the chain is looked at, not the buffers.
///
/// # Errors
/// The chain has no end that could be found, or is not a chain.
pub fn walk<'m>(
    memory: &'m GuestMemoryMmap,
    table: Table<'m>,
    head: u16,
    indirect: bool,
    chain: &mut Vec<Descriptor>,
) -> Result<(), ChainError> {
    chain.clear();
    let limit = usize::from(table.size());
    let (mut current, mut index, mut nested) = (table, head, false);
    loop {
        let descriptor = current.get(index)?;
        if descriptor.flags.contains(DescFlags::INDIRECT) {
            if !indirect {
                return Err(ChainError::IndirectNotNegotiated);
            }
            if nested {
                return Err(ChainError::IndirectNested);
            }
            if descriptor.flags.contains(DescFlags::NEXT) {
                return Err(ChainError::IndirectWithNext);
            }
            current = current.indirect(memory, &descriptor)?;
            (index, nested) = (0, true);
            continue;
        }
        if chain.len() == limit {
            return Err(ChainError::TooLong);
        }
        chain.push(descriptor);
        if !descriptor.flags.contains(DescFlags::NEXT) {
            return Ok(());
        }
        index = descriptor.next;
    }
}

/// A run of bytes over the buffers of consecutive descriptors, all of it in RAM. How the run is
/// cut into descriptors has no meaning (section 2.7.4.1).
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    descriptors: &'a [Descriptor],
    /// Bytes of `descriptors` that come before the run.
    skip: u64,
    len: u64,
}

impl<'a> Run<'a> {
    /// All the bytes of `descriptors`.
    ///
    /// # Errors
    /// A buffer is empty, or not in RAM from its first byte to its last.
    pub fn new(
        memory: &GuestMemoryMmap,
        descriptors: &'a [Descriptor],
    ) -> Result<Self, BufferError> {
        let mut total = 0_u64;
        for &Descriptor { addr, len, .. } in descriptors {
            if len == 0 {
                return Err(BufferError::Empty);
            }
            if !is_ram(memory, addr, u64::from(len)) {
                return Err(BufferError::OutsideRam { addr, len });
            }
            // At most 2^15 descriptors of less than 2^32 bytes.
            total = total.saturating_add(u64::from(len));
        }
        Ok(Self {
            descriptors,
            skip: 0,
            len: total,
        })
    }

    /// Length of the run, in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Of how many descriptors it is made, or little fewer.
    #[must_use]
    pub fn descriptor_count(&self) -> usize {
        self.descriptors.len()
    }

    /// Whether the run has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The first `at` bytes and the others; `None` if there are not as many.
    #[must_use]
    pub fn split_at(self, at: u64) -> Option<(Self, Self)> {
        let rest = self.len.checked_sub(at)?;
        let first = Self { len: at, ..self };
        let skip = self.skip.checked_add(at)?;
        let second = Self {
            skip,
            len: rest,
            ..self
        };
        Some((first, second))
    }

    /// The stretches of guest-physical memory that the run is made of: address and length.
    fn stretches(self) -> impl Iterator<Item = (GuestAddress, usize)> + 'a {
        let (mut skip, mut left) = (self.skip, self.len);
        self.descriptors.iter().filter_map(move |descriptor| {
            let before = skip.min(u64::from(descriptor.len));
            skip -= before;
            let len = left.min(u64::from(descriptor.len) - before);
            left -= len;
            let addr = GuestAddress(descriptor.addr.wrapping_add(before));
            (len > 0).then_some((addr, usize::try_from(len).unwrap_or(usize::MAX)))
        })
    }

    /// Appends to `slices` the host memory of the run; a stretch over two regions of RAM gives
    /// two slices.
    ///
    /// # Errors
    /// A part of the run is not in RAM.
    pub fn slices<'m>(
        self,
        memory: &'m GuestMemoryMmap,
        slices: &mut Vec<VolatileSlice<'m>>,
    ) -> io::Result<()> {
        for (addr, len) in self.stretches() {
            ram::slices(memory, addr, len, slices)?;
        }
        Ok(())
    }

    /// Copies the first bytes of the run to `to`, as many as there are and fit, and returns how
    /// many.
    ///
    /// # Errors
    /// A part of the run is not in RAM.
    pub fn read(self, memory: &GuestMemoryMmap, to: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        for (addr, len) in self.stretches() {
            let rest = to.get_mut(done..).unwrap_or_default();
            let len = len.min(rest.len());
            let part = rest.get_mut(..len).unwrap_or_default();
            ram::read(memory, addr, part)?;
            done += len;
        }
        Ok(done)
    }

    /// Copies the first bytes of `from` to the run, as many as there are and fit, and returns how
    /// many.
    ///
    /// # Errors
    /// A part of the run is not in RAM.
    pub fn write(self, memory: &GuestMemoryMmap, from: &[u8]) -> io::Result<usize> {
        let mut done = 0;
        for (addr, len) in self.stretches() {
            let rest = from.get(done..).unwrap_or_default();
            let part = rest.get(..len.min(rest.len())).unwrap_or_default();
            ram::write(memory, addr, part)?;
            done += part.len();
        }
        Ok(done)
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
