//! A report as text for a terminal or a file: aligned, without colour, 100 columns wide.

use std::iter;

use super::headline::headline;
use super::report::{Host, Report};
use super::tables::{Table, tables};
use crate::table::align;

/// The most columns of a line of prose.
const WIDTH: usize = 100;

/// `report` as text, several lines of it.
#[must_use]
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    for sentence in headline(report) {
        prose(&mut out, "", &sentence);
    }
    if let Some(machine) = machine(&report.host) {
        prose(&mut out, "", &machine);
    }
    for table in tables(report) {
        out.push('\n');
        out.push_str(&draw(&table));
    }
    if !report.warnings.is_empty() {
        out.push_str("\nWarnings\n");
        for warning in &report.warnings {
            prose(&mut out, "  ", warning);
        }
    }
    out
}

/// The machine in a few words; all that is known of it is in the page and in the JSON.
fn machine(host: &Host) -> Option<String> {
    const TELLING: [&str; 6] = ["CPU", "CPUs", "Kernel", "KVM module", "Governor", "Pinning"];
    let facts = host.facts.iter();
    let telling = facts.filter(|(name, _)| TELLING.contains(&name.as_str()));
    let telling: Vec<String> = telling
        .map(|(name, fact)| format!("{name} {fact}"))
        .collect();
    (!telling.is_empty()).then(|| format!("Machine: {}.", telling.join("; ")))
}

/// `table` as text: the first column to the left, all others to the right.
#[must_use]
pub fn draw(table: &Table) -> String {
    let head = iter::once(&table.head).filter(|head| !head.is_empty());
    let rows = head.chain(&table.rows);
    let mut out = format!("{}\n{}", table.title, align(rows, 1));
    for note in &table.notes {
        prose(&mut out, "  ", note);
    }
    out
}

/// Adds `sentence` in lines of at most [`WIDTH`] columns, where its words allow, each after
/// `indent`.
pub(super) fn prose(out: &mut String, indent: &str, sentence: &str) {
    let mut line = String::from(indent);
    let mut used = 0;
    for word in sentence.split_whitespace() {
        let length = word.chars().count();
        if used > 0 && indent.len() + used + 1 + length > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from(indent);
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += length;
    }
    out.push_str(&line);
    out.push('\n');
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
