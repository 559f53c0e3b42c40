//! A report in a few sentences: what this VMM costs above the floor.

use super::format::{beyond, digits, size, time};
use super::linux::TRAP;
use super::report::{BlockCell, ExitCost, ExitKind, Handled, LinuxDisk, Report};

/// The sentences, the most important first.
#[must_use]
pub fn headline(report: &Report) -> Vec<String> {
    [
        exits(report),
        block(report),
        linux(report),
        start(report),
        targets(report),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Cost above the floor of the exits that this VMM handles.
fn exits(report: &Report) -> Option<String> {
    let kinds = &report.exits.as_ref()?.kinds;
    let mut handled: Vec<(&ExitKind, &ExitCost, f64)> = kinds
        .iter()
        .filter(|kind| kind.handled == Handled::User)
        .filter_map(|kind| Some((kind, kind.cost.as_ref().ok()?)))
        // Those that are timed one by one wait for an interrupt too.
        .filter(|(_, cost)| cost.per_sample > 1)
        .filter_map(|(kind, cost)| Some((kind, cost, cost.vmm.ratio(&cost.floor)?.summary.median)))
        .collect();
    handled.sort_by(|(.., a), (.., b)| a.total_cmp(b));
    let (least, most) = (handled.first()?.2, handled.last()?.2);
    let (kind, cost, ratio) = handled.get(handled.len() / 2)?;
    Some(format!(
        "An exit to user space ({}) takes {}, {} against the floor's {} in the same rounds. Of {} \
         kinds handled there, the least is {}, the most {}.",
        kind.name,
        time(cost.vmm.summary.median),
        beyond(*ratio),
        time(cost.floor.summary.median),
        handled.len(),
        beyond(least),
        beyond(most),
    ))
}

/// The slowest and the fastest way to do the same I/O.
fn block(report: &Report) -> Option<String> {
    let cells = &report.block.as_ref()?.cells;
    let first = cells.iter().find(|cell| cell.figures.is_ok())?;
    let mut alike: Vec<(&BlockCell, f64)> = cells
        .iter()
        .filter(|cell| (&cell.rw, cell.block_size) == (&first.rw, first.block_size))
        .filter_map(|cell| {
            let figures = cell.figures.as_ref().ok()?;
            Some((cell, figures.throughput.iops.summary.median))
        })
        .collect();
    alike.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let (slow, fast) = (alike.first()?, alike.last()?);
    let way = |(cell, iops): &(&BlockCell, f64)| {
        format!(
            "{} requests/s (notify={}, depth {}, waiting by {})",
            digits(*iops),
            cell.notify,
            cell.depth,
            cell.wait
        )
    };
    Some(format!(
        "Block I/O, {} {}: from {} to {}.",
        size(first.block_size),
        first.rw,
        way(slow),
        way(fast)
    ))
}

/// The disk from which a Linux guest reads most often, and by how much.
fn linux(report: &Report) -> Option<String> {
    let linux = report.linux.as_ref()?;
    let iops = |disk: &LinuxDisk| disk.iops.summary.median;
    let best = linux.ours().max_by(|a, b| iops(a).total_cmp(&iops(b)))?;
    let by_trap = linux.by_trap(best, |disk| &disk.iops);
    let by_trap = by_trap.map(|ratio| (ratio.summary.median, TRAP.into()));
    let other = linux.other().filter(|other| iops(other) > 0.0);
    let by_other = other.map(|other| (iops(best) / iops(other), other.name()));
    let times = |(ratio, name): (f64, String)| format!(", {} times that of {name}", digits(ratio));
    let emulated = linux.host.as_ref().is_some_and(|host| host.emulated);
    Some(format!(
        "A stock Linux guest{}, 4 KiB random reads one at a time: {} a second with {}{}.",
        if emulated { " on an emulated CPU" } else { "" },
        digits(iops(best)),
        best.name(),
        [by_trap, by_other]
            .into_iter()
            .flatten()
            .map(times)
            .collect::<String>()
    ))
}

fn start(report: &Report) -> Option<String> {
    let start = report.start.as_ref()?;
    Some(format!(
        "From exec to the guest's first serial byte: {}; a minimal program takes {}.",
        time(start.vmm.summary.median),
        time(start.floor.summary.median)
    ))
}

fn targets(report: &Report) -> Option<String> {
    let all = report.targets.len();
    let met = report
        .targets
        .iter()
        .filter(|target| target.is_met())
        .count();
    (all > 0).then(|| format!("Targets met: {met} of {all}."))
}
