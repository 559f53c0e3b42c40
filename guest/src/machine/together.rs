//! Work that several CPUs do at once, this one among them. What they do is the workload's matter.

use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

use guest::cmdline::Window;
use guest::virtio::Error;
use guest::workloads::Job;

use super::cpus::Cpus;
use super::device::Device;
use super::sleepers;

/// What all CPUs are given.
struct Work<'j> {
    window: Window,
    job: &'j Job<'j>,
    /// Whether all have been started that do. Until then none begins: the handler of the device's
    /// interrupt sends through the same register as who starts them.
    begins: AtomicBool,
}

impl Work<'_> {
    fn share(&self, index: usize) -> Result<(), Error> {
        if index != 0 {
            sleepers::wait_for_others(index, || self.begins.load(Ordering::Acquire));
        }
        (self.job)(index, &mut Device::shared(self.window, index)?);
        Ok(())
    }
}

/// Has each of the CPUs below `count` do `job`, and returns when each has done it.
///
/// # Errors
/// A CPU that does not start, or [`Error::NoWindow`].
pub fn work(cpus: &mut Cpus, window: Window, count: usize, job: &Job<'_>) -> Result<(), Error> {
    let work = Work {
        window,
        job,
        begins: AtomicBool::new(false),
    };
    let argument = ptr::from_ref(&work).expose_provenance() as u64;
    let silent = (1..count).find(|&index| cpus.start(index, share, argument).is_err());
    work.begins.store(true, Ordering::Release);
    sleepers::wake_waiting(0);
    // Those that have started may wait for this one.
    let done = work.share(0);
    for index in 1..silent.unwrap_or(count) {
        cpus.join(index);
    }
    silent.map_or(done, |index| Err(Error::NoCpu(index)))
}

/// What a CPU does that is not the first.
extern "C" fn share(index: usize, work: u64) {
    let work = ptr::with_exposed_provenance::<Work<'_>>(work as usize);
    // SAFETY: it is the one that `work` has on its stack, which it does not leave before this
    // returns; it is shared, and what is in it may be.
    let work = unsafe { &*work };
    // The window is one that the first CPU was told of, too.
    let _ = work.share(index);
}
