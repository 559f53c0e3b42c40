//! A raw image file as a disk: vectored I/O straight between the file and guest RAM, by position.
//! The file's content is never looked at to find out what it is.

use std::fs::{self, File, FileType, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use log::warn;
use spec::block::SECTOR_SIZE;
use vm_memory::VolatileSlice;
use vmm_sys_util::fallocate::{FallocateMode, fallocate};

use super::lock::{LockError, lock};
use super::vectored::{SEGMENTS, VectoredCall, vectored};
use super::{BlockBackend, TransferError};

/// The largest unit of a file system that is taken for that of a disk, in bytes. Those of the network
/// tell how much is best moved at once.
const UNIT_MAX: u32 = 64 << 10;

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
    /// It is not a regular file.
    #[error("cannot use {path} as a disk image: it is {kind}, not a regular file")]
    NotAFile {
        /// What was named.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// The file has no bytes.
    #[error("cannot use {path} as a disk image: it is empty")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file does not end with a whole sector.
    #[error(
        "cannot use {path} as a disk image: its size, {size} bytes, is not a multiple of {SECTOR_SIZE}"
    )]
    PartialSector {
        /// The file.
        path: PathBuf,
        /// Its size, in bytes.
        size: u64,
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

/// A disk in a regular file. While it exists the file is locked (flock and fcntl): against
/// everyone else where it can be written, against writers where it is read-only.
///
/// After a flush that has failed none succeeds: the host counts what it could not write as written
/// (Linux marks the pages of its cache clean), so that the next fdatasync would succeed without it,
/// and a flush promises that all that was written before is stable. Reads and writes go on.
///
/// Where someone cuts the file short, what reaches past its end fails. Before each change the end is
/// looked for, since a write could make the file longer again: Linux has no call that cannot. Only a
/// file that is cut in the very moment between those two calls can be.
#[derive(Debug)]
pub struct FileBackend {
    file: File,
    capacity: u64,
    /// The unit in which the file system allocates, in bytes.
    unit: u32,
    /// Whether it makes holes.
    has_holes: bool,
    /// Held while a flush is under way.
    flush_failed: Mutex<bool>,
}

impl FileBackend {
    /// Opens the image at `path`.
    ///
    /// # Errors
    /// There is no such file, it is not one that can be a disk, or it is in use.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, FileBackendError> {
        let (file, metadata) = open_locked(path, read_only)?;
        let size = metadata.len();
        if size == 0 {
            return Err(FileBackendError::Empty { path: path.into() });
        }
        if !size.is_multiple_of(SECTOR_SIZE) {
            let path = path.into();
            return Err(FileBackendError::PartialSector { path, size });
        }
        let has_holes = !read_only && can_punch_holes(path, &file, &metadata);
        Ok(Self {
            file,
            capacity: size / SECTOR_SIZE,
            unit: unit(&metadata),
            has_holes,
            flush_failed: Mutex::new(false),
        })
    }

    /// The image.
    pub(super) fn file(&self) -> &File {
        &self.file
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
        // The cheapest call that tells. Nothing else has a use for the position.
        (&self.file).seek(SeekFrom::End(0))
    }

    fn physical_block(&self) -> u32 {
        self.unit
    }

    fn read_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        let ended = io::ErrorKind::UnexpectedEof;
        self.transfer(libc::preadv, slices, position, ended)
    }

    fn write_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        let len = slices.iter().map(|slice| slice.len() as u64).sum();
        self.require(position, len)?;
        let ended = io::ErrorKind::WriteZero;
        self.transfer(libc::pwritev, slices, position, ended)
    }

    fn flush(&self) -> io::Result<()> {
        // One after the other: the host tells of a failure once, to one of those that wait for it.
        let mut failed = self
            .flush_failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
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
        self.has_holes.then_some(self.unit)
    }

    fn discard(&self, position: u64, len: u64) -> io::Result<()> {
        self.require(position, len)?;
        clear(&self.file, || FallocateMode::PunchHole, position, len)
    }

    /// A hole, where there may be one; else blocks that stay allocated.
    fn zero_unwritten(&self, position: u64, len: u64, unmap: bool) -> io::Result<()> {
        let mode = || match unmap {
            true => FallocateMode::PunchHole,
            false => FallocateMode::ZeroRange,
        };
        self.require(position, len)?;
        match clear(&self.file, mode, position, len) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                Err(io::ErrorKind::Unsupported.into())
            }
            result => result,
        }
    }
}

/// Opens the regular file at `path`, and locks it.
pub(super) fn open_locked(
    path: &Path,
    read_only: bool,
) -> Result<(File, Metadata), FileBackendError> {
    let cannot_open = |source| FileBackendError::Open {
        path: path.into(),
        source,
    };
    // Before it is opened, since merely opening a device can have effects.
    require_regular(path, &fs::metadata(path).map_err(cannot_open)?)?;
    let file = OpenOptions::new()
        .read(true)
        .write(!read_only)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(cannot_open)?;
    lock(&file, read_only).map_err(|error| cannot_lock(path, error))?;
    // Again, since another file can have got the name.
    let metadata = file.metadata().map_err(cannot_open)?;
    require_regular(path, &metadata)?;
    Ok((file, metadata))
}

/// Makes `len` bytes of the file from `position` on read as zeros, by a call to fallocate with
/// `mode` that leaves its size as it is.
fn clear(file: &File, mode: impl Fn() -> FallocateMode, position: u64, len: u64) -> io::Result<()> {
    // The call refuses to do nothing.
    if len == 0 {
        return Ok(());
    }
    loop {
        match fallocate(file, mode(), true, position, len) {
            Err(error) if error.errno() == libc::EINTR => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

/// Whether holes can be made in the `file` at `path`. That is tried out on a nameless file beside
/// it; where there can be none, past the end of the file itself, whose time of modification alone
/// changes by that.
fn can_punch_holes(path: &Path, file: &File, metadata: &Metadata) -> bool {
    let try_out = |file: &File, position| {
        let hole = clear(file, || FallocateMode::PunchHole, position, 1);
        hole.is_ok()
    };
    match nameless_beside(path) {
        Ok((nameless, device)) if device == metadata.dev() => try_out(&nameless, 0),
        _ => try_out(file, metadata.len()),
    }
}

/// A file without a name in the directory of the file at `path`, and the device that it is on.
fn nameless_beside(path: &Path) -> io::Result<(File, u64)> {
    let path = path.canonicalize()?;
    let directory = path.parent().ok_or(io::ErrorKind::NotFound)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o600)
        .open(directory)?;
    let device = file.metadata()?.dev();
    Ok((file, device))
}

/// The unit in which the file system of this file allocates, in bytes, if it is one that a disk can
/// have; else a sector.
fn unit(metadata: &Metadata) -> u32 {
    let sector = SECTOR_SIZE as u32;
    let unit = u32::try_from(metadata.blksize()).unwrap_or(sector);
    if unit.is_power_of_two() && (sector..=UNIT_MAX).contains(&unit) {
        unit
    } else {
        sector
    }
}

fn require_regular(path: &Path, metadata: &Metadata) -> Result<(), FileBackendError> {
    let file_type = metadata.file_type();
    if file_type.is_file() {
        return Ok(());
    }
    Err(FileBackendError::NotAFile {
        path: path.into(),
        kind: kind(file_type),
    })
}

fn kind(file_type: FileType) -> &'static str {
    match file_type {
        t if t.is_dir() => "a directory",
        t if t.is_block_device() => "a block device",
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
