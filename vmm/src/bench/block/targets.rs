//! What the figures of block I/O were to reach. Of a matrix without the cells that a target is about
//! there is none.

use super::super::report::{BlockFigures, Series, Target};
use super::cell::Measurement;
use super::options::Wait;
use super::span::NotifySpan;
use crate::config::Notify;

/// The depth that most targets are about.
const DEPTH: u32 = 32;

/// The targets for which there are figures.
pub(super) fn of(cells: &[Measurement], span: Option<&NotifySpan>) -> Vec<Target> {
    let mut targets: Vec<Target> = span.and_then(notify_span).into_iter().collect();
    if let Some((from, figures)) = at_depth(cells, Notify::Trap, Wait::Irq) {
        targets.push(target(
            "notify exits per request",
            figures.notify_exits,
            0.10,
            &from,
        ));
        targets.push(target(
            "interrupts per request",
            figures.interrupts,
            0.15,
            &from,
        ));
    }
    if let Some((from, figures)) = at_depth(cells, Notify::Poll, Wait::Poll) {
        targets.push(target(
            "exits per request while polling",
            figures.exits,
            0.01,
            &from,
        ));
    }
    targets
}

fn target(name: &str, value: f64, limit: f64, cell: &str) -> Target {
    Target {
        name: format!("{name}, depth {DEPTH}"),
        value,
        limit,
        unit: String::new(),
        from: format!("the cell {cell}, in its round with statistics"),
    }
}

/// The name and the figures of the first cell of that depth.
fn at_depth(cells: &[Measurement], notify: Notify, wait: Wait) -> Option<(String, BlockFigures)> {
    let is_it = |measurement: &&Measurement| {
        let cell = measurement.cell;
        (cell.notify, cell.wait, cell.io.depth) == (notify, wait, DEPTH)
    };
    let measurement = cells.iter().find(is_it)?;
    Some((measurement.name(), measurement.figures().ok()?))
}

fn notify_span(span: &NotifySpan) -> Option<Target> {
    let series = |rounds: &[f64]| Series::new(rounds.to_vec());
    let found = span.found.as_ref().ok()?;
    let (spans, floors) = (series(&found.spans), series(&found.floors));
    let ratio = spans
        .ratio(&floors)
        .filter(|ratio| !ratio.samples.is_empty())?;
    Some(Target {
        name: "4 KiB read, depth 1, trap: from notify to handler against the floor".into(),
        value: ratio.summary.median,
        limit: 1.10,
        unit: String::new(),
        from: format!(
            "from before the guest's write to QueueNotify to its interrupt handler, {:.0} ns, by the \
             same of a bare loop around KVM_RUN that makes one pread and raises an interrupt, \
             {:.0} ns: medians of a round each, and of the rounds' ratios the median",
            spans.summary.median, floors.summary.median
        ),
    })
}
