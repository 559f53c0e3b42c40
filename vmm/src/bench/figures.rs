//! A report as one list of figures, each with a name that stays the same from report to report:
//! what is kept as CSV and what is compared. The one figure that is computed here is the ratio of
//! what was measured in turns.

use std::borrow::Cow;

use super::report::{Block, BlockCell, Exits, Report, Series, Start, Throughput};

/// One figure of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure<'a> {
    /// The part of the report: `exits`, `block`, `start` or `targets`.
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

/// Figures of one name.
struct Named<'a, 'b> {
    figures: &'b mut Vec<Figure<'a>>,
    section: &'static str,
    name: String,
}

impl<'a> Named<'a, '_> {
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
}

/// All figures of `report`, in its own order.
#[must_use]
pub fn figures(report: &Report) -> Vec<Figure<'_>> {
    let mut figures = Vec::new();
    if let Some(exits) = &report.exits {
        of_exits(&mut figures, exits);
    }
    if let Some(block) = &report.block {
        of_block(&mut figures, block);
    }
    if let Some(start) = &report.start {
        of_start(&mut figures, start);
    }
    for target in &report.targets {
        let mut named = Named {
            figures: &mut figures,
            section: "targets",
            name: target.name.clone(),
        };
        named.number("value", &target.unit, target.value);
        named.number("limit", &target.unit, target.limit);
    }
    figures
}

fn of_exits<'a>(figures: &mut Vec<Figure<'a>>, exits: &'a Exits) {
    for kind in &exits.kinds {
        let Ok(cost) = &kind.cost else { continue };
        let mut named = Named {
            figures,
            section: "exits",
            name: kind.name.clone(),
        };
        named.series("vmm", "ns", &cost.vmm);
        named.series("floor", "ns", &cost.floor);
        if let Some(ratio) = cost.vmm.ratio(&cost.floor) {
            named.push("vmm by floor", "", Value::Series(Cow::Owned(ratio)));
        }
        named.series("with stats", "ns", &cost.with_stats);
        named.series("cpu time", "ns", &cost.cpu);
        named.number("exits counted by vmm", "", cost.exits.vmm);
        if let Some(count) = cost.exits.kernel_to_user {
            named.number("exits to user counted by kvm", "", count);
        }
        if let Some(count) = cost.exits.kernel {
            named.number("exits counted by kvm", "", count);
        }
    }
}

fn of_block<'a>(figures: &mut Vec<Figure<'a>>, block: &'a Block) {
    for cell in &block.cells {
        let mut named = Named {
            figures,
            section: "block",
            name: cell_name(cell),
        };
        if let Ok(figures) = &cell.figures {
            throughput(&mut named, "", &figures.throughput);
            named.number("exits per request", "", figures.exits);
            named.number("notify exits per request", "", figures.notify_exits);
            named.number("notifications per request", "", figures.notifications);
            named.number("interrupts per request", "", figures.interrupts);
            named.number("cpu guest", "ns", figures.cpu.guest);
            named.number("cpu kernel", "ns", figures.cpu.kernel);
            named.number("cpu vmm", "ns", figures.cpu.vmm);
        }
        for (floor, figures) in &cell.floors {
            if let Ok(figures) = figures {
                throughput(&mut named, &format!("{floor} "), figures);
            }
        }
    }
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

fn throughput<'a>(named: &mut Named<'a, '_>, prefix: &str, figures: &'a Throughput) {
    named.series(&format!("{prefix}iops"), "1/s", &figures.iops);
    for (metric, value) in [
        ("latency p50", figures.latency.p50),
        ("latency p99", figures.latency.p99),
        ("latency p99.9", figures.latency.p999),
    ] {
        named.number(&format!("{prefix}{metric}"), "ns", value as f64);
    }
}

fn of_start<'a>(figures: &mut Vec<Figure<'a>>, start: &'a Start) {
    let mut named = Named {
        figures,
        section: "start",
        name: "exec to first serial byte".into(),
    };
    named.series("vmm", "ns", &start.vmm);
    named.series("floor", "ns", &start.floor);
    if let Some(ratio) = start.vmm.ratio(&start.floor) {
        named.push("vmm by floor", "", Value::Series(Cow::Owned(ratio)));
    }
    named.series("exec alone", "ns", &start.exec);
    named.name = "memory beyond the guest's".into();
    named.number("vmm", "bytes", start.resident as f64);
    named.number("floor", "bytes", start.floor_resident as f64);
}
