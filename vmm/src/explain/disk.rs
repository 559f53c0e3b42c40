//! The disk of a story for which the user gives none: in memory alone, with a text in each sector
//! that says which one it is.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};
use spec::block::SECTOR_SIZE;

/// Size of the disk, in sectors.
const SECTORS: u64 = 128;

/// A file in memory that is a disk. It is there for as long as this is.
#[derive(Debug)]
pub struct BuiltInDisk(File);

impl BuiltInDisk {
    /// The disk.
    ///
    /// # Errors
    /// Where the host has no memory for it.
    pub fn new() -> io::Result<Self> {
        let mut file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC)?);
        for number in 0..SECTORS {
            file.write_all(&sector(number))?;
        }
        Ok(Self(file))
    }

    /// A path by which this process can open it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// What the sector of this number holds: its sentence, as often as that fits.
fn sector(number: u64) -> Vec<u8> {
    let sentence = format!("This is sector {number} of the built-in disk. ");
    sentence
        .bytes()
        .cycle()
        .take(SECTOR_SIZE as usize)
        .collect()
}
