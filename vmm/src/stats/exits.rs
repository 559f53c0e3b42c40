//! The exits of a vCPU to user space: how many of each kind at each address, and how long they were
//! handled. Handles none itself.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use devices::Distribution;
use devices::locks::lock;
use kvm_ioctls::VcpuExit;

use super::address::{AddressMap, Space};
use crate::named::named;
use crate::observe::{ExitObserver, HandledExit};

/// How many addresses of devices a vCPU has rows for.
const MAX_MAPPED: usize = 192;
/// How many addresses without a device a vCPU has rows for: the guest may touch any of 2^64.
const MAX_UNMAPPED: usize = 64;

named! {
    /// Why KVM_RUN returned.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum ExitKind {
        /// KVM_EXIT_IO, reading a port.
        PioIn = "pio in",
        /// KVM_EXIT_IO, writing a port.
        PioOut = "pio out",
        /// KVM_EXIT_MMIO, reading.
        MmioRead = "mmio read",
        /// KVM_EXIT_MMIO, writing.
        MmioWrite = "mmio write",
        /// KVM_EXIT_HLT.
        Hlt = "hlt",
        /// KVM_EXIT_IRQ_WINDOW_OPEN.
        IrqWindow = "irq window",
        /// KVM_EXIT_INTR: a signal to the vCPU's thread.
        Signal = "signal",
        /// EAGAIN: a vCPU that waits to be started was woken.
        Wait = "wait",
        /// KVM_EXIT_SHUTDOWN.
        Shutdown = "shutdown",
        /// KVM_EXIT_FAIL_ENTRY.
        FailEntry = "fail entry",
        /// KVM_EXIT_INTERNAL_ERROR.
        InternalError = "internal error",
        /// Any other exit, or any other error of KVM_RUN.
        Other = "other",
    }
}

impl ExitKind {
    /// What kind of address goes with it.
    #[must_use]
    pub const fn space(self) -> Option<Space> {
        match self {
            Self::PioIn | Self::PioOut => Some(Space::Pio),
            Self::MmioRead | Self::MmioWrite => Some(Space::Mmio),
            _ => None,
        }
    }
}

/// What exits are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExitSite {
    /// Why KVM_RUN returned.
    pub kind: ExitKind,
    /// The address, where the kind has one; `None` for all addresses that have no row of their
    /// own.
    pub address: Option<u64>,
}

impl ExitSite {
    /// What KVM_RUN has returned with.
    #[must_use]
    pub fn of(exit: &Result<VcpuExit<'_>, kvm_ioctls::Error>) -> Self {
        let (kind, address) = match exit {
            Ok(VcpuExit::IoIn(port, _)) => (ExitKind::PioIn, Some((*port).into())),
            Ok(VcpuExit::IoOut(port, _)) => (ExitKind::PioOut, Some((*port).into())),
            Ok(VcpuExit::MmioRead(address, _)) => (ExitKind::MmioRead, Some(*address)),
            Ok(VcpuExit::MmioWrite(address, _)) => (ExitKind::MmioWrite, Some(*address)),
            Ok(VcpuExit::Hlt) => (ExitKind::Hlt, None),
            Ok(VcpuExit::IrqWindowOpen) => (ExitKind::IrqWindow, None),
            Ok(VcpuExit::Intr) => (ExitKind::Signal, None),
            Ok(VcpuExit::Shutdown) => (ExitKind::Shutdown, None),
            Ok(VcpuExit::FailEntry(..)) => (ExitKind::FailEntry, None),
            Ok(VcpuExit::InternalError) => (ExitKind::InternalError, None),
            Ok(_) => (ExitKind::Other, None),
            Err(error) => match error.errno() {
                libc::EINTR => (ExitKind::Signal, None),
                libc::EAGAIN => (ExitKind::Wait, None),
                _ => (ExitKind::Other, None),
            },
        };
        Self { kind, address }
    }
}

