//! Where the sectors of a disk are. A backend moves bytes between a position on the disk and host
//! memory; it knows nothing of virtio.

mod aligned;
mod device;
mod direct;
mod file;
mod gate;
mod lock;
mod memory;
#[cfg(feature = "qcow2")]
mod qcow2;
mod regular;
mod size;
mod vectored;

use std::fs::File;
use std::io;

use spec::block::SECTOR_SIZE;
use vm_memory::VolatileSlice;

pub use aligned::AlignedBackend;
pub use file::{FileBackend, FileBackendError};
pub use gate::{Closed, Gate, Inside};
pub use memory::MemoryBackend;
#[cfg(feature = "qcow2")]
pub use qcow2::{FileEvent, Qcow2Backend, Qcow2Error, Recorder};
pub use size::SizeError;
pub(super) use size::sectors;
#[cfg(feature = "io-uring")]
pub(super) use vectored::Segments;

/// How many zeros are written at a time, where they are.
const ZEROS_PIECE: usize = 256 << 10;

/// How a disk is best read and written, in bytes (VIRTIO_BLK_F_TOPOLOGY).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    /// The unit that the disk itself reads and writes: a power of two, of 512 at least.
    pub physical_block: u32,
    /// Where the first such unit begins.
    pub alignment_offset: u32,
    /// The least that is best read or written at once.
    pub min_io: u32,
    /// How much is best read or written at once; 0 if that is all the same.
    pub opt_io: u32,
}

impl Topology {
    /// That of a disk of blocks of `physical_block` bytes, and nothing else to be told of.
    #[must_use]
    pub const fn of_blocks(physical_block: u32) -> Self {
        Self {
            physical_block,
            alignment_offset: 0,
            min_io: physical_block,
            opt_io: 0,
        }
    }
}

/// A disk, which several threads may use at once. Positions are in bytes from its start; the caller
/// keeps what it asks for within its capacity.
pub trait BlockBackend: Send + Sync {
    /// Size of the disk when it was opened, in sectors of 512 bytes.
    fn capacity(&self) -> u64;

    /// Size of the disk at this moment, in bytes: whoever else has it may have changed that.
    ///
    /// # Errors
    /// It cannot be found out.
    fn size(&self) -> io::Result<u64> {
        Ok(self.capacity().saturating_mul(SECTOR_SIZE))
    }

    /// How the disk is best read and written.
    fn topology(&self) -> Topology {
        Topology::of_blocks(SECTOR_SIZE as u32)
    }

    /// Below how many bytes neighbouring requests are faster as one call than one after the other. From
    /// this on a call costs little beside the bytes that it moves.
    fn merges_below(&self) -> u64 {
        64 << 10
    }

    /// Fills `slices`, one after the other, from `position`.
    ///
    /// # Errors
    /// The disk could not be read, or not all of it. The slices have been filled as far as the
    /// error says, and not been touched beyond.
    fn read_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError>;

    /// Writes `slices`, one after the other, from `position`.
    ///
    /// # Errors
    /// The disk could not be written, or not all of it.
    fn write_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError>;

    /// The file that holds all of the disk, each byte at its position, for one who has the host move
    /// bytes between it and memory without this backend; `None` where there is no such file.
    fn file(&self) -> Option<&File> {
        None
    }

    /// Whether `slices` may be moved between memory and the [file](Self::file), in place of
    /// [`read_at`](Self::read_at) or, where that `writes`, [`write_at`](Self::write_at).
    ///
    /// # Errors
    /// They may not be moved at all.
    fn admits(
        &self,
        writes: bool,
        slices: &[VolatileSlice<'_>],
        position: u64,
    ) -> io::Result<bool> {
        let _ = (writes, slices, position);
        Ok(false)
    }

    /// In which each write to the [file](Self::file) is from before it begins until it has ended;
    /// `None` where it need be in none. The backend's own are in it by themselves: nobody is to have
    /// one of those made, or waited for, who has not left.
    fn gate(&self) -> Option<&Gate> {
        None
    }

    /// Returns when all that has been written, by any thread before this was called, is on stable
    /// storage.
    ///
    /// # Errors
    /// It could not be made so.
    fn flush(&self) -> io::Result<()>;

    /// The unit in which [`discard`](Self::discard) gives storage back, in bytes; `None` where it
    /// gives none back.
    fn discard_granularity(&self) -> Option<u32> {
        None
    }

    /// Gives the storage of `len` bytes from `position` back, of whole units at least. What they
    /// read afterwards is the backend's to choose.
    ///
    /// # Errors
    /// The storage could not be given back, or not all of it.
    fn discard(&self, position: u64, len: u64) -> io::Result<()> {
        let _ = (position, len);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes `len` bytes from `position` zeros without writing them, and gives their storage back
    /// where it can and `unmap` allows it.
    ///
    /// # Errors
    /// [`Unsupported`](io::ErrorKind::Unsupported) if it can only write them; or the disk could not
    /// be changed, or not all of it.
    fn zero_unwritten(&self, position: u64, len: u64, unmap: bool) -> io::Result<()> {
        let _ = (position, len, unmap);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The same, by [writing](Self::write_at) them where there is nothing better.
    ///
    /// # Errors
    /// The disk could not be changed, or not all of it.
    fn write_zeroes(&self, position: u64, len: u64, unmap: bool) -> io::Result<()> {
        match self.zero_unwritten(position, len, unmap) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                write_zeros(self, position, len)
            }
            result => result,
        }
    }
}

/// Writes `len` zeros from `position` on, a piece at a time.
fn write_zeros(
    backend: &(impl BlockBackend + ?Sized),
    mut position: u64,
    mut len: u64,
) -> io::Result<()> {
    let mut zeros = vec![0; ZEROS_PIECE.min(usize::try_from(len).unwrap_or(ZEROS_PIECE))];
    while len > 0 {
        let piece = zeros.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        let slice = VolatileSlice::from(zeros.get_mut(..piece).unwrap_or_default());
        let result = backend.write_at(&[slice], position);
        result.map_err(|error| error.source)?;
        position = position.saturating_add(piece as u64);
        len = len.saturating_sub(piece as u64);
    }
    Ok(())
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
