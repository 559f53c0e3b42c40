//! A raw image, a regular file or a block device, as a disk: vectored I/O straight between it and guest
//! RAM, by position. Its content is never looked at to find out what it is.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use log::warn;
use spec::block::SECTOR_SIZE;
use vm_memory::VolatileSlice;
use vmm_sys_util::fallocate::FallocateMode;

use super::device::{self, Device};
use super::lock::{LockError, lock};
use super::regular::{Regular, clear};
use super::size::{SizeError, sectors};
use super::vectored::{SEGMENTS, VectoredCall, byte_count, vectored};
use super::{BlockBackend, Topology, TransferError};
use crate::locks;

/// Why a file cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum FileBackendError {
    /// The file cannot be opened.
    #[error("cannot open the disk image {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is neither a regular file nor a block device.
    #[error(
        "cannot use {path} as a disk image: it is {kind}, not a regular file or a block device"
    )]
    NotAFile {
        /// What was named.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// No disk has its size.
    #[error("cannot use {path} as a disk image: {source}")]
    Size {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SizeError,
    },
    /// It is a block device that cannot be written.
    #[error(
        "cannot write to {path}: the device is read-only, and so the disk has to be (readonly=on)"
    )]
    ReadOnly {
        /// The device.
        path: PathBuf,
    },
    /// The kernel itself, or another program, uses the block device and shares it with nobody.
    #[error(
        "cannot use {path} as a disk image: it is in use (mounted, a part of another device, or opened \
         with O_EXCL)"
    )]
    Claimed {
        /// The device.
        path: PathBuf,
    },
    /// It cannot be used as a qcow2 image.
    #[cfg(feature = "qcow2")]
    #[error("cannot use {path} as a qcow2 image: {source}")]
    Qcow2 {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<super::Qcow2Error>,
    },
    /// Someone else, or another disk of the same machine, uses the file in a way that excludes
    /// this one.
    #[error("cannot use {path} as a disk image: it is in use (locked by {by})")]
    InUse {
        /// The file.
        path: PathBuf,
        /// The call that the other lock was taken with.
        by: &'static str,
    },
    /// There is no direct I/O on the file.
    #[error("cannot use {path} as a disk image by direct I/O: {source}")]
    Direct {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file cannot be locked.
    #[error("cannot lock the disk image {path}: {source}")]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A disk in a regular file, or on a block device. While it exists the file is locked (flock and
/// fcntl): against everyone else where it can be written, against writers where it is read-only. A
/// device that can be written is claimed besides (O_EXCL), so that nothing of it is or gets mounted.
///
/// After a flush that has failed none succeeds: the host counts what it could not write as written
/// (Linux marks the pages of its cache clean), so that the next fdatasync would succeed without it,
/// and a flush promises that all that was written before is stable. Reads and writes go on.
///
/// Where someone cuts a regular file short, what reaches past its end fails. Before each change the
/// end is looked for, since a write could make the file longer again: Linux has no call that cannot.
/// Only a file that is cut in the very moment between those two calls can be.
#[derive(Debug)]
pub struct FileBackend {
    file: File,
    capacity: u64,
    medium: Medium,
    /// Held while a flush is under way.
    flush_failed: Mutex<bool>,
}

/// What keeps the bytes.
#[derive(Debug)]
enum Medium {
    File(Regular),
    Device(Device),
}

impl FileBackend {
    /// Opens the image at `path`.
    ///
    /// # Errors
    /// There is no such file, it is not one that can be a disk, or it is in use.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, FileBackendError> {
        let (file, metadata) = open_locked(path, read_only)?;
        let cannot_open = |source| FileBackendError::Open {
            path: path.into(),
            source,
        };
        let medium = if metadata.file_type().is_block_device() {
            Medium::Device(Device::of(&file, read_only).map_err(cannot_open)?)
        } else {
            Medium::File(Regular::of(path, &file, &metadata, read_only))
        };
        let size = end(&file).map_err(cannot_open)?;
        let capacity = sectors(size, SECTOR_SIZE as u32).map_err(|source| {
            let path = path.into();
            FileBackendError::Size { path, source }
        })?;
        Ok(Self {
            file,
            capacity,
            medium,
            flush_failed: Mutex::new(false),
        })
    }

    /// Sees that the `len` bytes from `position` on are in the file.
    fn require(&self, position: u64, len: u64) -> io::Result<()> {
        match position.checked_add(len) {
            Some(end) if end <= self.size()? => Ok(()),
            _ => Err(io::Error::other("the image is shorter than it was")),
        }
    }

    /// Repeats `call` until all of `slices` has been transferred; `ended` is what it means if no
    /// byte more can be.
    fn transfer(
        &self,
        call: VectoredCall,
        slices: &[VolatileSlice<'_>],
        position: u64,
        ended: io::ErrorKind,
    ) -> Result<(), TransferError> {
        let mut transferred = 0_u64;
        SEGMENTS.with_borrow_mut(|room| {
            loop {
                let segments = room.after(transferred, slices);
                if segments.is_empty() {
                    return Ok(());
                }
                let position = position.saturating_add(transferred);
                // SAFETY: these are segments of `slices`, which are borrowed until after the call.
                let failure = match unsafe { vectored(call, &self.file, segments, position) } {
                    Ok(0) => ended.into(),
                    Ok(count) => {
                        transferred = transferred.saturating_add(count);
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => error,
                };
                return Err(TransferError {
                    transferred,
                    source: failure,
                });
            }
        })
    }
}

impl BlockBackend for FileBackend {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn size(&self) -> io::Result<u64> {
        end(&self.file)
    }

    fn topology(&self) -> Topology {
        match &self.medium {
            Medium::File(regular) => Topology::of_blocks(regular.unit),
            Medium::Device(device) => device.topology,
        }
    }

    fn read_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        let ended = io::ErrorKind::UnexpectedEof;
        self.transfer(libc::preadv, slices, position, ended)
    }

    fn write_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.require(position, byte_count(slices) as u64)?;
        let ended = io::ErrorKind::WriteZero;
        self.transfer(libc::pwritev, slices, position, ended)
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file)
    }

    fn admits(
        &self,
        writes: bool,
        slices: &[VolatileSlice<'_>],
        position: u64,
    ) -> io::Result<bool> {
        if writes {
            self.require(position, byte_count(slices) as u64)?;
        }
        Ok(true)
    }

    fn flush(&self) -> io::Result<()> {
        // One after the other: the host tells of a failure once, to one of those that wait for it.
        let mut failed = locks::lock(&self.flush_failed);
        if *failed {
            return Err(io::Error::other("an earlier flush failed"));
        }
        self.file.sync_data().inspect_err(|error| {
            *failed = true;
            warn!(
                "block: a flush failed, and none will succeed until the image is opened anew: \
                 {error}"
            );
        })
    }

    fn discard_granularity(&self) -> Option<u32> {
        match &self.medium {
            Medium::File(regular) => regular.has_holes.then_some(regular.unit),
            Medium::Device(device) => device.discard_granularity,
        }
    }

    fn discard(&self, position: u64, len: u64) -> io::Result<()> {
        self.require(position, len)?;
        match &self.medium {
            Medium::File(_) => clear(&self.file, || FallocateMode::PunchHole, position, len),
            Medium::Device(device) => device.discard(&self.file, position, len),
        }
    }

    /// A hole, where there may be one; else blocks that stay allocated. The same call does it on a
    /// block device, by its own blocks alone.
    fn zero_unwritten(&self, position: u64, len: u64, unmap: bool) -> io::Result<()> {
        let mode = || match unmap {
            true => FallocateMode::PunchHole,
            false => FallocateMode::ZeroRange,
        };
        self.require(position, len)?;
        if let Medium::Device(device) = &self.medium
            && !device.is_whole_blocks(position, len)
        {
            return Err(io::ErrorKind::Unsupported.into());
        }
        match clear(&self.file, mode, position, len) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                Err(io::ErrorKind::Unsupported.into())
            }
            result => result,
        }
    }
}