/// The exits of one vCPU, or of several.
#[derive(Clone, Debug, Default)]
pub struct VcpuStats {
    /// Sorted.
    sites: Vec<ExitSite>,
    /// For each of `sites` the time in user space, from KVM_RUN's return on, in nanoseconds.
    times: Vec<Distribution>,
    /// How many of `sites` are addresses of devices, and how many have none.
    mapped: usize,
    unmapped: usize,
}

impl VcpuStats {
    /// Each row of the table: where there were exits, and how long each was in user space, in
    /// nanoseconds.
    pub fn rows(&self) -> impl Iterator<Item = (ExitSite, &Distribution)> {
        let rows = self.sites.iter().copied().zip(&self.times);
        rows.filter(|(_, times)| times.count() > 0)
    }

    /// How many exits there were.
    #[must_use]
    pub fn exits(&self) -> u64 {
        self.times.iter().map(Distribution::count).sum()
    }

    /// How many exits there were of the sites that `wanted` says.
    pub fn exits_at(&self, wanted: impl Fn(ExitSite) -> bool) -> u64 {
        let rows = self.rows().filter(|(site, _)| wanted(*site));
        rows.map(|(_, times)| times.count()).sum()
    }

    /// Adds all exits of `other`.
    pub fn add(&mut self, other: &Self) {
        for (site, times) in other.rows() {
            self.row(site).add(times);
        }
    }

    /// Adds an exit at `site`. Which addresses are devices', `map` knows.
    fn record(&mut self, site: ExitSite, map: &AddressMap, time: Duration) {
        if let Ok(at) = self.sites.binary_search(&site) {
            return self.times[at].record_time(time);
        }
        let site = if self.has_room(site, map) {
            site
        } else {
            ExitSite {
                address: None,
                ..site
            }
        };
        self.row(site).record_time(time);
    }

    /// Whether there may be a new row for `site`; if so it is counted.
    fn has_room(&mut self, site: ExitSite, map: &AddressMap) -> bool {
        let (Some(space), Some(address)) = (site.kind.space(), site.address) else {
            return true;
        };
        let (rows, max) = if map.is_mapped(space, address) {
            (&mut self.mapped, MAX_MAPPED)
        } else {
            (&mut self.unmapped, MAX_UNMAPPED)
        };
        let room = *rows < max;
        *rows += usize::from(room);
        room
    }

    /// The times of `site`, in a new row if there is none.
    fn row(&mut self, site: ExitSite) -> &mut Distribution {
        let at = match self.sites.binary_search(&site) {
            Ok(at) => at,
            Err(at) => {
                self.sites.insert(at, site);
                self.times.insert(at, Distribution::new());
                at
            }
        };
        &mut self.times[at]
    }
}

/// Counts the exits of one vCPU, on its thread; the lock is for those who look meanwhile.
#[derive(Clone, Debug)]
pub struct ExitRecorder {
    stats: Arc<Mutex<VcpuStats>>,
    map: Arc<AddressMap>,
    /// When the exit began that is being handled.
    begun: Instant,
}

impl ExitRecorder {
    pub(super) fn new(map: Arc<AddressMap>) -> Self {
        Self {
            stats: Arc::default(),
            map,
            begun: Instant::now(),
        }
    }

    /// The exit at `site` that has begun is over.
    fn handled(&self, site: ExitSite) {
        self.record(site, self.begun.elapsed());
    }

    pub(super) fn record(&self, site: ExitSite, time: Duration) {
        lock(&self.stats).record(site, &self.map, time);
    }

    pub(super) fn snapshot(&self) -> VcpuStats {
        lock(&self.stats).clone()
    }
}

impl ExitObserver for ExitRecorder {
    fn begins(&mut self, _site: ExitSite) {
        self.begun = Instant::now();
    }

    fn ends(&mut self, exit: &HandledExit<'_>) {
        self.handled(exit.site);
    }
}

#[cfg(test)]
#[path = "exits_tests.rs"]
mod tests;
