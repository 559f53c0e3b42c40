//! The drawings of the page: the three areas of the queue, the buffers, and where all that lies in
//! guest memory; with what a step has changed. What happens is not told here.

mod descriptors;
mod memory;
mod rings;
mod scene;

use maud::{Markup, html};

use super::story::{Act, Descriptor, Direction, Event, Side, Snapshot, Step};
use super::words;
pub use descriptors::descriptors;
pub use memory::{buffers, memory_map};
pub use rings::{available, used};
pub use scene::scene;

/// How many entries of a table, or buffers, are drawn at most; a queue of no more is drawn whole.
const MOST: usize = 8;

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

    /// Whether `descriptor` is one of the request's.
    fn is_of_chain(&self, descriptor: &Descriptor) -> bool {
        let now = self.now();
        let addr = descriptor.addr;
        let indirect = now.indirect.as_ref();
        indirect.is_some_and(|table| table.address == addr)
            || now.buffers.iter().any(|buffer| buffer.address == addr)
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

/// The panel of an area of the queue.
fn panel(
    frame: &Frame<'_>,
    (name, address): (&str, u64),
    what: &Markup,
    inside: &Markup,
) -> Markup {
    let touch = frame.touch(name);
    html! {
        section class={ "panel " (touched(touch)) " " (class(name)) } {
            h3 { (name) (tag(touch)) code { (format!("{address:#x}")) } }
            p.muted { (what) }
            (inside)
        }
    }
}

/// Says how many are left out.
fn more(count: usize) -> Markup {
    html! { @if count > 0 { p.more { "and " (count) " more, not drawn" } } }
}

/// The first of `all` and the last, as many as are drawn.
fn ends<T>(all: &[T]) -> Vec<&T> {
    let first = all.len().min(MOST - 1);
    let last = all.get(first..).and_then(<[T]>::last);
    all.iter().take(first).chain(last).collect()
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
