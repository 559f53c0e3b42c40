//! A report as one list of figures, each with a name that stays the same from report to report:
//! what is kept as CSV and what is compared. The only figures that are computed here are
//! ratios of what was measured in turns.

use std::borrow::Cow;

use super::report::{
    Block, BlockCell, Exits, Linux, QueuesCell, Report, Series, Start, Throughput,
};

/// One figure of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure<'a> {
    /// The part of the report: `exits`, `block`, `linux`, `start` or `targets`.
    pub section: &'static str,
    /// What has been measured, such as `mmio write`.
    pub name: String,
    /// Which figure of it, such as `vmm` or `exits per request`.
    pub metric: String,
    /// Its unit; empty for a plain number.
    pub unit: &'a str,
    /// The figure.
    pub value: Value<'a>,
}

/// The value of a [`Figure`].
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// Measured again and again.
    Series(Cow<'a, Series>),
    /// Counted, or computed from many measurements that have not been kept.
    Number(f64),
}

/// All figures of `report`, in its own order.
#[must_use]
pub fn figures(report: &Report) -> Vec<Figure<'_>> {
    let mut list = List::default();
    if let Some(exits) = &report.exits {
        list.exits(exits);
    }
    if let Some(block) = &report.block {
        list.block(block);
    }
    if let Some(linux) = &report.linux {
        list.linux(linux);
    }
    if let Some(start) = &report.start {
        list.start(start);
    }
    for target in &report.targets {
        list.begin("targets", target.name.clone());
        list.number("value", &target.unit, target.value);
        list.number("limit", &target.unit, target.limit);
    }
    list.figures
}

/// What tells a cell from all others, as text.
#[must_use]
pub fn cell_name(cell: &BlockCell) -> String {
    let BlockCell {
        rw,
        block_size,
        depth,
        notify,
        wait,
        ..
    } = cell;
    format!("{rw} bs={block_size} depth={depth} notify={notify} wait={wait}")
}

/// The figures so far, and the name of those to come.
#[derive(Default)]
struct List<'a> {
    figures: Vec<Figure<'a>>,
    section: &'static str,
    name: String,
}

impl<'a> List<'a> {
    /// The figures to come are of `name`, in `section`.
    fn begin(&mut self, section: &'static str, name: String) {
        (self.section, self.name) = (section, name);
    }

    fn series(&mut self, metric: &str, unit: &'a str, series: &'a Series) {
        self.push(metric, unit, Value::Series(Cow::Borrowed(series)));
    }

    fn number(&mut self, metric: &str, unit: &'a str, number: f64) {
        self.push(metric, unit, Value::Number(number));
    }

    fn push(&mut self, metric: &str, unit: &'a str, value: Value<'a>) {
        self.figures.push(Figure {
            section: self.section,
            name: self.name.clone(),
            metric: metric.into(),
            unit,
            value,
        });
    }

    /// The times of this VMM and of the floor, and the ratio of those of a round.
    fn beside_floor(&mut self, vmm: &'a Series, floor: &'a Series) {
        self.series("vmm", "ns", vmm);
        self.series("floor", "ns", floor);
        if let Some(ratio) = vmm.ratio(floor) {
            self.push("vmm by floor", "", Value::Series(Cow::Owned(ratio)));
        }
    }

    fn exits(&mut self, exits: &'a Exits) {
        for kind in &exits.kinds {
            let Ok(cost) = &kind.cost else { continue };
            self.begin("exits", kind.name.clone());
            self.beside_floor(&cost.vmm, &cost.floor);
            self.series("with stats", "ns", &cost.with_stats);
            self.series("cpu time", "ns", &cost.cpu);
            self.number("exits counted by vmm", "", cost.exits.vmm);
            if let Some(count) = cost.exits.kernel_to_user {
                self.number("exits to user counted by kvm", "", count);
            }
            if let Some(count) = cost.exits.kernel {
                self.number("exits counted by kvm", "", count);
            }
        }
    }

    fn block(&mut self, block: &'a Block) {
        for cell in &block.cells {
            self.begin("block", cell_name(cell));
            self.cell(cell);
        }
        for QueuesCell {
            queues,
            cpus,
            registers,
            cell,
        } in &block.queues
        {
            let name = cell_name(cell);
            let name = format!("{name} registers={registers} queues={queues} cpus={cpus}");
            self.begin("block", name);
            self.cell(cell);
        }
    }

    fn cell(&mut self, cell: &'a BlockCell) {
        if let Ok(figures) = &cell.figures {
            self.throughput("", &figures.throughput);
            self.number("exits per request", "", figures.exits);
            self.number("notify exits per request", "", figures.notify_exits);
            self.number("notifications per request", "", figures.notifications);
            self.number("interrupts per request", "", figures.interrupts);
            self.number("cpu guest", "ns", figures.cpu.guest);
            self.number("cpu kernel", "ns", figures.cpu.kernel);
            self.number("cpu vmm", "ns", figures.cpu.vmm);
        }
        for (floor, figures) in &cell.floors {
            if let Ok(figures) = figures {
                self.throughput(&format!("{floor} "), figures);
            }
        }
    }

    fn throughput(&mut self, prefix: &str, figures: &'a Throughput) {
        self.series(&format!("{prefix}iops"), "1/s", &figures.iops);
        for (metric, value) in [
            ("latency p50", figures.latency.p50),
            ("latency p99", figures.latency.p99),
            ("latency p99.9", figures.latency.p999),
        ] {
            self.number(&format!("{prefix}{metric}"), "ns", value as f64);
        }
    }

    fn linux(&mut self, linux: &'a Linux) {
        for disk in &linux.disks {
            self.begin(
                "linux",
                format!("{} {}", disk.machine, disk.options).trim().into(),
            );
            self.series("iops", "1/s", &disk.iops);
            if let Some(ratio) = linux.by_trap(disk, |disk| &disk.iops) {
                self.push("iops by trap", "", Value::Series(Cow::Owned(ratio)));
            }
            self.series("latency p50", "ns", &disk.latency);
            self.number(
                "exits to user per request counted by kvm",
                "",
                disk.exits_to_user,
            );
            self.number("exits per request counted by kvm", "", disk.exits);
            self.series("scattered 1 MiB reads", "MiB/s", &disk.scattered);
        }
    }

    fn start(&mut self, start: &'a Start) {
        self.begin("start", "exec to first serial byte".into());
        self.beside_floor(&start.vmm, &start.floor);
        self.series("exec alone", "ns", &start.exec);
        self.begin("start", "memory beyond the guest's".into());
        self.number("vmm", "bytes", start.resident as f64);
        self.number("floor", "bytes", start.floor_resident as f64);
    }
}
