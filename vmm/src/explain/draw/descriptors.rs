//! The drawing of the Descriptor Area: the chain, and whose it is.

use maud::{Markup, html};

use super::super::story::{Story, TableEntry};
use super::super::words;
use super::{DESCRIPTOR_AREA, Frame, MOST, ends, more, panel, who};

/// The Descriptor Area, and the indirect table if there is one.
pub fn descriptors(story: &Story, frame: &Frame<'_>) -> Markup {
    let now = frame.now();
    let size = u32::from(story.queue.size);
    let has_chain = !now.buffers.is_empty();
    let inside = html! {
        (table(frame, &now.descriptors, &frame.before.descriptors, size))
        @if let Some(indirect) = &now.indirect {
            @let before = frame.before.indirect.as_ref().filter(|table| table.address == indirect.address);
            h4 { "Indirect table " code { (format!("{:#x}", indirect.address)) } }
            (table(frame, &indirect.entries, before.map_or(&[], |table| &table.entries), indirect.len))
        }
    };
    let what = html! { @if has_chain { "The chain belongs to the " (who(frame.owner)) } };
    let area = (DESCRIPTOR_AREA, story.queue.descriptor_area);
    panel(frame, area, &what, &inside)
}

/// Descriptors, of `size` that there are.
fn table(frame: &Frame<'_>, entries: &[TableEntry], before: &[TableEntry], size: u32) -> Markup {
    let mut shown: Vec<&TableEntry> = entries.iter().collect();
    if shown.len() > MOST {
        shown.retain(|entry| frame.is_of_chain(&entry.descriptor));
    }
    if shown.is_empty() {
        shown = entries.iter().collect();
    }
    let drawn = ends(&shown);
    // Those that have never been written are one row.
    let rows = drawn.chunk_by(|a, b| is_empty(a) && is_empty(b));
    html! {
        div.scroll { table.descriptors {
            thead { tr { th { span.unseen { "index" } } th { "addr" } th { "len" } th { "flags" } th { "next" } } }
            tbody {
                @for row in rows {
                    @match row {
                        [entry] if !is_empty(entry) => (descriptor(frame, entry, !before.contains(entry))),
                        [first] => tr { th scope="row" { (first.index) } td.empty colspan="4" { "empty" } },
                        [first, .., last] => tr {
                            th scope="row" { (first.index) " … " (last.index) }
                            td.empty colspan="4" { "empty" }
                        },
                        [] => {},
                    }
                }
            }
        } }
        (more((size as usize).saturating_sub(drawn.len())))
    }
}

fn is_empty(entry: &TableEntry) -> bool {
    entry.descriptor.len == 0 && entry.descriptor.addr == 0
}

fn descriptor(frame: &Frame<'_>, entry: &TableEntry, is_new: bool) -> Markup {
    let TableEntry { index, descriptor } = entry;
    let buffers = &frame.now().buffers;
    let of = buffers
        .iter()
        .find(|buffer| buffer.address == descriptor.addr);
    html! {
        tr.new[is_new] {
            th scope="row" { (index) @if let Some(of) = of { span.role { (words::role(of.role)) } } }
            td { (format!("{:#x}", descriptor.addr)) }
            td { (descriptor.len) }
            td.flags { (words::flags(descriptor)) }
            td { @if descriptor.flags & 1 != 0 { "→ " (descriptor.next) } @else { "–" } }
        }
    }
}
