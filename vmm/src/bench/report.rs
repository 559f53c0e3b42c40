//! What a benchmark found, as data: it is kept as JSON, drawn as tables and pages, and compared.
//! Nothing is measured here, and nothing is formatted.

use serde::{Deserialize, Serialize};

/// Version of the format. A report of another version is refused.
pub const FORMAT: u32 = 1;

/// All that one run of `vmm bench` found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// The machine that it was found on.
    pub host: Host,
    /// What makes the figures less trustworthy, a sentence each.
    pub warnings: Vec<String>,
    /// What exits cost, if they were measured.
    pub exits: Option<Exits>,
    /// What block I/O costs, if it was measured.
    pub block: Option<Block>,
    /// What a stock Linux guest gets from its disk, if that was asked for.
    #[serde(default)]
    pub linux: Option<Linux>,
    /// What it costs to start a machine, if it was measured.
    pub start: Option<Start>,
    /// What the figures were to reach, and whether they do.
    pub targets: Vec<Target>,
}

/// The machine that the benchmark ran on: names and values, in the order in which they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// When, in seconds since 1970.
    pub time: u64,
    /// Version of this program.
    pub vmm: String,
    /// Such as ("CPU", "AMD EPYC 7763") or ("KVM module", "kvm_amd, nested").
    pub facts: Vec<(String, String)>,
}

/// What exits cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exits {
    /// Frequency of the guest's TSC, in kHz, as KVM gives it; if it does not, by the host's clock.
    pub tsc_khz: u32,
    /// The same by the host's clock.
    pub tsc_khz_by_clock: u32,
    /// Each kind, in the order of measurement.
    pub kinds: Vec<ExitKind>,
}

/// One kind of exit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitKind {
    /// What the guest does, such as `mmio write`.
    pub name: String,
    /// How it was measured, in a sentence.
    pub method: String,
    /// Where it ends.
    pub handled: Handled,
    /// What it costs, or why that cannot be said.
    pub cost: Result<ExitCost, String>,
}

/// Where what the guest does is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Handled {
    /// By the CPU (or what emulates it): the guest is not left.
    Guest,
    /// By KVM.
    Kernel,
    /// By the VMM.
    User,
}

/// What one kind of exit costs. Times are in nanoseconds for one operation, without the loop around
/// it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitCost {
    /// How many operations a sample is the mean of; 1 where each has been timed by itself.
    pub per_sample: u64,
    /// In a machine of this VMM.
    pub vmm: Series,
    /// In the same VM on a bare loop around KVM_RUN.
    pub floor: Series,
    /// In a machine of this VMM with `--stats`.
    pub with_stats: Series,
    /// CPU time of the vCPU's thread, in a machine of this VMM.
    pub cpu: Series,
    /// How many exits there were for one operation.
    pub exits: ExitCounts,
}

/// Exits for one operation, as seen from two sides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitCounts {
    /// Returns of KVM_RUN, as `--stats` counts them.
    pub vmm: f64,
    /// The same as KVM counts them, if it does: its `io_exits`, `mmio_exits` and `signal_exits`.
    /// Among the first are accesses to ports that KVM handles itself.
    pub kernel_to_user: Option<f64>,
    /// All exits that KVM counts, those among them that it handles itself.
    pub kernel: Option<f64>,
}

/// Measurements of one thing, and what they come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The measurements, in the order in which they were made.
    pub samples: Vec<f64>,
    /// What they come to.
    pub summary: Summary,
}

/// What a series comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The least.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// The one that 99 of 100 do not exceed.
    pub p99: f64,
    /// The mean.
    pub mean: f64,
    /// Half the width of the interval in which the mean lies with a confidence of 95 %.
    pub mean_ci95: f64,
}

/// What block I/O costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// The disk: a scratch file in memory or on a disk, or the user's.
    pub disk: String,
    /// Size of what is read and written, in bytes.
    pub size: u64,
    /// Each combination that was measured.
    pub cells: Vec<BlockCell>,
    /// How that was done, and what the figures do not tell, a sentence each.
    pub notes: Vec<String>,
    /// Each combination in which several CPUs were at it.
    #[serde(default)]
    pub queues: Vec<QueuesCell>,
    /// How that was done.
    #[serde(default)]
    pub queues_notes: Vec<String>,
}

