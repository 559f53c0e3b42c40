//! What the figures of block I/O were to reach. Of a matrix without the cells that a target is about
//! there is none.

use super::super::figures::cell_name;
use super::super::report::{BlockCell, BlockFigures, Series, Target};
use super::options::Wait;
use super::span::NotifySpan;
use crate::config::Notify;

/// The depth that most targets are about.
const DEPTH: u32 = 32;

/// The targets for which there are figures.
pub(super) fn of(cells: &[BlockCell], span: Option<&NotifySpan>) -> Vec<Target> {
    let mut targets: Vec<Target> = span.and_then(notify_span).into_iter().collect();
    let mut add = |notify, wait, name: &str, limit, value: fn(&BlockFigures) -> f64| {
        if let Some((cell, figures)) = at_depth(cells, notify, wait) {
            targets.push(Target {
                name: format!("{name}, depth {DEPTH}"),
                value: value(figures),
                limit,
                unit: String::new(),
                from: format!("the cell {}, in its round with statistics", cell_name(cell)),
            });
        }
    };
    let (trap, poll) = (Notify::Trap, Notify::Poll);
    add(
        trap,
        Wait::Irq,
        "notify exits per request",
        0.10,
        |figures| figures.notify_exits,
    );
    add(trap, Wait::Irq, "interrupts per request", 0.15, |figures| {
        figures.interrupts
    });
    let name = "exits per request while polling";
    add(poll, Wait::Poll, name, 0.01, |figures| figures.exits);
    targets
}

/// The first cell of that depth, and its figures.
fn at_depth(
    cells: &[BlockCell],
    notify: Notify,
    wait: Wait,
) -> Option<(&BlockCell, &BlockFigures)> {
    let wanted = (notify.name(), wait.name(), DEPTH);
    let cell = (cells.iter()).find(|c| (c.notify.as_str(), c.wait.as_str(), c.depth) == wanted)?;
    Some((cell, cell.figures.as_ref().ok()?))
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
