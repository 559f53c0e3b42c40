//! The statistics of a run: who keeps them, and what they are at a moment. How they are shown is
//! the report's, and what is counted its keepers'.

pub mod address;
pub mod exits;
pub mod report;
mod text;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::virtio::RegisterPage;
use devices::virtio::block::stats::{QueueStats, SharedQueueStats};
use kvm_ioctls::VcpuFd;

use crate::config::StatsReport;
use crate::kvm_stats::{KvmStats, KvmStatsError};
use crate::observe::QueueName;
use address::AddressMap;
use exits::{ExitRecorder, VcpuStats};
use report::Report;

/// All that is counted of a machine.
#[derive(Debug)]
pub struct Statistics {
    report: StatsReport,
    start: Instant,
    map: Arc<AddressMap>,
    vcpus: Vec<(ExitRecorder, Result<KvmStats, KvmStatsError>)>,
    queues: Vec<(QueueName, SharedQueueStats)>,
    acks: Vec<(String, Arc<RegisterPage>)>,
}

impl Statistics {
    /// Statistics of a machine without vCPUs so far, whose devices are where `map` says and whose
    /// `queues` have names, to be reported as `report` says.
    #[must_use]
    pub fn new(
        report: StatsReport,
        map: Arc<AddressMap>,
        queues: Vec<(QueueName, SharedQueueStats)>,
    ) -> Self {
        Self {
            report,
            start: Instant::now(),
            map,
            vcpus: Vec::new(),
            queues,
            acks: Vec::new(),
        }
    }

    /// Has the acknowledgements told of that do not exit, of the disks with these names and registers.
    #[must_use]
    pub fn count_acks(self, acks: Vec<(String, Arc<RegisterPage>)>) -> Self {
        Self { acks, ..self }
    }

    /// Adds the next vCPU, and returns who is to count its exits.
    pub fn add_vcpu(&mut self, vcpu: &VcpuFd) -> ExitRecorder {
        let recorder = ExitRecorder::new(Arc::clone(&self.map));
        self.vcpus.push((recorder.clone(), KvmStats::open(vcpu)));
        recorder
    }

    /// What there is to tell at this moment. The machine may run meanwhile.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let vcpu = |(recorder, kvm): &(ExitRecorder, Result<KvmStats, KvmStatsError>)| {
            let counters = match kvm {
                Ok(kvm) => kvm.read().map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            VcpuSnapshot {
                exits: recorder.snapshot(),
                kvm: counters.map(BTreeMap::from_iter),
            }
        };
        Snapshot {
            time: self.start.elapsed(),
            vcpus: self.vcpus.iter().map(vcpu).collect(),
            queues: (self.queues.iter())
                .map(|(name, stats)| (name.clone(), stats.snapshot()))
                .collect(),
            acks: (self.acks.iter())
                .map(|(disk, page)| (disk.clone(), page.silent_acks()))
                .collect(),
        }
    }

    /// Whether the statistics are for anybody but whoever has built the machine.
    #[must_use]
    pub fn are_printed(&self) -> bool {
        self.report != StatsReport::Nobody
    }

    /// Writes what there is to tell at this moment to stderr, in the way that was asked for.
    pub fn print(&self) {
        let report = Report::new(&self.snapshot(), &self.map);
        let text = match self.report {
            StatsReport::Nobody => return,
            StatsReport::Text => text::render(&report),
            StatsReport::Json => report.to_json(),
        };
        // At once, so that no log line comes between. When stderr is gone there is nobody left to
        // tell.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// What has been counted up to some moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// How long the machine had been there.
    pub time: Duration,
    /// By the number of the vCPU.
    pub vcpus: Vec<VcpuSnapshot>,
    /// The request queues, in the order of the disks, with their names.
    pub queues: Vec<(QueueName, QueueStats)>,
    /// How many acknowledgements did not exit, of each disk whose registers are mapped.
    pub acks: BTreeMap<String, u64>,
}

/// What has been counted of a vCPU up to some moment.
#[derive(Clone, Debug)]
pub struct VcpuSnapshot {
    /// Its exits to user space.
    pub exits: VcpuStats,
    /// The counters of the kernel, or why there are none.
    pub kvm: Result<BTreeMap<String, u64>, String>,
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
