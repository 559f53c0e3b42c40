//! The drawings of the page: the three areas of the queue, the buffers, and where all that lies in
//! guest memory; with what a step has changed. What happens is not told here.

use maud::{Markup, html};

use super::story::{Act, Buffer, Direction, Event, Role, Side, Snapshot, Step, Story, TableEntry};
use super::words;

/// How many entries of a ring or of a table are drawn.
const CELLS: u16 = 4;
/// A queue of at most as many descriptors is drawn whole.
const WHOLE: u16 = 8;
/// How many bytes of a buffer are drawn.
const BYTES: usize = 64;
/// How many bytes a line has.
const LINE: usize = 8;

/// What is to be drawn of one step.
pub struct Frame<'a> {
    step: &'a Step,
    before: &'a Snapshot,
    /// The indices before the act, from which the entries that are drawn are counted.
    first: &'a Snapshot,
    /// Whose the chain is.
    owner: Side,
    /// The running index in the available ring that the device takes next.
    device_at: u16,
    /// The running index in the used ring that the driver takes next.
    driver_at: u16,
}

impl<'a> Frame<'a> {
    /// Those of an act.
    pub fn of(act: &'a Act) -> Vec<Self> {
        let mut before = &act.before;
        let mut owner = Side::Driver;
        let (mut device_at, mut driver_at) = (act.before.available.idx, act.before.used.idx);
        let frame = |step: &'a Step| {
            match step.event {
                Event::AvailableIndex { .. } => owner = Side::Device,
                Event::Taken { avail_idx, .. } => device_at = avail_idx,
                Event::UsedAdded { .. } => owner = Side::Driver,
                Event::UsedSeen { used_idx, .. } => driver_at = used_idx,
                _ => {}
            }
            let frame = Self {
                step,
                before,
                first: &act.before,
                owner,
                device_at,
                driver_at,
            };
            before = &step.after;
            frame
        };
        act.steps.iter().map(frame).collect()
    }

    fn now(&self) -> &'a Snapshot {
        &self.step.after
    }

    /// Who may write to the buffer at `address`.
    fn writer(&self, address: u64) -> Side {
        let now = self.now();
        let table = now.indirect.iter().flat_map(|table| &table.entries);
        let mut chain = now.descriptors.iter().chain(table);
        let of = chain.find(|entry| entry.descriptor.addr == address);
        match of.is_some_and(|entry| entry.descriptor.flags & 2 != 0) {
            true => Side::Device,
            false => Side::Driver,
        }
    }

    /// What the step does to what is called so.
    fn touch(&self, name: &str) -> Option<Direction> {
        let touched = touches(&self.step.event);
        let of = touched.iter().find(|(_, touched)| *touched == name);
        of.map(|(direction, _)| *direction)
    }
}

/// What a step reads and writes.
fn touches(event: &Event) -> Vec<(Direction, &'static str)> {
    use Direction::{Read, Write};
    match event {
        Event::DescriptorsWritten { .. } => {
            vec![
                (Write, DESCRIPTOR_AREA),
                (Write, "header"),
                (Write, "status"),
            ]
        }
        Event::AvailableEntry { .. } | Event::AvailableIndex { .. } => vec![(Write, DRIVER_AREA)],
        Event::NotificationWanted { .. } => vec![(Read, DEVICE_AREA)],
        Event::Notify { .. } | Event::Exit { .. } | Event::Signalled { .. } => {
            vec![(Write, REGISTERS)]
        }
        Event::Taken { .. } | Event::Interrupt { .. } | Event::InterruptUnwanted { .. } => {
            vec![(Read, DRIVER_AREA)]
        }
        Event::Walked { .. } => vec![(Read, DESCRIPTOR_AREA)],
        Event::Parsed { .. } => vec![(Read, "header")],
        Event::FileIo {
            direction: Read, ..
        } => vec![(Write, "data")],
        Event::FileIo { .. } => vec![(Read, "data")],
        Event::StatusWritten { .. } => vec![(Write, "status")],
        Event::UsedAdded { .. } => vec![(Write, DEVICE_AREA)],
        Event::Register { access } => vec![(access.direction, REGISTERS)],
        Event::UsedSeen { .. } => vec![(Read, DEVICE_AREA), (Read, "status")],
        Event::Resumed { .. }
        | Event::Waiting { .. }
        | Event::HandlerEntered { .. }
        | Event::Woken { .. } => vec![],
    }
}

