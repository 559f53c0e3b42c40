//! The bus: from an address to the device that answers there. One bus serves the MMIO addresses
//! and another the I/O ports. It must not know what any device does.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use crate::error::DeviceError;
use crate::locks::lock;

/// Something that answers in a range of addresses. `offset` counts from the start of the range;
/// an access begins inside it but may reach past its end.
pub trait BusDevice: Send {
    /// Fills `data` with what the guest reads at `offset`.
    fn read(&mut self, offset: u64, data: &mut [u8]);

    /// Takes what the guest writes at `offset`.
    fn write(&mut self, offset: u64, data: &[u8]) -> Response;

    /// Does what the guest has written without an exit, where it can. It does not run meanwhile.
    ///
    /// # Errors
    /// The host side failed in a way that the machine cannot go on from.
    fn catch_up(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Looks again at what the device stands for on the host, which may have changed. Most devices
    /// have nothing to look at.
    ///
    /// # Errors
    /// The host side failed in a way that the machine cannot go on from.
    fn refresh(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// What the machine does after a write.
#[derive(Debug)]
pub enum Response {
    /// The guest goes on.
    Done,
    /// Work is left after a bounded share of it: the caller looks whether the machine is to stop,
    /// and if not repeats the same write.
    Again,
    /// The same, but nothing can be done before this time has passed. The caller waits for it, or for
    /// as long as it likes.
    Later(Duration),
    /// There is work that needs no device, for the caller to do: see [`Response::worked`].
    Work(Arc<dyn Work>),
    /// The guest ends the run with this value.
    Exit(u32),
    /// The guest asks for a reset.
    Reset,
    /// The host side failed in a way that the machine cannot go on from.
    Failed(DeviceError),
}

impl Response {
    /// Does the work that is left to the caller, if some is, and returns what there is to do then.
    /// Whoever has the device lets go of it first, so that others can use it meanwhile.
    #[must_use]
    pub fn worked(self) -> Self {
        match self {
            Self::Work(work) => work.work(),
            other => other,
        }
    }
}

/// A bounded share of work that a write leaves to whoever wrote.
pub trait Work: fmt::Debug + Send + Sync {
    /// Does it. By then the device may have no need of it any more.
    fn work(&self) -> Response;
}

/// Shares of work that one write leaves, done one after the other. Where one has work left the same
/// write is to be repeated for them all.
#[derive(Debug)]
pub struct Shares(pub Vec<Arc<dyn Work>>);

impl Work for Shares {
    fn work(&self) -> Response {
        let mut answer = Response::Done;
        for work in &self.0 {
            match work.work() {
                Response::Done => {}
                more @ (Response::Again | Response::Later(_)) => answer = more,
                other => return other,
            }
        }
        answer
    }
}

/// Why a device cannot be put on the bus.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The range is empty or reaches past the last address.
    #[error("a range of {len:#x} bytes from {base:#x} is not one of addresses")]
    Range {
        /// First address of the range.
        base: u64,
        /// Length of the range, in bytes.
        len: u64,
    },
    /// Another device has some of these addresses.
    #[error("the range {base:#x} to {last:#x} overlaps the one from {other:#x}")]
    Overlap {
        /// First address of the range.
        base: u64,
        /// Last address of the range.
        last: u64,
        /// First address of the range that is there.
        other: u64,
    },
}

struct Range {
    base: u64,
    last: u64,
    device: Arc<Mutex<dyn BusDevice>>,
    /// How many wait for the device.
    waiting: AtomicU32,
    /// Held by the one of them whose turn is next.
    next: Mutex<()>,
}

impl Range {
    /// The device, when it is free and nobody waits for it; else after the one whose turn is next.
    /// Nobody who has just let go of it gets it again before that one: a mutex alone would let a
    /// vCPU that repeats a write ([`Response::Again`]) keep the others from the device for as long
    /// as it does.
    fn lock(&self) -> MutexGuard<'_, dyn BusDevice + 'static> {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            match self.device.try_lock() {
                Ok(device) => return device,
                Err(TryLockError::Poisoned(error)) => return error.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _next = lock(&self.next);
        let device = lock(&*self.device);
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        device
    }
}

/// Devices by address. Several vCPUs can use a bus at once, but a device one after the other; nobody
/// has a device while it does the [work](Work) that its write has been left with.
#[derive(Default)]
pub struct Bus {
    /// Sorted by base, none overlapping.
    ranges: Vec<Range>,
    unmapped: AtomicU64,
}

impl Bus {
    /// A bus with nothing on it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `device` at the `len` addresses from `base`.
    ///
    /// # Errors
    /// The range is empty, reaches past the last address, or overlaps one that is there.
    pub fn insert(
        &mut self,
        base: u64,
        len: u64,
        device: Arc<Mutex<dyn BusDevice>>,
    ) -> Result<(), BusError> {
        let last = len.checked_sub(1).and_then(|rest| base.checked_add(rest));
        let last = last.ok_or(BusError::Range { base, len })?;
        let at = self.ranges.partition_point(|range| range.last < base);
        if let Some(next) = self.ranges.get(at).filter(|range| range.base <= last) {
            let other = next.base;
            return Err(BusError::Overlap { base, last, other });
        }
        let range = Range {
            base,
            last,
            device,
            waiting: AtomicU32::new(0),
            next: Mutex::new(()),
        };
        self.ranges.insert(at, range);
        Ok(())
    }

    /// Fills `data` with what is read at `addr`: all ones where there is no device.
    pub fn read(&self, addr: u64, data: &mut [u8]) {
        match self.find(addr) {
            Some((mut device, offset)) => device.read(offset, data),
            None => {
                self.unmapped.fetch_add(1, Ordering::Relaxed);
                data.fill(0xff);
            }
        }
    }

    /// Writes `data` at `addr`: to no effect where there is no device.
    pub fn write(&self, addr: u64, data: &[u8]) -> Response {
        let response = match self.find(addr) {
            Some((mut device, offset)) => device.write(offset, data),
            None => {
                self.unmapped.fetch_add(1, Ordering::Relaxed);
                Response::Done
            }
        };
        response.worked()
    }

    /// Has the device at `addr` do what the guest, which does not run, has written without an exit.
    ///
    /// # Errors
    /// The host side failed in a way that the machine cannot go on from.
    pub fn catch_up(&self, addr: u64) -> Result<(), DeviceError> {
        self.find(addr)
            .map_or(Ok(()), |(mut device, _)| device.catch_up())
    }

    /// Has the device at `addr` look again at what it stands for on the host, when its turn comes.
    ///
    /// # Errors
    /// The host side failed in a way that the machine cannot go on from.
    pub fn refresh(&self, addr: u64) -> Result<(), DeviceError> {
        self.find(addr)
            .map_or(Ok(()), |(mut device, _)| device.refresh())
    }

    /// How many accesses there were to addresses without a device.
    #[must_use]
    pub fn unmapped(&self) -> u64 {
        self.unmapped.load(Ordering::Relaxed)
    }

    /// The device at `addr`, and the offset in its range.
    fn find(&self, addr: u64) -> Option<(MutexGuard<'_, dyn BusDevice + 'static>, u64)> {
        let at = self.ranges.partition_point(|range| range.last < addr);
        let range = self.ranges.get(at)?;
        let offset = addr.checked_sub(range.base)?;
        Some((range.lock(), offset))
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.ranges.iter();
        f.debug_list()
            .entries(ranges.map(|range| range.base..=range.last))
            .finish()
    }
}

#[cfg(test)]
#[path = "bus_tests.rs"]
mod tests;
