//! Locks on an image file, against whoever else would use it at the same time. They are advisory:
//! they keep away only those who look for them, by flock, by fcntl or lockf, or as QEMU does.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::AsRawFd;

/// Why a file is not locked.
#[derive(Debug)]
pub(super) enum LockError {
    /// Someone else has a lock of this kind, which excludes this one.
    InUse(&'static str),
    /// The host cannot lock it.
    Failed(io::Error),
}

/// The bytes from `start` on; a `len` of 0 means all of them.
#[derive(Clone, Copy)]
struct Bytes {
    start: libc::off_t,
    len: libc::off_t,
}

const fn bytes(start: libc::off_t, len: libc::off_t) -> Bytes {
    Bytes { start, len }
}

/// All of the file, of whatever length.
const ALL: Bytes = bytes(0, 0);

// QEMU's users of an image agree by read locks on single bytes (its block/file-posix.c). One that
// does what permission `n` is for holds byte 100 + n; one that does not let others do so holds
// byte 200 + n. Each takes its own and then looks whether anyone holds the counterparts. The
// permissions are: 0 to read consistent data, 1 to write, 2 to write what is there already, 3 to
// change the size.

/// What a reader holds: it reads (100), and lets nobody write (201) or change the size (203). All
/// other bytes, but for those below, are for locks of the whole file.
const HELD_BY_READER: [Bytes; 4] = [bytes(0, 101), bytes(104, 96), bytes(201, 1), bytes(203, 0)];
/// What nobody holds while a reader reads: someone writes, changes the size, or lets nobody read.
const FREE_FOR_READER: [Bytes; 3] = [bytes(101, 1), bytes(103, 1), bytes(200, 1)];

/// Locks `file` until it is closed: against everyone else, or if it is `read_only` against
/// writers. A reader that has all the bytes locked by fcntl looks like a writer, as to QEMU.
///
/// # Errors
/// Someone else uses the file in a way that excludes this one, or it cannot be locked.
pub(super) fn lock(file: &File, read_only: bool) -> Result<(), LockError> {
    let locked = if read_only {
        file.try_lock_shared()
    } else {
        file.try_lock()
    };
    locked.map_err(|error| match error {
        TryLockError::WouldBlock => LockError::InUse("flock"),
        TryLockError::Error(source) => LockError::Failed(source),
    })?;
    if !read_only {
        return set(file, libc::F_WRLCK, ALL);
    }
    for held in HELD_BY_READER {
        set(file, libc::F_RDLCK, held)?;
    }
    for free in FREE_FOR_READER {
        require_free(file, free)?;
    }
    Ok(())
}

/// Takes a lock of `kind` on `range`, for this open file and not for the process: closing the
/// same file elsewhere does not give it up.
fn set(file: &File, kind: libc::c_int, range: Bytes) -> Result<(), LockError> {
    let mut request = request(kind, range);
    match control(file, libc::F_OFD_SETLK, &mut request) {
        Ok(()) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => Err(LockError::InUse("fcntl")),
            _ => Err(LockError::Failed(error)),
        },
    }
}

/// Looks whether anyone else has a lock on `range`, be it only for reading.
fn require_free(file: &File, range: Bytes) -> Result<(), LockError> {
    let mut request = request(libc::F_WRLCK, range);
    control(file, libc::F_OFD_GETLK, &mut request).map_err(LockError::Failed)?;
    if libc::c_int::from(request.l_type) == libc::F_UNLCK {
        Ok(())
    } else {
        Err(LockError::InUse("fcntl"))
    }
}

fn request(kind: libc::c_int, range: Bytes) -> libc::flock {
    libc::flock {
        // Both are small constants.
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: range.start,
        l_len: range.len,
        // The lock is that of an open file, and of no process.
        l_pid: 0,
    }
}

/// fcntl with `command`, one of F_OFD_SETLK and F_OFD_GETLK; neither waits.
fn control(file: &File, command: libc::c_int, request: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the file is open. Both commands take a pointer to a `flock`, which they read and
    // F_OFD_GETLK also writes; `request` is one, borrowed for as long as the call runs, and the
    // kernel keeps no pointer to it.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(request)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
