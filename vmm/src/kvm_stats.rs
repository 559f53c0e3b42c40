//! The counters that KVM itself keeps of a vCPU, read by the format in which it describes them
//! (KVM_GET_STATS_FD; KVM API 4.133). It knows no counter by name.

use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;

use kvm_bindings::{
    KVM_STATS_TYPE_LINEAR_HIST, KVM_STATS_TYPE_LOG_HIST, KVM_STATS_TYPE_MASK, KVMIO,
};
use kvm_ioctls::VcpuFd;
use rustix::io::{FdFlags, fcntl_setfd};
use thiserror::Error;
use vmm_sys_util::ioctl::{_IOC_NONE, ioctl, ioctl_expr};

const KVM_GET_STATS_FD: libc::c_ulong = ioctl_expr(_IOC_NONE, KVMIO, 0xce, 0);

/// Size of `struct kvm_stats_header`, in bytes.
const HEADER_SIZE: usize = 24;
/// Size of `struct kvm_stats_desc` up to the name, in bytes.
const DESC_SIZE: usize = 16;
/// The most counters that a kernel is believed to have.
const MAX_COUNTERS: u32 = 4096;
/// The longest name, in bytes, that a kernel is believed to give a counter.
const MAX_NAME: u32 = 256;

/// The most room, in bytes, that a kernel is believed to need for the values.
const MAX_DATA: u32 = 1 << 20;

/// Why there are no counters.
#[derive(Debug, Error)]
pub enum KvmStatsError {
    /// The kernel has no such call: it came with Linux 5.14.
    #[error("the host's KVM lacks KVM_CAP_BINARY_STATS_FD")]
    Missing,
    /// The kernel refuses, or the counters cannot be read.
    #[error("KVM does not hand out its counters: {0}")]
    Io(#[from] io::Error),
    /// What can be read is not in the documented format.
    #[error("the counters of KVM are in no format that this program knows: {0}")]
    Format(&'static str),
}

/// The counters of one vCPU.
#[derive(Debug)]
pub struct KvmStats {
    file: File,
    counters: Vec<Counter>,
    /// Where the values are in the file.
    data: u64,
}

/// One counter of a single value.
#[derive(Debug, PartialEq, Eq)]
struct Counter {
    name: String,
    /// Of its value in the block of values, in bytes.
    offset: usize,
}

impl KvmStats {
    /// Finds out which counters KVM has of `vcpu`. They can be read for as long as this lives, and
    /// it keeps the kernel's side of the VM alive for as long.
    ///
    /// # Errors
    /// Where the kernel does not have them, or has them in another format.
    pub fn open(vcpu: &VcpuFd) -> Result<Self, KvmStatsError> {
        // SAFETY: the call takes no argument, and does nothing to the vCPU.
        let fd = unsafe { ioctl(vcpu, KVM_GET_STATS_FD) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return Err(match error.raw_os_error() {
                Some(libc::ENOTTY | libc::EINVAL) => KvmStatsError::Missing,
                _ => error.into(),
            });
        }
        // SAFETY: the call has made this file descriptor for its caller, and nobody else has it.
        let file = unsafe { File::from_raw_fd(fd) };
        // KVM leaves this one open across an exec.
        fcntl_setfd(&file, FdFlags::CLOEXEC).map_err(io::Error::from)?;

        let mut header = [0; HEADER_SIZE];
        file.read_exact_at(&mut header, 0)?;
        let header = Header::parse(&header)?;
        let mut descriptors = vec![0; header.descriptors_size()];
        file.read_exact_at(&mut descriptors, header.descriptors)?;
        Ok(Self {
            file,
            counters: header.counters(&descriptors)?,
            data: header.data,
        })
    }

    /// The counters and their values at this moment, in the kernel's order, by the kernel's names.
    /// Histograms are left out.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn read(&self) -> Result<Vec<(String, u64)>, KvmStatsError> {
        let end = |counter: &Counter| counter.offset + size_of::<u64>();
        let mut data = vec![0; self.counters.iter().map(end).max().unwrap_or(0)];
        self.file.read_exact_at(&mut data, self.data)?;
        Ok(values(&self.counters, &data))
    }
}

/// The value of each counter in the block of values `data`.
fn values(counters: &[Counter], data: &[u8]) -> Vec<(String, u64)> {
    let value = |counter: &Counter| {
        let bytes = data.get(counter.offset..)?.first_chunk()?;
        Some((counter.name.clone(), u64::from_ne_bytes(*bytes)))
    };
    counters.iter().filter_map(value).collect()
}

/// `struct kvm_stats_header`, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    name_size: usize,
    count: usize,
    /// Where the descriptors are in the file.
    descriptors: u64,
    /// Where the values are in the file.
    data: u64,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_SIZE]) -> Result<Self, KvmStatsError> {
        // Flags, size of a name, number of descriptors; offsets of id, descriptors, and data.
        let [_, name_size, count, _, descriptors, data] = words(bytes);
        if name_size > MAX_NAME {
            return Err(KvmStatsError::Format("its names are too long"));
        }
        if count > MAX_COUNTERS {
            return Err(KvmStatsError::Format("it has too many counters"));
        }
        Ok(Self {
            name_size: name_size as usize,
            count: count as usize,
            descriptors: descriptors.into(),
            data: data.into(),
        })
    }

    fn descriptors_size(&self) -> usize {
        self.count * (DESC_SIZE + self.name_size)
    }

    /// The counters of a single value that the block `descriptors` describes.
    fn counters(&self, descriptors: &[u8]) -> Result<Vec<Counter>, KvmStatsError> {
        let mut counters = Vec::new();
        for descriptor in descriptors.chunks_exact(DESC_SIZE + self.name_size) {
            let Some((fields, name)) = descriptor.split_first_chunk::<DESC_SIZE>() else {
                continue;
            };
            // Flags; exponent and number of values, 16 bits each; offset; size of a bucket.
            let [flags, exponent_and_count, offset, _] = words(fields);
            let kind = flags & KVM_STATS_TYPE_MASK;
            let histogram = [KVM_STATS_TYPE_LINEAR_HIST, KVM_STATS_TYPE_LOG_HIST].contains(&kind);
            if histogram || exponent_and_count >> 16 != 1 {
                continue;
            }
            if offset > MAX_DATA {
                return Err(KvmStatsError::Format("a value is too far away"));
            }
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            let name = std::str::from_utf8(name);
            counters.push(Counter {
                name: name
                    .map_err(|_| KvmStatsError::Format("a name is not text"))?
                    .to_owned(),
                offset: offset as usize,
            });
        }
        Ok(counters)
    }
}

/// `bytes` as 32-bit numbers of the host's byte order; 0 beyond their end.
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let (chunks, _) = bytes.as_chunks();
    std::array::from_fn(|i| chunks.get(i).map_or(0, |word| u32::from_ne_bytes(*word)))
}

#[cfg(test)]
#[path = "kvm_stats_tests.rs"]
mod tests;