/// Opens the regular file or block device at `path`, locks it, and claims it where it is a device that
/// can be written.
///
/// # Errors
/// There is no such file, it is neither, it cannot be written, or it is in use.
pub(super) fn open_locked(
    path: &Path,
    read_only: bool,
) -> Result<(File, Metadata), FileBackendError> {
    let cannot_open = |source| FileBackendError::Open {
        path: path.into(),
        source,
    };
    // Before it is opened, since merely opening a device can have effects.
    let file_type = fs::metadata(path).map_err(cannot_open)?.file_type();
    let claims = is_device(path, file_type)? && !read_only;
    let claim = if claims { libc::O_EXCL } else { 0 };
    let opened = OpenOptions::new()
        .read(true)
        .write(!read_only)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | claim)
        .open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) if claims => FileBackendError::Claimed { path: path.into() },
        _ => cannot_open(error),
    })?;
    lock(&file, read_only).map_err(|error| cannot_lock(path, error))?;
    // Again, since another file can have got the name.
    let metadata = file.metadata().map_err(cannot_open)?;
    if is_device(path, metadata.file_type())?
        && !read_only
        && device::is_read_only(&file).map_err(cannot_open)?
    {
        return Err(FileBackendError::ReadOnly { path: path.into() });
    }
    Ok((file, metadata))
}

/// Where `file` ends, in bytes.
fn end(mut file: &File) -> io::Result<u64> {
    // The cheapest call that tells. Nothing else has a use for the position.
    file.seek(SeekFrom::End(0))
}

/// Whether what is at `path` is a block device; else it is a regular file.
fn is_device(path: &Path, file_type: FileType) -> Result<bool, FileBackendError> {
    if file_type.is_file() || file_type.is_block_device() {
        return Ok(file_type.is_block_device());
    }
    Err(FileBackendError::NotAFile {
        path: path.into(),
        kind: kind(file_type),
    })
}

fn kind(file_type: FileType) -> &'static str {
    match file_type {
        t if t.is_dir() => "a directory",
        t if t.is_char_device() => "a character device",
        t if t.is_fifo() => "a FIFO",
        t if t.is_socket() => "a socket",
        _ => "something else",
    }
}

fn cannot_lock(path: &Path, error: LockError) -> FileBackendError {
    let path = path.into();
    match error {
        LockError::InUse(by) => FileBackendError::InUse { path, by },
        LockError::Failed(source) => FileBackendError::Lock { path, source },
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
pub(super) mod tests;
#[cfg(test)]
#[path = "file_transfer_tests.rs"]
mod transfer_tests;
