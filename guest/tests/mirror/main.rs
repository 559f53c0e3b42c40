//! The mirror test: the guest's driver against our device, in one process and without KVM.

// This is all test code, but its helpers are no tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bench;
mod bench_block;
mod broken;
mod driver;
mod host;
mod hostile;
mod hostile_smp;
#[path = "../../../vmm/tests/e2e/hostile_smp_sectors.rs"]
mod hostile_smp_sectors;
mod journal;
#[path = "../../../vmm/tests/e2e/journal.rs"]
mod journal_check;
mod model;
mod parameters;
mod port;
mod queues;
mod resize;
mod shell;
mod stalled;
mod storm;
mod workloads;
