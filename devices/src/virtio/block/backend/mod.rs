//! Where the sectors of a disk are. A backend moves bytes between a position on the disk and host
//! memory; it knows nothing of virtio.

mod file;
mod lock;
mod memory;

use std::io;

use vm_memory::VolatileSlice;

pub use file::{FileBackend, FileBackendError};
pub use memory::MemoryBackend;

/// A disk. Positions are in bytes from its start; the caller keeps transfers within its capacity.
pub trait BlockBackend: Send {
    /// Size of the disk, in sectors of 512 bytes.
    fn capacity(&self) -> u64;

    /// Fills `slices`, one after the other, from `position`.
    ///
    /// # Errors
    /// The disk could not be read, or not all of it. The slices have been filled as far as the
    /// error says, and not been touched beyond.
    fn read_at(&mut self, slices: &[VolatileSlice<'_>], position: u64)
    -> Result<(), TransferError>;

    /// Writes `slices`, one after the other, from `position`.
    ///
    /// # Errors
    /// The disk could not be written, or not all of it.
    fn write_at(
        &mut self,
        slices: &[VolatileSlice<'_>],
        position: u64,
    ) -> Result<(), TransferError>;

    /// Returns when all that has been written is on stable storage.
    ///
    /// # Errors
    /// It could not be made so.
    fn flush(&mut self) -> io::Result<()>;
}

/// A transfer that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("after {transferred} bytes: {source}")]
pub struct TransferError {
    /// How many bytes have been transferred, from the first on.
    pub transferred: u64,
    /// Why no more.
    pub source: io::Error,
}

impl From<io::Error> for TransferError {
    /// An error before the first byte.
    fn from(source: io::Error) -> Self {
        Self {
            transferred: 0,
            source,
        }
    }
}
