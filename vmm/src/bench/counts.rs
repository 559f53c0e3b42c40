//! How many exits an operation is, from what two have counted: this VMM, and KVM. That they differ
//! is for the report to show, and nothing is made to agree here.

use std::collections::BTreeMap;

use super::report::ExitCounts;
use crate::stats::Snapshot;

/// What had been counted of a machine at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Returns of KVM_RUN.
    pub returns: u64,
    /// The counters of KVM, all vCPUs together, if it has any.
    pub kvm: Option<BTreeMap<String, u64>>,
}

impl From<Snapshot> for Tally {
    fn from(snapshot: Snapshot) -> Self {
        let mut tally = Self {
            returns: 0,
            kvm: Some(BTreeMap::new()),
        };
        for vcpu in snapshot.vcpus {
            tally.returns += vcpu.exits.exits();
            // Without those of one vCPU the sum is of no use.
            tally.kvm = tally.kvm.zip(vcpu.kvm.ok()).map(|(mut sum, counters)| {
                for (name, value) in counters {
                    *sum.entry(name).or_default() += value;
                }
                sum
            });
        }
        tally
    }
}

/// The counter of KVM that counts all exits.
const ALL: &str = "exits";
/// Its counters of those that may be handed to user space.
const TO_USER: [&str; 3] = ["io_exits", "mmio_exits", "signal_exits"];

impl Tally {
    /// What has been counted since `earlier`, of the same machine.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let kvm = self.kvm.as_ref().zip(earlier.kvm.as_ref());
        let difference = |(name, value): (&String, &u64), earlier: &BTreeMap<String, u64>| {
            let before = earlier.get(name).copied().unwrap_or(0);
            (name.clone(), value.saturating_sub(before))
        };
        Self {
            returns: self.returns.saturating_sub(earlier.returns),
            kvm: kvm.map(|(later, earlier)| {
                let counters = later.iter();
                counters.map(|entry| difference(entry, earlier)).collect()
            }),
        }
    }

    fn counter(&self, name: &str) -> Option<u64> {
        self.kvm.as_ref()?.get(name).copied()
    }

    fn to_user(&self) -> Option<u64> {
        TO_USER.into_iter().map(|name| self.counter(name)).sum()
    }
}

/// Some commands, and what was counted while they were done.
#[derive(Clone, Debug)]
pub struct Counted {
    /// How many commands.
    pub commands: u64,
    /// How many operations all of them had.
    pub operations: u64,
    /// What was counted.
    pub tally: Tally,
}

/// How many exits one operation of `counted` is. What commands come to that have no operations is
/// known from `idle`.
#[must_use]
pub fn per_operation(idle: &Counted, counted: &Counted) -> ExitCounts {
    let share = counted.commands as f64 / idle.commands.max(1) as f64;
    let operations = counted.operations.max(1) as f64;
    let each = |idle: u64, work: u64| ((work as f64 - idle as f64 * share) / operations).max(0.0);
    let both = |of: fn(&Tally) -> Option<u64>| Some(each(of(&idle.tally)?, of(&counted.tally)?));
    ExitCounts {
        vmm: each(idle.tally.returns, counted.tally.returns),
        kernel_to_user: both(Tally::to_user),
        kernel: both(|tally| tally.counter(ALL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(returns: u64, kvm: &[(&str, u64)]) -> Tally {
        let counters = kvm.iter().map(|(name, value)| ((*name).to_owned(), *value));
        Tally {
            returns,
            kvm: Some(counters.collect()),
        }
    }

    fn counted(commands: u64, operations: u64, tally: Tally) -> Counted {
        Counted {
            commands,
            operations,
            tally,
        }
    }

    #[test]
    fn the_exits_of_commands_are_not_those_of_their_operations() {
        let counters = |exits, io, mmio| {
            let all = [("exits", exits), ("io_exits", io), ("mmio_exits", mmio)];
            [all.as_slice(), &[("signal_exits", 0), ("halt_exits", 9)]].concat()
        };
        let idle = counted(2, 0, tally(2, &counters(8, 2, 0)));
        let work = counted(5, 1000, tally(1005, &counters(1520, 5, 1000)));
        let expected = ExitCounts {
            vmm: 1.0,
            kernel_to_user: Some(1.0),
            kernel: Some(1.5),
        };
        assert_eq!(per_operation(&idle, &work), expected);
    }

    #[test]
    fn what_only_one_of_both_has_counted_is_shown() {
        let counters = |io| [("io_exits", io), ("mmio_exits", 0), ("signal_exits", 0)];
        let idle = counted(1, 0, tally(1, &counters(1)));
        let work = counted(2, 100, tally(2, &counters(102)));
        let counts = per_operation(&idle, &work);
        assert_eq!((counts.vmm, counts.kernel_to_user), (0.0, Some(1.0)));
        assert_eq!(counts.kernel, None, "there is no such counter");
    }

    #[test]
    fn without_counters_of_kvm_there_is_only_ours() {
        let returns = |returns| Tally { returns, kvm: None };
        let counts = per_operation(&counted(1, 0, returns(1)), &counted(1, 3, returns(7)));
        let expected = ExitCounts {
            vmm: 2.0,
            kernel_to_user: None,
            kernel: None,
        };
        assert_eq!(counts, expected);
    }

    #[test]
    fn a_counter_that_has_gone_down_has_counted_nothing() {
        let since = tally(9, &[("exits", 5), ("blocking", 0)])
            .since(&tally(4, &[("exits", 3), ("blocking", 1)]));
        assert_eq!(since, tally(5, &[("exits", 2), ("blocking", 0)]));
    }
}
