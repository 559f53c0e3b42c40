//! The tables of block I/O by several CPUs, each with a queue of its own: how the rate grows with the
//! queues, and what one request takes.

use super::super::format::{count, digits, size, time};
use super::super::report::{Block, BlockFigures, QueuesCell};
use super::{NONE, Table, head};

/// A table for each kind of request.
pub(super) fn tables(block: &Block) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for cell in &block.queues {
        let title = title(cell);
        let at = match tables.iter().position(|table| table.title == title) {
            Some(at) => at,
            None => {
                tables.push(Table {
                    title,
                    head: head(
                        "notify | registers | queues | IOPS | of one | p50 | p99 | exits | notified \
                         | irqs | CPU",
                    ),
                    rows: Vec::new(),
                    notes: Vec::new(),
                });
                tables.len() - 1
            }
        };
        let Some(table) = tables.get_mut(at) else {
            continue;
        };
        match &cell.cell.figures {
            Ok(figures) => table.rows.push(row(block, cell, figures)),
            Err(reason) => table.notes.push(format!(
                "notify={}, registers={}, {} queues: {reason}",
                cell.cell.notify, cell.registers, cell.queues
            )),
        }
    }
    if let Some(last) = tables.last_mut() {
        last.notes.extend(block.queues_notes.iter().cloned());
    }
    tables
}

fn title(cell: &QueuesCell) -> String {
    let QueuesCell { cpus, cell, .. } = cell;
    format!(
        "Several queues, {} {}, depth {} each, {cpus} CPUs, waiting by {}",
        size(cell.block_size),
        cell.rw,
        cell.depth,
        cell.wait
    )
}

fn row(block: &Block, cell: &QueuesCell, figures: &BlockFigures) -> Vec<String> {
    let (iops, latency) = (&figures.throughput.iops, figures.throughput.latency);
    // The cell that differs in nothing but that it has one queue.
    let one = block.queues.iter().find(|other| {
        let alike = (&other.registers, &other.cell.notify) == (&cell.registers, &cell.cell.notify);
        alike && other.queues == 1 && title(other) == title(cell)
    });
    let one = one.and_then(|one| one.cell.figures.as_ref().ok());
    let growth = one.map(|one| iops.summary.median / one.throughput.iops.summary.median);
    let cpu = figures.cpu;
    vec![
        cell.cell.notify.clone(),
        cell.registers.clone(),
        cell.queues.to_string(),
        digits(iops.summary.median),
        growth.map_or(NONE.into(), |growth| format!("{growth:.2}")),
        time(latency.p50 as f64),
        time(latency.p99 as f64),
        count(figures.exits),
        count(figures.notifications),
        count(figures.interrupts),
        time(cpu.guest + cpu.kernel + cpu.vmm),
    ]
}
