//! What is counted of a machine's block I/O, taken from its statistics.

use spec::mmio::Register;

use super::super::machine::Machine;
use crate::layout;
use crate::stats::exits::{ExitKind, ExitSite};

/// Numbers of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Exits to user space.
    pub(super) exits: u64,
    /// Those by a write to QueueNotify.
    pub(super) notify_exits: u64,
    /// Interrupts that the device has raised.
    pub(super) interrupts: u64,
}

impl Counts {
    /// What `machine` has counted up to now; nothing where it does not count.
    pub(super) fn of(machine: &Machine) -> Self {
        let Some(snapshot) = machine.statistics() else {
            return Self::default();
        };
        let windows = [layout::virtio_mmio(0), layout::mapped_virtio_mmio(0)];
        let notifies = windows.map(|window| ExitSite {
            kind: ExitKind::MmioWrite,
            address: Some(window.base + Register::QueueNotify.offset()),
        });
        let vcpus = || snapshot.vcpus.iter().map(|vcpu| &vcpu.exits);
        Self {
            exits: vcpus().map(|exits| exits.exits()).sum(),
            notify_exits: vcpus()
                .map(|e| e.exits_at(|site| notifies.contains(&site)))
                .sum(),
            interrupts: snapshot
                .queues
                .iter()
                .map(|(_, queue)| queue.interrupts)
                .sum(),
        }
    }

    /// What has come since it was `earlier`, less `times` what `overhead` is.
    pub(super) fn since(self, earlier: Self, overhead: Self, times: u64) -> Self {
        let rest = |later: u64, earlier: u64, overhead: u64| {
            later
                .saturating_sub(earlier)
                .saturating_sub(overhead.saturating_mul(times))
        };
        Self {
            exits: rest(self.exits, earlier.exits, overhead.exits),
            notify_exits: rest(
                self.notify_exits,
                earlier.notify_exits,
                overhead.notify_exits,
            ),
            interrupts: rest(self.interrupts, earlier.interrupts, overhead.interrupts),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_command_takes_is_not_the_requests() {
        let counts = |n| Counts {
            exits: n,
            notify_exits: n / 2,
            interrupts: n / 4,
        };
        let none = Counts::default();
        assert_eq!(counts(100).since(counts(20), counts(8), 2), counts(64));
        assert_eq!(counts(100).since(none, none, 5), counts(100));
        assert_eq!(counts(4).since(none, counts(8), 1), none);
    }
}
