//! What a report's tables hold, cell by cell, as text. How they are drawn is for `text.rs` and
//! `html.rs`.

mod exits;
mod linux;
mod queues;

use super::format::{count, digits, mib, share, size, time, with_unit};
use super::report::{
    Block, BlockCell, BlockFigures, Report, Series, Start, Summary, Target, Throughput,
};

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// A heading for each column; none where there are no rows either.
    pub head: Vec<String>,
    /// Rows of as many cells. The first names the row.
    pub rows: Vec<Vec<String>>,
    /// What is to be said below it, a sentence each.
    pub notes: Vec<String>,
}

/// Stands for what has not been measured.
const NONE: &str = "-";
const MIB: f64 = (1 << 20) as f64;

/// The tables of `report`, the targets' the last.
#[must_use]
pub fn tables(report: &Report) -> Vec<Table> {
    let mut tables = Vec::new();
    if let Some(exits) = &report.exits {
        tables.extend([exits::times(exits), exits::counts(exits)]);
    }
    if let Some(block) = &report.block {
        for group in groups(block) {
            tables.extend([block_rates(&group), block_costs(&group)]);
        }
        if let Some(last) = tables.last_mut() {
            let (disk, used) = (&block.disk, size(block.size));
            last.notes
                .push(format!("The disk: {disk}, of which {used} are used."));
            last.notes.extend(block.notes.iter().cloned());
        }
        tables.extend(queues::tables(block));
    }
    if let Some(linux) = &report.linux {
        tables.extend(linux::tables(linux));
    }
    if let Some(start) = &report.start {
        tables.push(start_up(start));
    }
    if !report.targets.is_empty() {
        tables.push(targets(&report.targets));
    }
    tables
}

/// Cells that differ only in the notify mode and the depth.
pub struct Group<'a> {
    /// Such as `4 KiB randread, waiting by irq`.
    pub title: String,
    /// The cells.
    pub cells: Vec<&'a BlockCell>,
}

/// The cells of `block`, put together with those that they can be compared with.
#[must_use]
pub fn groups(block: &Block) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for cell in &block.cells {
        let title = format!(
            "{} {}, waiting by {}",
            size(cell.block_size),
            cell.rw,
            cell.wait
        );
        match groups.iter_mut().find(|group| group.title == title) {
            Some(group) => group.cells.push(cell),
            None => groups.push(Group {
                title,
                cells: vec![cell],
            }),
        }
    }
    groups
}

impl Group<'_> {
    /// Names of the floors of its cells.
    #[must_use]
    pub fn floors(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.cells.iter().flat_map(|cell| &cell.floors) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// The cells that have been measured, each with its figures.
    fn measured(&self) -> impl Iterator<Item = (&BlockCell, &BlockFigures)> {
        let cells = self.cells.iter();
        cells.filter_map(|cell| Some((*cell, cell.figures.as_ref().ok()?)))
    }

    /// Why other cells and floors have not.
    fn reasons(&self) -> Vec<String> {
        let mut notes = Vec::new();
        // The reason that a floor cannot be measured is the same in every cell.
        let mut add = |note: String| {
            if !notes.contains(&note) {
                notes.push(note);
            }
        };
        for cell in &self.cells {
            let (notify, depth) = (&cell.notify, cell.depth);
            if let Err(reason) = &cell.figures {
                add(format!("notify={notify}, depth {depth}: {reason}"));
            }
            for (name, floor) in &cell.floors {
                if let Err(reason) = floor {
                    add(format!("{name}: {reason}"));
                }
            }
        }
        notes
    }
}

/// What a cell's floor of the name `name` came to, if it was measured.
#[must_use]
pub fn floor<'a>(cell: &'a BlockCell, name: &str) -> Option<&'a Throughput> {
    let (_, floor) = cell.floors.iter().find(|(floor, _)| floor == name)?;
    floor.as_ref().ok()
}

