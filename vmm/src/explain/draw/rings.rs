//! The drawings of the available and the used ring: their numbers, and the entries around what the
//! act is about.

use maud::{Markup, html};

use super::super::story::{Event, Story};
use super::{DEVICE_AREA, DRIVER_AREA, Frame, MOST, more, panel};

/// How many entries of a long ring are drawn.
const WINDOW: u16 = 4;

/// What is drawn of a ring.
struct Ring<'a> {
    /// How many entries it has.
    size: u16,
    /// `idx` before the act: the entries that are drawn are around it.
    first: u16,
    /// `idx`: where the one side puts the next entry.
    idx: u16,
    /// Where the other side looks next.
    taken: u16,
    /// Who the other side is.
    taker: &'a str,
    /// The entry that the step has written.
    written: Option<u16>,
}

impl Ring<'_> {
    /// The slot of a running index.
    fn slot(&self, index: u16) -> u16 {
        index.checked_rem(self.size).unwrap_or(0)
    }

    /// The slots that are drawn.
    fn slots(&self) -> Vec<u16> {
        if usize::from(self.size) <= MOST {
            return (0..self.size).collect();
        }
        let start = self.first.saturating_sub(1);
        let window = (0..WINDOW).map(|i| self.slot(start.wrapping_add(i)));
        window.collect()
    }

    /// Whether what is in `slot` waits for the other side.
    fn is_pending(&self, slot: u16) -> bool {
        let count = self.idx.wrapping_sub(self.taken).min(self.size);
        (0..count).any(|i| self.slot(self.taken.wrapping_add(i)) == slot)
    }

    /// The ring; `value` are the lines of an entry, if they are known.
    fn draw(&self, value: impl Fn(u16) -> Option<Vec<String>>) -> Markup {
        let slots = self.slots();
        html! {
            ol.ring {
                @for &slot in &slots {
                    li.new[self.written == Some(slot)].pending[self.is_pending(slot)] {
                        span.slot { "[" (slot) "]" }
                        span.value {
                            @match value(slot) {
                                Some(lines) => @for line in lines { span { (line) } },
                                None => span { "·" },
                            }
                        }
                        @if self.slot(self.idx) == slot { span.pointer { "▲ idx" } }
                        @if self.slot(self.taken) == slot { span.pointer { "▲ " (self.taker) } }
                    }
                }
            }
            (more(usize::from(self.size).saturating_sub(slots.len())))
        }
    }
}

/// The numbers of an area that are not its ring: name, value, and value before the step.
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
    let ring = Ring {
        size: story.queue.size,
        first: frame.first.available.idx,
        idx: now.idx,
        taken: frame.device_at,
        taker: "device",
        written: match frame.step.event {
            Event::AvailableEntry { slot, .. } => Some(slot),
            _ => None,
        },
    };
    let mut numbers = vec![
        ("flags", now.flags, before.flags),
        ("idx", now.idx, before.idx),
    ];
    if story.queue.event_idx {
        numbers.push(("used_event", now.used_event, before.used_event));
    }
    let value = |slot| {
        let entry = now.entries.iter().find(|entry| entry.slot == slot)?;
        Some(vec![entry.head.to_string()])
    };
    let what = html! {
        "The available ring. " b { "idx" } ": where the driver puts the next head; " b { "device" }
        ": where the device looks next. What is between waits for the device."
    };
    let inside = html! { (fields(&numbers)) (ring.draw(value)) };
    panel(
        frame,
        (DRIVER_AREA, story.queue.driver_area),
        &what,
        &inside,
    )
}

/// The used ring.
pub fn used(story: &Story, frame: &Frame<'_>) -> Markup {
    let (now, before) = (&frame.now().used, &frame.before.used);
    let ring = Ring {
        size: story.queue.size,
        first: frame.first.used.idx,
        idx: now.idx,
        taken: frame.driver_at,
        taker: "driver",
        written: match frame.step.event {
            Event::UsedAdded { slot, .. } => Some(slot),
            _ => None,
        },
    };
    let mut numbers = vec![
        ("flags", now.flags, before.flags),
        ("idx", now.idx, before.idx),
    ];
    if story.queue.event_idx {
        numbers.push(("avail_event", now.avail_event, before.avail_event));
    }
    let value = |slot| {
        let entry = now.entries.iter().find(|entry| entry.slot == slot)?;
        Some(vec![
            format!("id {}", entry.id),
            format!("len {}", entry.len),
        ])
    };
    let what = html! {
        "The used ring. " b { "idx" } ": where the device puts the next chain; " b { "driver" }
        ": where the driver looks next. What is between waits for the driver."
    };
    let inside = html! { (fields(&numbers)) (ring.draw(value)) };
    panel(
        frame,
        (DEVICE_AREA, story.queue.device_area),
        &what,
        &inside,
    )
}
