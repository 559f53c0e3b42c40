//! An image file that is read and written past the host's cache, by O_DIRECT: whether its file system
//! does that, and in which unit. How a request is made of units is not decided here.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::path::Path;

use spec::block::SECTOR_SIZE;
use vm_memory::VolatileSlice;

use super::BlockBackend;
use super::aligned::AlignedBackend;
use super::file::{FileBackend, FileBackendError};

/// The unit where the file system does not say: that of any disk, and of a page.
const UNIT_UNTOLD: u32 = 4096;

impl FileBackend {
    /// Opens the image at `path` for direct I/O. What a flush promises is the same: the disk below
    /// may have a cache of its own, and the file system what describes the file.
    ///
    /// # Errors
    /// It cannot be [opened](Self::open), its file system has no direct I/O, or it does not end with
    /// a whole unit of that.
    pub fn open_direct(
        path: &Path,
        read_only: bool,
    ) -> Result<AlignedBackend<Self>, FileBackendError> {
        let disk = Self::open(path, read_only)?;
        pass_cache_by(disk).map_err(|source| FileBackendError::Direct {
            path: path.into(),
            source,
        })
    }
}

fn pass_cache_by(disk: FileBackend) -> io::Result<AlignedBackend<FileBackend>> {
    let file = disk.file().ok_or_else(no_direct_io)?;
    set_direct(file)?;
    let unit = unit(file)?;
    let disk = AlignedBackend::new(disk, unit)?;
    // There are file systems that take the flag, and no request.
    let mut sector = [0; SECTOR_SIZE as usize];
    disk.read_at(&[VolatileSlice::from(&mut sector[..])], 0)
        .map_err(|error| error.source)?;
    Ok(disk)
}

/// Has all further I/O on `file` pass the cache by.
fn set_direct(file: &File) -> io::Result<()> {
    // SAFETY: a system call on an open file, without pointers.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags | libc::O_DIRECT) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EINVAL) => Err(no_direct_io()),
            error => Err(error),
        },
    }
}

/// The unit of direct I/O on `file`, in bytes: what a position, a length and an address in memory must
/// be multiples of.
fn unit(file: &File) -> io::Result<u32> {
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the file is open, the path is a string that ends with NUL, and the last argument is
    // where a `statx` fits, which the kernel fills and keeps no pointer to.
    let result = unsafe {
        libc::statx(
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_DIOALIGN,
            found.as_mut_ptr(),
        )
    };
    // SAFETY: it is made of integers, for which zeros are a value, whether the kernel filled it or not.
    let found = unsafe { found.assume_init() };
    if result != 0 || found.stx_mask & libc::STATX_DIOALIGN == 0 {
        return Ok(UNIT_UNTOLD);
    }
    match found.stx_dio_offset_align.max(found.stx_dio_mem_align) {
        0 => Err(no_direct_io()),
        unit => Ok(unit.max(SECTOR_SIZE as u32)),
    }
}

fn no_direct_io() -> io::Error {
    let message = "its file system has no direct I/O (O_DIRECT) for it";
    io::Error::new(io::ErrorKind::Unsupported, message)
}

#[cfg(test)]
#[path = "direct_tests.rs"]
mod tests;
