//! How a machine is watched as it runs: its exits through what is here, its queues as `devices` has
//! it. It keeps nothing, and changes nothing.

use std::fmt;

use devices::virtio::block::observe::MakeObserver;
use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::config::Engine;
use crate::stats::exits::ExitSite;

/// An exit that has been handled.
#[derive(Debug)]
pub struct HandledExit<'a> {
    /// What kind of exit it was, and at which address.
    pub site: ExitSite,
    /// How many bytes the guest wrote or was answered with; 0 where an exit has no data.
    pub len: usize,
    /// These bytes, little endian; the first 8 where there are more.
    pub value: u64,
    /// The vCPU as the exit has left it: what an instruction has read is not in its registers yet,
    /// and RIP is at that instruction or after it, as the kind of exit has it.
    pub vcpu: &'a VcpuFd,
}

impl<'a> HandledExit<'a> {
    /// The exit at `site` with `data`, as [`data`] returns it.
    pub(crate) fn new(site: ExitSite, (len, value): (usize, u64), vcpu: &'a VcpuFd) -> Self {
        Self {
            site,
            len,
            value,
            vcpu,
        }
    }
}

/// Watches the exits of one vCPU, on its thread. The guest waits meanwhile.
pub trait ExitObserver: fmt::Debug + Send {
    /// KVM_RUN has returned with an exit at `site`.
    fn begins(&mut self, site: ExitSite) {
        let _ = site;
    }

    /// It has been handled.
    fn ends(&mut self, exit: &HandledExit<'_>) {
        let _ = exit;
    }
}

/// Which queue it is that is watched, and what reports call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueName {
    /// Number of the disk.
    pub disk: usize,
    /// Name of the disk.
    pub device: String,
    /// Index of the queue.
    pub queue: u16,
    /// How many the disk has.
    pub of: u16,
    /// How its data gets to the disk and from it.
    pub engine: Engine,
}

impl fmt::Display for QueueName {
    /// The disk, where it has no other queue.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.of {
            1 => f.write_str(&self.device),
            _ => write!(f, "{} queue {}", self.device, self.queue),
        }
    }
}

/// Watches a machine: says, while the machine is built, who watches each part of it.
pub trait MachineObserver {
    /// Who watches the queue `name`.
    fn queue(&mut self, name: &QueueName) -> MakeObserver;

    /// Who watches the exits of vCPU `index`.
    fn vcpu(&mut self, index: u8) -> Box<dyn ExitObserver>;
}

/// How many bytes `exit` has moved, and the first 8 of them, little endian.
pub(crate) fn data(exit: &Result<VcpuExit<'_>, kvm_ioctls::Error>) -> (usize, u64) {
    let data: &[u8] = match exit {
        Ok(VcpuExit::IoIn(_, data) | VcpuExit::MmioRead(_, data)) => data,
        Ok(VcpuExit::IoOut(_, data) | VcpuExit::MmioWrite(_, data)) => data,
        _ => &[],
    };
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(data) {
        *to = *from;
    }
    (data.len(), u64::from_le_bytes(bytes))
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