const DESCRIPTOR_AREA: &str = "Descriptor Area";
const DRIVER_AREA: &str = "Driver Area";
const DEVICE_AREA: &str = "Device Area";
const REGISTERS: &str = "registers";

fn panel(
    frame: &Frame<'_>,
    name: &str,
    what: &Markup,
    address: Option<u64>,
    inside: &Markup,
) -> Markup {
    let touch = frame.touch(name);
    html! {
        section class={ "panel " (touched(touch)) " " (class(name)) } {
            h3 {
                (name)
                (tag(touch))
                @if let Some(address) = address { code { (format!("{address:#x}")) } }
            }
            p.muted { (what) }
            (inside)
        }
    }
}

/// The class of what a step touches so.
fn touched(touch: Option<Direction>) -> &'static str {
    match touch {
        Some(Direction::Read) => "read",
        Some(Direction::Write) => "written",
        None => "",
    }
}

/// Says that a step touches something so.
fn tag(touch: Option<Direction>) -> Markup {
    html! { @if touch.is_some() { span.touch { (touched(touch)) } } }
}

/// The class of an area's panel.
fn class(name: &str) -> &'static str {
    match name {
        DESCRIPTOR_AREA => "descriptor-area",
        DRIVER_AREA => "driver-area",
        _ => "device-area",
    }
}

/// A side's name in its colour.
pub fn who(of: Side) -> Markup {
    html! { span class={ "who " (side(of)) } { (words::side(of)) } }
}

/// The class that colours what is a side's.
pub fn side(side: Side) -> &'static str {
    match side {
        Side::Driver => "driver",
        Side::Kvm => "kvm",
        Side::Device => "device",
    }
}

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
    panel(
        frame,
        DESCRIPTOR_AREA,
        &what,
        Some(story.queue.descriptor_area),
        &inside,
    )
}

/// Descriptors, of `size` that there are.
fn table(frame: &Frame<'_>, entries: &[TableEntry], before: &[TableEntry], size: u32) -> Markup {
    let shown = entries.iter().take(usize::from(WHOLE));
    let more = size.saturating_sub(shown.len() as u32);
    html! {
        div.scroll { table.descriptors {
            thead { tr { th { span.unseen { "index" } } th { "addr" } th { "len" } th { "flags" } th { "next" } } }
            tbody {
                @for entry in shown {
                    @let TableEntry { index, descriptor } = entry;
                    @let is_new = !before.contains(entry);
                    @let of = frame.now().buffers.iter().find(|buffer| buffer.address == descriptor.addr && descriptor.len > 0);
                    tr.new[is_new] {
                        th scope="row" { (index) @if let Some(of) = of { span.role { (words::role(of.role)) } } }
                        @if descriptor.len == 0 && descriptor.addr == 0 {
                            td.empty colspan="4" { "empty" }
                        } @else {
                            td { (format!("{:#x}", descriptor.addr)) }
                            td { (descriptor.len) }
                            td.flags { (words::flags(descriptor)) }
                            td { @if descriptor.flags & 1 != 0 { "→ " (descriptor.next) } @else { "–" } }
                        }
                    }
                }
            }
        } }
        @if more > 0 { p.more { "and " (more) " more, not drawn" } }
    }
}

/// A cell of a ring.
struct Cell {
    slot: u16,
    value: Option<Vec<String>>,
    is_new: bool,
    is_pending: bool,
    pointers: Vec<String>,
}

/// The slots that are drawn of a ring whose index was `first` before the act.
fn slots(first: u16, size: u16) -> Vec<u16> {
    if size <= WHOLE {
        return (0..size).collect();
    }
    let start = first.saturating_sub(1);
    (0..CELLS).map(|i| start.wrapping_add(i) % size).collect()
}

fn ring(cells: &[Cell], size: u16) -> Markup {
    let more = usize::from(size).saturating_sub(cells.len());
    html! {
        ol.ring {
            @for cell in cells {
                li.new[cell.is_new].pending[cell.is_pending] {
                    span.slot { "[" (cell.slot) "]" }
                    span.value {
                        @match &cell.value {
                            Some(lines) => @for line in lines { span { (line) } },
                            None => span { "·" },
                        }
                    }
                    @for pointer in &cell.pointers { span.pointer { "▲ " (pointer) } }
                }
            }
        }
        @if more > 0 { p.more { "and " (more) " more, not drawn" } }
    }
}

