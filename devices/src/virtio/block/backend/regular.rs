//! A regular file as what a disk is on: what its file system tells of itself, and holes in it. How it is
//! read and written is not decided here.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use spec::block::SECTOR_SIZE;
use vmm_sys_util::fallocate::{FallocateMode, fallocate};

/// The largest unit of a file system that is taken for that of a disk, in bytes. Those of the network
/// tell how much is best moved at once.
const UNIT_MAX: u32 = 64 << 10;

/// What is known of a regular file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Regular {
    /// The unit in which the file system allocates, in bytes.
    pub unit: u32,
    /// Whether it makes holes.
    pub has_holes: bool,
}

impl Regular {
    /// What is known of `file`, which is at `path`, and is open to be written unless `read_only`.
    pub fn of(path: &Path, file: &File, metadata: &Metadata, read_only: bool) -> Self {
        Self {
            unit: unit(metadata),
            has_holes: !read_only && can_punch_holes(path, file, metadata),
        }
    }
}

/// Makes `len` bytes of the file from `position` on read as zeros, by a call to fallocate with
/// `mode` that leaves its size as it is.
pub(super) fn clear(
    file: &File,
    mode: impl Fn() -> FallocateMode,
    position: u64,
    len: u64,
) -> io::Result<()> {
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

#[cfg(test)]
#[path = "regular_tests.rs"]
mod tests;
