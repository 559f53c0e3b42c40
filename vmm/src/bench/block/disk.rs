//! The file that is read and written: a scratch file that has no name, so that nothing is left of
//! it however the process ends; or the user's, which is opened for writing only to be written.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use devices::virtio::block::BlockBackend;
use devices::virtio::block::backend::{FileBackend, FileBackendError};
use spec::block::SECTOR_SIZE;
use spec::rng::Rng;
use thiserror::Error;

use super::plan::Plan;
use crate::config::{DiskConfig, Notify};

/// How much is written to a scratch file at once, in bytes.
const PIECE: usize = 1 << 20;

/// Why there is no disk to measure.
#[derive(Debug, Error)]
pub enum DiskError {
    /// There is no room for a scratch file.
    #[error("cannot make a scratch file of {size} bytes in {}: {source}", dir.display())]
    Scratch {
        /// Its size, in bytes.
        size: u64,
        /// Where it was to be.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is no disk image, or in use.
    #[error("--disk: {0}")]
    Image(#[from] FileBackendError),
    /// The file cannot be opened besides.
    #[error("--disk: cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Less is in the file than is to be used.
    #[error("--disk: {} has {has} bytes, and {wanted} are to be used", path.display())]
    TooSmall {
        /// The file.
        path: PathBuf,
        /// Its size, in bytes.
        has: u64,
        /// What is to be used of it, in bytes.
        wanted: u64,
    },
}

/// The file.
#[derive(Debug)]
pub struct Disk {
    file: File,
    path: PathBuf,
    writes: bool,
    /// What a person calls it.
    pub name: String,
    /// How many sectors are used, from its start.
    pub sectors: u64,
}

impl Disk {
    /// The disk of `plan`. A scratch file is full of data, and all of it in the page cache.
    ///
    /// # Errors
    /// See [`DiskError`].
    pub fn open(plan: &Plan) -> Result<Self, DiskError> {
        match (&plan.disk, plan.size) {
            (Some(path), size) => Self::named(path, size, plan),
            (None, size) => Self::scratch(size.unwrap_or_default(), plan.rw.writes()),
        }
    }

    fn scratch(size: u64, writes: bool) -> Result<Self, DiskError> {
        let dir = std::env::temp_dir();
        let file = tempfile::tempfile_in(&dir)
            .and_then(|mut file| {
                check_room(&file, size)?;
                fill(&mut file, size)?;
                Ok(file)
            })
            .map_err(|source| DiskError::Scratch {
                size,
                dir: dir.clone(),
                source,
            })?;
        Ok(Self {
            path: format!("/proc/self/fd/{}", file.as_raw_fd()).into(),
            file,
            writes,
            name: format!("scratch file in {}", dir.display()),
            sectors: size / SECTOR_SIZE,
        })
    }

    fn named(path: &Path, size: Option<u64>, plan: &Plan) -> Result<Self, DiskError> {
        let writes = plan.rw.writes();
        // Whether it is a disk, the backend of a machine knows best.
        let capacity = FileBackend::open(path, !writes)?.capacity();
        let has = capacity.saturating_mul(SECTOR_SIZE);
        let block_sizes = plan.cells.iter().map(|cell| cell.io.block_size);
        let wanted = size.or(block_sizes.max()).unwrap_or_default();
        if wanted > has {
            let path = path.into();
            return Err(DiskError::TooSmall { path, has, wanted });
        }
        let file = File::options().read(true).write(writes).open(path);
        Ok(Self {
            file: file.map_err(|source| DiskError::Open {
                path: path.into(),
                source,
            })?,
            path: path.into(),
            writes,
            name: path.display().to_string(),
            sectors: size.map_or(capacity, |size| size / SECTOR_SIZE),
        })
    }

    /// The disk of a machine that is notified by `notify`.
    #[must_use]
    pub fn config(&self, notify: Notify) -> DiskConfig {
        DiskConfig {
            readonly: !self.writes,
            notify,
            ..DiskConfig::new(self.path.clone(), "bench")
        }
    }

    /// The file once more, to be used for as long as the machines are.
    ///
    /// # Errors
    /// There can be no other file descriptor.
    pub fn file(&self) -> Result<File, DiskError> {
        self.file.try_clone().map_err(|source| DiskError::Open {
            path: self.path.clone(),
            source,
        })
    }

    /// The file itself, to be used without a machine as one would use it: nobody else has it
    /// meanwhile who could not share it with the machine.
    ///
    /// # Errors
    /// Somebody has it.
    pub fn with_file<T>(&self, use_it: impl FnOnce(&File) -> T) -> Result<T, DiskError> {
        let _lock = FileBackend::open(&self.path, !self.writes)?;
        Ok(use_it(&self.file))
    }
}

/// Whether there is room for `size` bytes in `file`, before others find that there is none left.
fn check_room(file: &File, size: u64) -> io::Result<()> {
    let room = rustix::fs::fstatvfs(file)?;
    // A file system without blocks has no limit that it knows of.
    if room.f_blocks > 0 && room.f_bavail.saturating_mul(room.f_frsize) < size {
        return Err(io::Error::from_raw_os_error(libc::ENOSPC));
    }
    Ok(())
}

/// Writes `size` bytes that no file system can leave out, and waits until they are on the disk: what
/// is measured afterwards is not to share the disk with them.
fn fill(file: &mut File, size: u64) -> io::Result<()> {
    let mut rng = Rng::new(size);
    let mut piece = vec![0; PIECE];
    let mut left = size;
    while left > 0 {
        rng.fill(&mut piece);
        let len = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        file.write_all(piece.get(..len).unwrap_or_default())?;
        left -= len as u64;
    }
    file.sync_data()
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