fn block_rates(group: &Group<'_>) -> Table {
    let floors = group.floors();
    let row = |(cell, figures): (&BlockCell, &BlockFigures)| {
        let Throughput { iops, latency } = &figures.throughput;
        let mut row = vec![
            cell.notify.clone(),
            cell.depth.to_string(),
            digits(iops.summary.median),
            digits(iops.summary.median * cell.block_size as f64 / MIB),
            time(latency.p50 as f64),
            time(latency.p99 as f64),
            time(latency.p999 as f64),
        ];
        row.extend(floors.iter().map(|name| {
            floor(cell, name).map_or(NONE.into(), |floor| digits(floor.iops.summary.median))
        }));
        row
    };
    let names = floors.iter().map(|name| (*name).into());
    Table {
        title: format!("Block I/O, {}: how fast, and the floors' IOPS", group.title),
        head: head("notify | depth | IOPS | MiB/s | p50 | p99 | p99.9")
            .into_iter()
            .chain(names)
            .collect(),
        rows: group.measured().map(row).collect(),
        notes: group.reasons(),
    }
}

fn block_costs(group: &Group<'_>) -> Table {
    let row = |(cell, figures): (&BlockCell, &BlockFigures)| {
        let cpu = figures.cpu;
        vec![
            cell.notify.clone(),
            cell.depth.to_string(),
            count(figures.exits),
            count(figures.notify_exits),
            count(figures.notifications),
            count(figures.interrupts),
            time(cpu.guest + cpu.kernel + cpu.vmm),
            time(cpu.guest),
            time(cpu.kernel),
            time(cpu.vmm),
        ]
    };
    Table {
        title: format!("Block I/O, {}: what one request takes", group.title),
        head: head(
            "notify | depth | exits | by notify | notified | irqs | CPU | guest | kernel | VMM",
        ),
        rows: group.measured().map(row).collect(),
        notes: Vec::new(),
    }
}

fn start_up(start: &Start) -> Table {
    let row = |name: &str, series: &Series, memory: String| {
        vec![
            name.into(),
            time(series.summary.median),
            time(series.summary.min),
            time(series.summary.p99),
            mean(series),
            memory,
        ]
    };
    Table {
        title: "Start: from exec to the guest's first serial byte".into(),
        head: head("program | median | min | p99 | mean ± 95 % | memory"),
        rows: vec![
            row("vmm", &start.vmm, mib(start.resident as f64)),
            row("minimal program", &start.floor, mib(start.floor_resident as f64)),
            row("exec alone", &start.exec, NONE.into()),
        ],
        notes: vec![
            "The minimal program makes the same VM and is executed from the same file; 'exec alone' \
             only writes a byte, and is part of both."
                .into(),
            "Memory: the most that was resident, without what the guest touched of its own.".into(),
        ],
    }
}

fn targets(targets: &[Target]) -> Table {
    let figure = |value: f64, unit: &str| match unit {
        "" => count(value),
        unit => with_unit(value, unit),
    };
    let row = |target: &Target| {
        let verdict = if target.is_met() { "met" } else { "NOT met" };
        vec![
            target.name.clone(),
            figure(target.value, &target.unit),
            figure(target.limit, &target.unit),
            verdict.into(),
        ]
    };
    Table {
        title: "Targets".into(),
        head: head(" | figure | at most | "),
        rows: targets.iter().map(row).collect(),
        notes: Vec::new(),
    }
}

/// Mean of a series, with its interval of confidence.
fn mean(series: &Series) -> String {
    let Summary {
        mean, mean_ci95, ..
    } = series.summary;
    let percent = if mean > 0.0 {
        100.0 * mean_ci95 / mean
    } else {
        0.0
    };
    format!("{} ±{}", time(mean), share(percent))
}

/// The headings that `names` are.
pub(super) fn head(names: &str) -> Vec<String> {
    names.split(" | ").map(Into::into).collect()
}
