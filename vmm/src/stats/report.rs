//! A report of the statistics, as plain data: what the JSON is, and what the text shows. It counts
//! nothing.

use std::collections::BTreeMap;

use devices::Distribution;
use devices::virtio::block::stats::{DrainCause, QueueStats, RequestKind};
use serde::{Serialize, Serializer};

use super::address::AddressMap;
use super::exits::{ExitKind, ExitSite, VcpuStats};
use super::{Snapshot, VcpuSnapshot};
use crate::observe::QueueName;

/// A report. Times are in nanoseconds.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How long the machine had been there, in seconds.
    pub seconds: f64,
    /// The exits of all vCPUs, the most frequent first.
    pub exits: Vec<ExitRow>,
    /// By the number of the vCPU.
    pub vcpus: Vec<VcpuReport>,
    /// The request queues of all disks.
    pub queues: Vec<QueueReport>,
}

/// The exits to user space of one kind, at one address.
#[derive(Debug, Serialize)]
pub struct ExitRow {
    /// Which kind.
    #[serde(serialize_with = "exit_name")]
    pub exit: ExitKind,
    /// The device at the address.
    pub device: Option<String>,
    /// Its register there.
    pub register: Option<String>,
    /// The address; `None` for all those that have no row of their own.
    pub address: Option<u64>,
    /// How many there were.
    pub count: u64,
    /// Of all exits, from 0 to 1.
    pub share: f64,
    /// How long it took to handle them.
    pub time_ns: Times,
}

/// Times, in nanoseconds.
#[derive(Debug, Serialize)]
pub struct Times {
    /// Half of them are no longer.
    pub p50: u64,
    /// 99 % of them are no longer.
    pub p99: u64,
    /// 99.9 % of them are no longer.
    pub p999: u64,
    /// The longest.
    pub max: u64,
}

/// A vCPU.
#[derive(Debug, Serialize)]
pub struct VcpuReport {
    /// How often KVM_RUN returned.
    pub exits: u64,
    /// The counters of the kernel.
    pub kvm: Option<BTreeMap<String, u64>>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kvm_error: Option<String>,
}

/// A request queue.
#[derive(Debug, Serialize)]
pub struct QueueReport {
    /// The disk.
    pub device: String,
    /// Index of the queue.
    pub queue: u16,
    /// How many queues the disk has.
    pub queues: u16,
    /// How data gets to the disk and from it.
    pub engine: &'static str,
    /// Requests of each kind, kinds of which there were none left out.
    pub requests: Vec<RequestRow>,
    /// Requests of all kinds.
    pub all: RequestRow,
    /// How often the queue was drained, by what made the drain begin.
    pub drains: BTreeMap<&'static str, u64>,
    /// How many drains found nothing.
    pub empty_drains: u64,
    /// Requests of each drain that found some.
    pub batch: Batch,
    /// Requests whose data was moved together with that of neighbours.
    pub merged: Merged,
    /// How many used buffer notifications were sent.
    pub interrupts_sent: u64,
    /// How many were not, because the driver did not want them.
    pub interrupts_suppressed: u64,
    /// Exits to user space at the device's registers, for whichever of its queues.
    pub register_exits: u64,
    /// The same for each request in any of them.
    pub register_exits_per_request: f64,
    /// Where the registers are mapped: how many acknowledgements have been found that did not exit.
    /// Nor did any read, of which nobody can know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mapped_acks: Option<u64>,
    /// How many entries of the available ring were no head of a chain.
    pub skipped_heads: u64,
}

/// What neighbouring requests became.
#[derive(Debug, Serialize)]
pub struct Merged {
    /// How many of them there were.
    pub requests: u64,
    /// How many calls moved their data.
    pub calls: u64,
}

/// How many requests come at once.
#[derive(Debug, Serialize)]
pub struct Batch {
    /// On average.
    pub mean: f64,
    /// Half of all batches are no larger.
    pub p50: u64,
    /// The largest.
    pub max: u64,
}

/// The requests of one kind.
#[derive(Debug, Serialize)]
pub struct RequestRow {
    /// The type, or what became of it.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// How many there were.
    pub count: u64,
    /// How many of them the host failed.
    pub failed: u64,
    /// How many bytes the others have moved.
    pub bytes: u64,
    /// How long they took from the available ring to the used ring.
    pub latency_ns: Times,
}

