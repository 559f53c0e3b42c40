//! A report as one page that needs nothing else: no script, no style sheet or picture from
//! elsewhere. Whatever the page says of this machine has been escaped.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use maud::{Markup, PreEscaped, html};

use super::headline::headline;
use super::plot::{self, Plot, PlotError};
use super::report::{Exits, Host, Report, Target};
use super::tables::{Group, Table, groups, tables};
use crate::page;

const TITLE: &str = "vmm bench: what virtualization costs";
const STYLE: &str = include_str!("page.css");
/// The page may use nothing but its own style sheet.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// `report` as a page.
///
/// # Errors
/// Where a plot cannot be drawn.
pub fn page(report: &Report) -> Result<String, PlotError> {
    let groups = report.block.as_ref().map(groups).unwrap_or_default();
    let tables = tables(report);
    let section = |name: &str| -> Vec<&Table> {
        tables
            .iter()
            .filter(|table| table.title.starts_with(name))
            .collect()
    };
    let body = html! {
        header {
            h1 { "What virtualization costs on this machine" }
            p.muted { (measured(&report.host)) }
        }
        main {
            ul.headline { @for sentence in headline(report) { li { (sentence) } } }
            @if !report.warnings.is_empty() {
                aside {
                    h2 { "Warnings" }
                    ul { @for warning in &report.warnings { li { (warning) } } }
                }
            }
            @if let Some(exits) = &report.exits {
                section {
                    h2 { "Exits" }
                    (figure(&plot::exits(exits)?))
                    @for shown in section("Exits") { h3 { (shown.title) } (table(shown)) }
                    (methods(exits))
                }
            }
            @for group in &groups {
                section {
                    h2 { "Block I/O: " (group.title) }
                    (block(group)?)
                    @for shown in section(&format!("Block I/O, {}", group.title)) {
                        h3 { (shown.title) }
                        (table(shown))
                    }
                }
            }
            @if !section("Several queues").is_empty() {
                section {
                    h2 { "Block I/O by several queues" }
                    @for shown in section("Several queues") { h3 { (shown.title) } (table(shown)) }
                }
            }
            @if report.linux.is_some() {
                section {
                    h2 { "A stock Linux guest" }
                    @for shown in section("Linux guest") { h3 { (shown.title) } (table(shown)) }
                }
            }
            @for shown in section("Start") { section { h2 { (shown.title) } (table(shown)) } }
            @for shown in section("Targets") {
                section { h2 { (shown.title) } (table(shown)) (sources(&report.targets)) }
            }
            section {
                h2 { "The machine" }
                dl { @for (name, fact) in &report.host.facts { dt { (name) } dd { (fact) } } }
            }
        }
    };
    Ok(page::page(TITLE, POLICY, STYLE, &body))
}

fn measured(host: &Host) -> String {
    let mut text = format!("Measured by vmm {}", host.vmm);
    if let Some(time) = UNIX_EPOCH.checked_add(Duration::from_secs(host.time)) {
        // A time that has no date is left out.
        let mut date = String::new();
        if write!(date, "{}", humantime::format_rfc3339_seconds(time)).is_ok() {
            text = format!("{text}, {date}");
        }
    }
    text
}

fn block(group: &Group<'_>) -> Result<Markup, PlotError> {
    if group.cells.iter().all(|cell| cell.figures.is_err()) {
        return Ok(html! {});
    }
    Ok(html! {
        div.plots {
            (figure(&plot::rates(group)?))
            (figure(&plot::exits_per_request(group)?))
        }
    })
}

fn figure(plot: &Plot) -> Markup {
    html! {
        figure {
            figcaption { (plot.title) }
            (PreEscaped(&plot.svg))
            ul.legend {
                @for (index, name) in plot.legend.iter().enumerate() {
                    li { i class=(format!("c{}", index % plot::COLOURS.len())) {} (name) }
                }
            }
        }
    }
}

fn table(table: &Table) -> Markup {
    html! {
        @if !table.head.is_empty() {
            div.scroll {
                table {
                    thead { tr { @for name in &table.head { th scope="col" { (name) } } } }
                    tbody { @for cells in &table.rows { (row(cells)) } }
                }
            }
        }
        @for note in &table.notes { p.muted { (note) } }
    }
}

fn row(cells: &[String]) -> Markup {
    html! {
        tr {
            @for (column, cell) in cells.iter().enumerate() {
                @if column == 0 { th scope="row" { (cell) } }
                @else if cell == "NOT met" { td { strong { (cell) } } }
                @else { td { (cell) } }
            }
        }
    }
}

fn methods(exits: &Exits) -> Markup {
    html! {
        details {
            summary { "How each of these figures was obtained" }
            dl {
                @for kind in &exits.kinds {
                    dt { (kind.name) }
                    dd {
                        (kind.method)
                        @if let Ok(cost) = &kind.cost {
                            " " (cost.vmm.samples.len()) " samples, "
                            @if cost.per_sample == 1 { "each of one operation." }
                            @else { "each the mean of " (cost.per_sample) " operations." }
                        }
                    }
                }
            }
        }
    }
}

fn sources(targets: &[Target]) -> Markup {
    html! {
        details {
            summary { "What these figures were computed from" }
            dl { @for target in targets { dt { (target.name) } dd { (target.from) } } }
        }
    }
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
