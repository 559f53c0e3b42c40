//! A kernel image, as a file or built in: bytes at offsets, copied into guest RAM without a detour.
//! Knows nothing of what the bytes mean.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

/// A kernel image.
#[derive(Debug)]
pub enum Image<'a> {
    /// A regular file, and its length in bytes when it was opened.
    File(File, u64),
    /// Bytes in this process.
    Bytes(&'a [u8]),
}

impl Image<'_> {
    /// Opens the file `path`.
    ///
    /// # Errors
    /// Where it cannot be opened, or is not a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Asked before opening, for opening a pipe would wait for its writer.
        let kind = path.metadata()?.file_type();
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !kind.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self::File(file, len))
    }

    /// Length, in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::File(_, len) => *len,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Whether there is no byte in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the `len` bytes at `offset` are all there.
    #[must_use]
    pub fn holds(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len())
    }

    /// The `len` bytes at `offset`.
    ///
    /// # Errors
    /// Where they are not all there, or cannot be read.
    pub fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        if !self.holds(offset, len as u64) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match self {
            Self::File(file, _) => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, offset)?;
                Ok(bytes)
            }
            Self::Bytes(bytes) => Ok(slice(bytes, offset, len as u64)?.to_vec()),
        }
    }

    /// Copies the `len` bytes at `offset` to guest-physical `address`.
    ///
    /// # Errors
    /// Where they are not all there, cannot be read, or there is no RAM for them.
    pub fn copy_to(
        &self,
        offset: u64,
        len: u64,
        memory: &GuestMemoryMmap,
        address: u64,
    ) -> io::Result<()> {
        let address = GuestAddress(address);
        match self {
            Self::File(file, _) => {
                let mut file: &File = file;
                file.seek(SeekFrom::Start(offset))?;
                let len = usize::try_from(len).map_err(io::Error::other)?;
                memory.read_exact_volatile_from(address, &mut file, len)
            }
            Self::Bytes(bytes) => memory.write_slice(slice(bytes, offset, len)?, address),
        }
        .map_err(|error| match error {
            GuestMemoryError::IOError(error) => error,
            other => io::Error::other(other),
        })
    }
}

fn slice(bytes: &[u8], offset: u64, len: u64) -> io::Result<&[u8]> {
    let range = usize::try_from(offset).ok().zip(usize::try_from(len).ok());
    range
        .and_then(|(offset, len)| bytes.get(offset..)?.get(..len))
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