impl Report {
    /// The report of `snapshot`, with names from `map`.
    #[must_use]
    pub fn new(snapshot: &Snapshot, map: &AddressMap) -> Self {
        let mut exits = VcpuStats::default();
        for vcpu in &snapshot.vcpus {
            exits.add(&vcpu.exits);
        }
        let all = exits.exits();
        let row = |(site, times)| ExitRow::new(site, times, all, map);
        let mut exits: Vec<ExitRow> = exits.rows().map(row).collect();
        exits.sort_by_key(|row| std::cmp::Reverse(row.count));
        let queue = |(name, stats): &(QueueName, QueueStats)| {
            let mapped_acks = snapshot.acks.get(&name.device).copied();
            let queues = snapshot.queues.iter();
            let requests = queues
                .filter(|(other, _)| other.disk == name.disk)
                .map(|(_, stats)| stats.request_count())
                .sum();
            QueueReport::new(name, stats, &exits, requests, mapped_acks)
        };
        Self {
            seconds: snapshot.time.as_secs_f64(),
            vcpus: snapshot.vcpus.iter().map(VcpuReport::new).collect(),
            queues: snapshot.queues.iter().map(queue).collect(),
            exits,
        }
    }

    /// The report as JSON, an object in a line of its own.
    #[must_use]
    pub fn to_json(&self) -> String {
        match serde_json::to_string(self) {
            Ok(json) => json + "\n",
            Err(error) => {
                log::error!("cannot make JSON of the statistics: {error}");
                String::new()
            }
        }
    }
}

impl ExitRow {
    fn new(site: ExitSite, times: &Distribution, all: u64, map: &AddressMap) -> Self {
        let ExitSite { kind, address } = site;
        let name = kind
            .space()
            .zip(address)
            .and_then(|(space, address)| map.name(space, address));
        let (device, register) = name.unzip();
        Self {
            exit: kind,
            device: device.map(str::to_owned),
            register,
            address,
            count: times.count(),
            share: times.count() as f64 / all.max(1) as f64,
            time_ns: Times::of(times),
        }
    }
}

fn exit_name<S: Serializer>(kind: &ExitKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.name())
}

impl Times {
    fn of(times: &Distribution) -> Self {
        Self {
            p50: times.quantile(0.5),
            p99: times.quantile(0.99),
            p999: times.quantile(0.999),
            max: times.max(),
        }
    }
}

impl VcpuReport {
    fn new(vcpu: &VcpuSnapshot) -> Self {
        Self {
            exits: vcpu.exits.exits(),
            kvm: vcpu.kvm.clone().ok(),
            kvm_error: vcpu.kvm.clone().err(),
        }
    }
}

impl QueueReport {
    /// What `stats` has of the queue `name` of a disk with `mapped_acks` that has served as many
    /// `requests` in all, in a machine with these `exits`.
    fn new(
        name: &QueueName,
        stats: &QueueStats,
        exits: &[ExitRow],
        requests: u64,
        mapped_acks: Option<u64>,
    ) -> Self {
        let at_device = |row: &&ExitRow| row.device.as_deref() == Some(&*name.device);
        let register_exits: u64 = exits.iter().filter(at_device).map(|row| row.count).sum();
        let row = |kind| RequestRow::new(kind, stats);
        let rows = RequestKind::ALL.into_iter().map(row);
        let drains = DrainCause::ALL.into_iter();
        Self {
            device: name.device.clone(),
            queue: name.queue,
            queues: name.of,
            engine: name.engine.name(),
            requests: rows.filter(|row| row.count > 0).collect(),
            all: RequestRow::all(stats),
            drains: drains
                .map(|cause| (cause.name(), stats.drains(cause)))
                .collect(),
            empty_drains: stats.empty_drains(),
            batch: Batch {
                mean: stats.batch.mean(),
                p50: stats.batch.quantile(0.5),
                max: stats.batch.max(),
            },
            merged: Merged {
                requests: stats.merged,
                calls: stats.merged_calls,
            },
            interrupts_sent: stats.interrupts,
            interrupts_suppressed: stats.suppressed,
            register_exits,
            register_exits_per_request: register_exits as f64 / requests.max(1) as f64,
            mapped_acks,
            skipped_heads: stats.skipped,
        }
    }
}

impl RequestRow {
    fn new(kind: RequestKind, stats: &QueueStats) -> Self {
        let requests = stats.requests(kind);
        Self {
            kind: kind.name(),
            count: requests.count(),
            failed: requests.failed,
            bytes: requests.bytes,
            latency_ns: Times::of(&requests.latency),
        }
    }

    fn all(stats: &QueueStats) -> Self {
        let kinds = || RequestKind::ALL.iter().map(|kind| stats.requests(*kind));
        Self {
            kind: "all",
            count: stats.request_count(),
            failed: kinds().map(|requests| requests.failed).sum(),
            bytes: kinds().map(|requests| requests.bytes).sum(),
            latency_ns: Times::of(&stats.latency()),
        }
    }
}