/// The numbers of an area that are not its ring.
fn fields(fields: &[(&str, u16, u16)]) -> Markup {
    html! {
        dl.fields {
            @for (name, value, before) in fields {
                div.new[value != before] { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// The available ring.
pub fn available(story: &Story, frame: &Frame<'_>) -> Markup {
    let (now, before) = (&frame.now().available, &frame.before.available);
    let size = story.queue.size;
    let head = |entries: &[super::story::AvailableEntry], slot| {
        let entry = entries.iter().find(|entry| entry.slot == slot);
        entry.map(|entry| entry.head)
    };
    let cells: Vec<Cell> = slots(frame.first.available.idx, size)
        .into_iter()
        .map(|slot| {
            let value = head(&now.entries, slot);
            let written =
                matches!(frame.step.event, Event::AvailableEntry { slot: at, .. } if at == slot);
            let mut pointers = Vec::new();
            if at(now.idx, size) == slot {
                pointers.push("idx".to_owned());
            }
            if at(frame.device_at, size) == slot {
                pointers.push("device".to_owned());
            }
            Cell {
                slot,
                value: value.map(|head| vec![head.to_string()]),
                is_new: written
                    || value != head(&before.entries, slot)
                        && value.is_some()
                        && head(&before.entries, slot).is_some(),
                is_pending: between(frame.device_at, now.idx, slot, size),
                pointers,
            }
        })
        .collect();
    let mut numbers = vec![
        ("flags", now.flags, before.flags),
        ("idx", now.idx, before.idx),
    ];
    if story.queue.event_idx {
        numbers.push(("used_event", now.used_event, before.used_event));
    }
    let inside = html! { (fields(&numbers)) (ring(&cells, size)) };
    panel(
        frame,
        DRIVER_AREA,
        &html! {
            "The available ring. " b { "idx" } ": where the driver puts the next head; "
            b { "device" } ": where the device looks next."
        },
        Some(story.queue.driver_area),
        &inside,
    )
}

/// The used ring.
pub fn used(story: &Story, frame: &Frame<'_>) -> Markup {
    let (now, before) = (&frame.now().used, &frame.before.used);
    let size = story.queue.size;
    let cells: Vec<Cell> = slots(frame.first.used.idx, size)
        .into_iter()
        .map(|slot| {
            let entry = now.entries.iter().find(|entry| entry.slot == slot);
            let written =
                matches!(frame.step.event, Event::UsedAdded { slot: at, .. } if at == slot);
            let mut pointers = Vec::new();
            if at(now.idx, size) == slot {
                pointers.push("idx".to_owned());
            }
            if at(frame.driver_at, size) == slot {
                pointers.push("driver".to_owned());
            }
            Cell {
                slot,
                value: entry
                    .map(|entry| vec![format!("id {}", entry.id), format!("len {}", entry.len)]),
                is_new: written,
                is_pending: between(frame.driver_at, now.idx, slot, size),
                pointers,
            }
        })
        .collect();
    let mut numbers = vec![
        ("flags", now.flags, before.flags),
        ("idx", now.idx, before.idx),
    ];
    if story.queue.event_idx {
        numbers.push(("avail_event", now.avail_event, before.avail_event));
    }
    let inside = html! { (fields(&numbers)) (ring(&cells, size)) };
    panel(
        frame,
        DEVICE_AREA,
        &html! {
            "The used ring. " b { "idx" } ": where the device puts the next chain; "
            b { "driver" } ": where the driver looks next."
        },
        Some(story.queue.device_area),
        &inside,
    )
}

/// The slot of a running index.
fn at(index: u16, size: u16) -> u16 {
    index.checked_rem(size).unwrap_or(0)
}

/// Whether `slot` is that of a running index from `from` up to, but not with, `to`.
fn between(from: u16, to: u16, slot: u16, size: u16) -> bool {
    let count = to.wrapping_sub(from).min(size);
    (0..count).any(|i| at(from.wrapping_add(i), size) == slot)
}

/// The buffers of the request, byte by byte.
pub fn buffers(frame: &Frame<'_>) -> Markup {
    let now = frame.now();
    if now.buffers.is_empty() {
        return html! {};
    }
    let shown = now.buffers.iter().take(usize::from(WHOLE));
    let more = now.buffers.len().saturating_sub(shown.len());
    html! {
        section.panel.buffers {
            h3 { "Buffers" }
            @for buffer in shown { (bytes(frame, buffer)) }
            @if more > 0 { p.more { "and " (more) " more, not drawn" } }
        }
    }
}

fn bytes(frame: &Frame<'_>, buffer: &Buffer) -> Markup {
    let name = words::role(buffer.role);
    let before = frame
        .before
        .buffers
        .iter()
        .find(|old| old.address == buffer.address);
    let is_new =
        |offset: usize, byte: u8| before.is_none_or(|old| old.bytes.get(offset) != Some(&byte));
    let shown = buffer.bytes.len().min(BYTES);
    let touch = frame.touch(name);
    let lines = buffer.bytes.chunks(LINE).take(BYTES / LINE);
    html! {
        div.buffer {
            h4 {
                (name)
                (tag(touch))
                " " code { (format!("{:#x}", buffer.address)) }
                span.muted {
                    " " (words::bytes(buffer.len))
                    @if (shown as u64) < buffer.len { ", the first " (shown) " drawn" }
                }
            }
            div.hex {
                @for (line, bytes) in (0..).step_by(LINE).zip(lines) {
                    p {
                        span.offset { (format!("{:#x}", buffer.address.saturating_add(line as u64))) }
                        span.bytes {
                            @for (column, byte) in bytes.iter().enumerate() {
                                @if is_new(line + column, *byte) { b { (format!("{byte:02x}")) } }
                                @else { span { (format!("{byte:02x}")) } }
                            }
                        }
                        span.text { @for byte in bytes { (words::printable(*byte)) } }
                    }
                }
            }
            @if let Some(said) = decoded(buffer) { p.muted { (said) } }
        }
    }
}

/// What the bytes of a header or of a status say.
fn decoded(buffer: &Buffer) -> Option<String> {
    match buffer.role {
        Role::Header => {
            let bytes = buffer.bytes.first_chunk()?;
            let header = spec::block::RequestHeader::from_bytes(*bytes);
            Some(format!(
                "type {}, sector {}",
                header.request_type, header.sector
            ))
        }
        Role::Status => match buffer.bytes.first()? {
            0 => Some("VIRTIO_BLK_S_OK".to_owned()),
            1 => Some("VIRTIO_BLK_S_IOERR".to_owned()),
            2 => Some("VIRTIO_BLK_S_UNSUPP".to_owned()),
            _ => Some("not written by the device yet".to_owned()),
        },
        Role::Data => None,
    }
}

/// Where everything lies, not to scale.
pub fn memory_map(story: &Story, frame: Option<&Frame<'_>>) -> Markup {
    let queue = &story.queue;
    let size = queue.size;
    let mut rows: Vec<(u64, u64, &str, Option<Side>)> = story
        .machine
        .ranges
        .iter()
        .map(|range| (range.address, range.len, range.name.as_str(), None))
        .collect();
    let by = Some;
    rows.extend([
        (
            queue.descriptor_area,
            spec::queue::desc_table_size(size),
            DESCRIPTOR_AREA,
            by(Side::Driver),
        ),
        (
            queue.driver_area,
            spec::queue::avail_ring_size(size),
            DRIVER_AREA,
            by(Side::Driver),
        ),
        (
            queue.device_area,
            spec::queue::used_ring_size(size),
            DEVICE_AREA,
            by(Side::Device),
        ),
    ]);
    if let Some(frame) = frame {
        let buffers = frame.now().buffers.iter().take(usize::from(WHOLE));
        rows.extend(buffers.map(|buffer| {
            let writer = frame.writer(buffer.address);
            (
                buffer.address,
                buffer.len,
                words::role(buffer.role),
                by(writer),
            )
        }));
    }
    // What contains others comes before them.
    rows.sort_by_key(|(address, len, ..)| (*address, u64::MAX - len));
    let touch = |address: u64, name: &str| {
        let name = if address == story.device.base {
            REGISTERS
        } else {
            name
        };
        frame.and_then(|frame| frame.touch(name))
    };
    html! {
        section.panel.guest-memory {
            h3 { "Guest memory" }
            p.muted { "Not to scale. Colours: written by the " (who(Side::Driver)) " or the " (who(Side::Device)) }
            table {
                tbody {
                    @for (address, len, name, writer) in rows {
                        @let touch = touch(address, name);
                        tr class=(writer.map_or("", side)) {
                            td { code { (format!("{address:#x}")) } }
                            th scope="row" {
                                (name)
                                (tag(touch))
                            }
                            td { (size_of_range(len)) }
                        }
                    }
                }
            }
        }
    }
}

/// A length in the largest unit that says it exactly.
fn size_of_range(len: u64) -> String {
    match len {
        0 => "0 B".to_owned(),
        len if len.is_multiple_of(1 << 20) => format!("{} MiB", len >> 20),
        len if len.is_multiple_of(1 << 10) => format!("{} KiB", len >> 10),
        len => format!("{len} B"),
    }
}
