//! A report as text: aligned tables, readable without colour.

use std::fmt::Display;

use super::report::{ExitRow, Merged, QueueReport, Report, Times, VcpuReport};
use crate::table::align;

/// `report` as lines of text.
pub(super) fn render(report: &Report) -> String {
    let mut out = format!("vmm: statistics of {:.3} s\n", report.seconds);
    exits(&mut out, report);
    for queue in &report.queues {
        requests(&mut out, queue);
        if queue.queue + 1 == queue.queues {
            disk(&mut out, queue);
        }
    }
    counters(&mut out, &report.vcpus);
    out
}

/// A table: its first columns are words, and the others numbers.
struct Table {
    words: usize,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new<S: Display>(words: &[&str], numbers: impl IntoIterator<Item = S>) -> Self {
        let mut table = Self {
            words: words.len(),
            rows: Vec::new(),
        };
        table.row(words, numbers);
        table
    }

    fn row<S: Display>(&mut self, words: &[&str], numbers: impl IntoIterator<Item = S>) {
        let words = words.iter().map(ToString::to_string);
        let numbers = numbers.into_iter().map(|number| number.to_string());
        self.rows.push(words.chain(numbers).collect());
    }

    fn render(&self, out: &mut String) {
        *out += &align(self.rows.iter(), self.words);
    }
}

fn exits(out: &mut String, report: &Report) {
    *out += "\nExits to user space, and how long each was handled there\n";
    let mut table = Table::new(
        &["exit", "device", "register"],
        ["count", "share", "p50 ns", "p99 ns", "max ns"],
    );
    for row in &report.exits {
        let (device, register) = place(row);
        let (count, share) = (row.count.to_string(), format!("{:.1}%", row.share * 100.0));
        let times = [row.time_ns.p50, row.time_ns.p99, row.time_ns.max];
        let numbers = [count, share].into_iter();
        table.row(
            &[row.exit.name(), &device, &register],
            numbers.chain(times.map(|time| time.to_string())),
        );
    }
    let all: u64 = report.exits.iter().map(|row| row.count).sum();
    table.row(&["all", "", ""], [&all.to_string(), "100.0%"]);
    table.render(out);
}

/// Device and register of an exit.
fn place(row: &ExitRow) -> (String, String) {
    match (&row.device, &row.register, row.address) {
        (Some(device), Some(register), _) => (device.clone(), register.clone()),
        (_, _, Some(address)) => ("none".to_owned(), format!("{address:#x}")),
        _ if row.exit.space().is_some() => ("other addresses".to_owned(), String::new()),
        _ => (String::new(), String::new()),
    }
}

fn requests(out: &mut String, queue: &QueueReport) {
    let which = match queue.queues {
        1 => String::new(),
        _ => format!(" in queue {}", queue.queue),
    };
    *out += &format!(
        "\nRequests of {}{which}, and how long each took from the available to the used ring\n",
        queue.device
    );
    let mut table = Table::new(
        &["type"],
        [
            "count", "failed", "bytes", "p50 ns", "p99 ns", "p99.9 ns", "max ns",
        ],
    );
    for row in queue.requests.iter().chain([&queue.all]) {
        let Times {
            p50,
            p99,
            p999,
            max,
        } = row.latency_ns;
        let numbers = [row.count, row.failed, row.bytes, p50, p99, p999, max];
        table.row(&[row.kind], numbers);
    }
    table.render(out);

    let drains: u64 = queue.drains.values().sum();
    *out += &format!("  drains: {drains}");
    for (cause, count) in queue.drains.iter().filter(|(_, count)| **count > 0) {
        *out += &format!(", {count} by {cause}");
    }
    *out += &format!("; {} found nothing\n", queue.empty_drains);
    *out += &format!(
        "  requests per drain: mean {:.1}, p50 {}, max {}\n",
        queue.batch.mean, queue.batch.p50, queue.batch.max
    );
    let Merged { requests, calls } = queue.merged;
    if requests > 0 {
        *out += &format!("  neighbours merged: {requests} requests into {calls} calls\n");
    }
    *out += &format!(
        "  interrupts: {} sent, {} suppressed\n",
        queue.interrupts_sent, queue.interrupts_suppressed
    );
    if queue.skipped_heads > 0 {
        *out += &format!("  heads skipped: {}\n", queue.skipped_heads);
    }
}

/// What there is to tell of a whole disk, below its last queue.
fn disk(out: &mut String, last: &QueueReport) {
    if last.queues > 1 {
        *out += &format!("\nAll {} queues of {}\n", last.queues, last.device);
    }
    *out += &format!(
        "  exits at its registers: {}, {:.2} a request\n",
        last.register_exits, last.register_exits_per_request
    );
    *out += &format!("  engine: {}\n", last.engine);
    if let Some(acks) = last.mapped_acks {
        *out += &format!(
            "  registers mapped: {acks} acknowledgements did not exit, nor did any read\n"
        );
    }
}

/// The counters of KVM, a column for each vCPU, below the exits that this program has seen. Those
/// that are 0 everywhere are left out.
fn counters(out: &mut String, vcpus: &[VcpuReport]) {
    *out += "\nCounters of KVM by vCPU, and the exits counted here\n";
    if let Some(error) = vcpus.iter().find_map(|vcpu| vcpu.kvm_error.as_ref()) {
        *out += &format!("  {error}\n");
    }
    let numbers = (0..vcpus.len()).map(|index| format!("vcpu{index}"));
    let mut table = Table::new(&["counter"], numbers);
    table.row(
        &["exits to user space"],
        vcpus.iter().map(|vcpu| vcpu.exits),
    );
    let known = vcpus.iter().find_map(|vcpu| vcpu.kvm.as_ref());
    for name in known.into_iter().flat_map(|kvm| kvm.keys()) {
        let value = |vcpu: &VcpuReport| vcpu.kvm.as_ref()?.get(name).copied();
        let values = vcpus.iter().map(|vcpu| value(vcpu).unwrap_or(0));
        if values.clone().any(|value| value > 0) {
            table.row(&[name], values);
        }
    }
    table.render(out);
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
