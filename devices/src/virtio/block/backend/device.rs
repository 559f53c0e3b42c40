//! A block device of the host as what a disk is on: what it tells of itself, and the calls that a file
//! has others for. How it is read and written is not decided here.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use spec::block::SECTOR_SIZE;
use vmm_sys_util::ioctl_io_nr;

use super::Topology;

// linux/fs.h has these, and libc does not.
ioctl_io_nr!(BLKROGET, 0x12, 94);
ioctl_io_nr!(BLKDISCARD, 0x12, 119);
ioctl_io_nr!(BLKALIGNOFF, 0x12, 122);

/// A block device, as it was when it was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Device {
    /// Its logical block, in bytes: what is changed without the host's cache is whole ones. All else
    /// goes through the cache, which serves any sector.
    block: u32,
    pub topology: Topology,
    /// The unit in which it gives storage back, in bytes, if it does.
    pub discard_granularity: Option<u32>,
}

impl Device {
    /// The block device that is open as `file`, to be written unless `read_only`.
    ///
    /// # Errors
    /// It does not tell of itself.
    pub fn of(file: &File, read_only: bool) -> io::Result<Self> {
        let block = get(file, libc::BLKSSZGET)?;
        let physical_block = get(file, libc::BLKPBSZGET)?;
        let alignment_offset = Some(get(file, BLKALIGNOFF())?);
        let topology = Topology {
            physical_block: physical_block.max(SECTOR_SIZE as u32),
            // One that cannot be aligned at all says -1.
            alignment_offset: alignment_offset
                .filter(|offset| *offset < physical_block)
                .unwrap_or_default(),
            min_io: get(file, libc::BLKIOMIN)?,
            opt_io: get(file, libc::BLKIOOPT)?,
        };
        let granularity = match read_only {
            true => None,
            false => discard_granularity(&queue(&sysfs(file.metadata()?.rdev()))),
        };
        Ok(Self {
            block,
            topology,
            discard_granularity: granularity.map(|bytes| bytes.max(block)),
        })
    }

    /// Whether these `len` bytes from `position` on are whole blocks.
    pub fn is_whole_blocks(&self, position: u64, len: u64) -> bool {
        let block = self.block.into();
        position.is_multiple_of(block) && len.is_multiple_of(block)
    }

    /// Has the device give back the storage of the whole blocks among the `len` bytes from `position`
    /// on. The host's cache forgets what it has of them.
    ///
    /// # Errors
    /// The device could not, or not all of it.
    pub fn discard(&self, file: &File, position: u64, len: u64) -> io::Result<()> {
        let block = u64::from(self.block);
        let end = position.saturating_add(len) / block * block;
        let start = position.checked_next_multiple_of(block);
        let Some(start) = start.filter(|start| *start < end) else {
            return Ok(());
        };
        let range = [start, end.saturating_sub(start)];
        loop {
            // SAFETY: the file is open, and the request takes two numbers of 64 bits, the first byte
            // and how many, which the kernel reads and keeps no pointer to.
            match unsafe { libc::ioctl(file.as_raw_fd(), BLKDISCARD() as _, range.as_ptr()) } {
                0 => return Ok(()),
                _ => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
    }
}

/// Whether the block device that is open as `file` refuses to be written.
///
/// # Errors
/// It does not tell.
pub(super) fn is_read_only(file: &File) -> io::Result<bool> {
    Ok(get(file, BLKROGET())? != 0)
}

/// What the block device says to a `request` that gets one number.
fn get(file: &File, request: libc::Ioctl) -> io::Result<u32> {
    let mut number = 0_u32;
    // SAFETY: the file is open, and each of the requests writes one number of 32 bits to where its
    // argument points, and keeps no pointer to that.
    match unsafe { libc::ioctl(file.as_raw_fd(), request, &raw mut number) } {
        0 => Ok(number),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Where the kernel tells of the block device with this number.
fn sysfs(number: libc::dev_t) -> PathBuf {
    let (major, minor) = (libc::major(number), libc::minor(number));
    Path::new("/sys/dev/block").join(format!("{major}:{minor}"))
}

/// Where it tells of the queue of a `device`: that of its disk, if it is a partition.
fn queue(device: &Path) -> PathBuf {
    match device.join("partition").exists() {
        true => device.join("../queue"),
        false => device.join("queue"),
    }
}

/// The unit in which the device of this `queue` gives storage back, in bytes; `None` if it does not,
/// or nobody tells.
fn discard_granularity(queue: &Path) -> Option<u32> {
    let number = |name| -> Option<u64> {
        let text = fs::read_to_string(queue.join(name)).ok()?;
        text.trim().parse().ok()
    };
    number("discard_max_bytes").filter(|most| *most > 0)?;
    u32::try_from(number("discard_granularity")?).ok()
}

#[cfg(test)]
#[path = "device_tests.rs"]
mod tests;