/// Block I/O by several CPUs, each with a queue of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueuesCell {
    /// How many queues were used, and CPUs at it.
    pub queues: u32,
    /// How many CPUs the machine has, and queues the disk.
    pub cpus: u32,
    /// How the guest reaches the device's registers: a value of `--disk ...,registers=`.
    pub registers: String,
    /// All else. The depth is that of each queue.
    pub cell: BlockCell,
}

/// Block I/O in one way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockCell {
    /// `randread`, `randwrite`, `read` or `write`.
    pub rw: String,
    /// Size of a request, in bytes.
    pub block_size: u64,
    /// How many requests are in flight.
    pub depth: u32,
    /// How notifications reach the device: a value of `--disk ...,notify=`.
    pub notify: String,
    /// How the guest waits: `irq` or `poll`.
    pub wait: String,
    /// What the guest got from it, or why that cannot be said.
    pub figures: Result<BlockFigures, String>,
    /// The same pattern by system calls on the same file, without a guest, by name (`pread`,
    /// `io_uring`), or why there is none.
    pub floors: Vec<(String, Result<Throughput, String>)>,
}

/// How much, and how fast.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Requests per second, of each round.
    pub iops: Series,
    /// Latency of requests, in nanoseconds.
    pub latency: Latency,
}

/// Percentiles of the latency of requests, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// How many requests.
    pub count: u64,
    /// The least.
    pub min: u64,
    /// Half of them.
    pub p50: u64,
    /// 99 of 100.
    pub p99: u64,
    /// 999 of 1000.
    pub p999: u64,
    /// All.
    pub max: u64,
}

/// What the guest got, and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockFigures {
    /// What the guest got.
    pub throughput: Throughput,
    /// Exits to user space for one request, whatever they are for.
    pub exits: f64,
    /// Exits to user space by a notification of the guest, for one request.
    pub notify_exits: f64,
    /// Notifications that the guest sent for one request, wherever they ended.
    pub notifications: f64,
    /// Interrupts that the device raised for one request.
    pub interrupts: f64,
    /// CPU time of the host for one request, in nanoseconds.
    pub cpu: CpuSplit,
}

/// CPU time of the host, in nanoseconds, by where it was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuSplit {
    /// In the guest, or what the kernel accounts as such.
    pub guest: f64,
    /// In the kernel, on behalf of the threads of the machine.
    pub kernel: f64,
    /// In the VMM's own code.
    pub vmm: f64,
}

/// What a stock Linux guest of one CPU gets from its disk, one request at a time past its page cache.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linux {
    /// The machine that it was measured on, if it was.
    pub host: Option<LinuxHost>,
    /// Each disk, in the order of measurement.
    pub disks: Vec<LinuxDisk>,
    /// What was not measured and why, a sentence each.
    pub missing: Vec<String>,
}

/// The machine that a Linux guest was measured on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinuxHost {
    /// Its CPU and kernel.
    pub description: String,
    /// Whether its CPU is itself emulated, so that only ratios mean something.
    pub emulated: bool,
}

/// A disk of a Linux guest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinuxDisk {
    /// The VMM: `vmm` for this one, or such as `QEMU 7.2.22 microvm`.
    pub machine: String,
    /// The options that set it apart, such as `registers=mapped notify=trap`.
    pub options: String,
    /// Random reads of 4 KiB a second, of each round.
    pub iops: Series,
    /// The median of their latency, in nanoseconds, of each round.
    pub latency: Series,
    /// All exits that KVM counted for one of them.
    pub exits: f64,
    /// Those among them that may be handed to user space.
    pub exits_to_user: f64,
    /// Reads of 1 MiB into scattered pages, in MiB a second, of each round.
    pub scattered: Series,
}

/// What it costs to start a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// From exec of this program to the guest's first serial byte, in nanoseconds.
    pub vmm: Series,
    /// The same of a minimal program that makes the same VM.
    pub floor: Series,
    /// The part of both that is to execute this program, which holds the minimal one: from exec to
    /// a byte that it writes at once.
    pub exec: Series,
    /// Most memory that the VMM had at once beyond the pages that the guest touched, in bytes.
    pub resident: u64,
    /// The same of the minimal program.
    pub floor_resident: u64,
}

/// What a figure was to reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// What is compared, in a few words.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// What it was to stay at or below.
    pub limit: f64,
    /// Its unit; empty for a ratio.
    pub unit: String,
    /// What the figure was computed from, in a sentence.
    pub from: String,
}

impl Target {
    /// Whether the figure reaches it.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.value <= self.limit
    }
}
