//! A disk in host memory, for tests: it can be looked at and changed from outside while a device
//! has it. It must not grow into a disk that anything is kept on.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use spec::block::SECTOR_SIZE;
use vm_memory::VolatileSlice;

use super::{BlockBackend, TransferError};
use crate::locks::lock;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct MemoryBackend {
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl MemoryBackend {
    /// What each byte is that has been discarded.
    pub const DISCARDED: u8 = 0xd5;

    /// A disk with this content. An odd tail after the last whole sector is not part of it.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        let bytes = Arc::new(Mutex::new(bytes));
        Self { bytes }
    }

    /// The content of the disk.
    pub fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        lock(&self.bytes)
    }

    /// Makes each of `len` bytes from `position` on a `byte`.
    fn fill(&self, position: u64, len: u64, byte: u8) -> io::Result<()> {
        let start = usize::try_from(position).unwrap_or(usize::MAX);
        let end = usize::try_from(position.saturating_add(len)).unwrap_or(usize::MAX);
        match self.bytes().get_mut(start..end) {
            Some(bytes) => bytes.fill(byte),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
        Ok(())
    }

    /// Calls `copy` for each slice with the part of the disk that is its counterpart.
    fn transfer(
        &self,
        slices: &[VolatileSlice<'_>],
        position: u64,
        copy: impl Fn(&VolatileSlice<'_>, &mut [u8]),
    ) -> Result<(), TransferError> {
        let mut bytes = self.bytes();
        let start = usize::try_from(position).unwrap_or(usize::MAX);
        let mut rest = bytes.get_mut(start..).unwrap_or_default();
        let mut transferred = 0;
        for slice in slices {
            let Some((part, others)) = rest.split_at_mut_checked(slice.len()) else {
                let source = io::ErrorKind::UnexpectedEof.into();
                return Err(TransferError {
                    transferred,
                    source,
                });
            };
            copy(slice, part);
            transferred = transferred.saturating_add(slice.len() as u64);
            rest = others;
        }
        Ok(())
    }
}

impl BlockBackend for MemoryBackend {
    fn capacity(&self) -> u64 {
        self.bytes().len() as u64 / SECTOR_SIZE
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.transfer(slices, position, |slice, part| slice.copy_from(part))
    }

    fn write_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.transfer(slices, position, |slice, part| {
            slice.copy_to(part);
        })
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard_granularity(&self) -> Option<u32> {
        Some(SECTOR_SIZE as u32)
    }

    /// What has been discarded reads as [`DISCARDED`](Self::DISCARDED): a driver must expect
    /// anything.
    fn discard(&self, position: u64, len: u64) -> io::Result<()> {
        self.fill(position, len, Self::DISCARDED)
    }

    fn write_zeroes(&self, position: u64, len: u64, _unmap: bool) -> io::Result<()> {
        self.fill(position, len, 0)
    }
}
