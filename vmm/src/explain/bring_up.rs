//! The chapter of the page that shows how driver and device came to terms: each access to a register,
//! and what has been agreed upon by then.

use maud::{Markup, html};

use super::draw::who;
use super::html::{hex, number_and_time, place};
use super::story::{Access, Direction, Side, Story};
use super::{why, words};

/// The bits of the device status, in the order in which a driver sets them.
const STATUS: [(u64, &str); 6] = [
    (1, "ACKNOWLEDGE"),
    (2, "DRIVER"),
    (8, "FEATURES_OK"),
    (4, "DRIVER_OK"),
    (64, "DEVICE_NEEDS_RESET"),
    (128, "FAILED"),
];
/// What is kept of the addresses of the three areas: the area, and its two registers.
const AREAS: [(&str, &str, &str); 3] = [
    ("Descriptor Area", "QueueDescLow", "QueueDescHigh"),
    ("Driver Area", "QueueDriverLow", "QueueDriverHigh"),
    ("Device Area", "QueueDeviceLow", "QueueDeviceHigh"),
];

/// What has been agreed upon so far.
#[derive(Clone, Default)]
struct Agreed<'a> {
    status: u64,
    offered: Vec<&'a str>,
    accepted: Vec<&'a str>,
    queue_size: Option<u64>,
    areas: [Option<u64>; 3],
    ready: bool,
}

impl<'a> Agreed<'a> {
    /// Takes `access` into account.
    fn take(&mut self, access: &'a Access) {
        let name = access.register.as_deref().unwrap_or_default();
        let names = access.meaning.iter().map(String::as_str);
        match (name, access.direction) {
            ("Status", Direction::Write) if access.value == 0 => *self = Self::default(),
            ("Status", _) => self.status = access.value,
            ("DeviceFeatures", _) => self.offered.extend(names),
            ("DriverFeatures", _) => self.accepted.extend(names),
            ("QueueNum", _) => self.queue_size = Some(access.value),
            ("QueueReady", Direction::Read) => self.ready = access.value == 1,
            _ => {
                for ((_, low, high), area) in AREAS.iter().zip(&mut self.areas) {
                    let old = area.unwrap_or(0);
                    if name == *low {
                        *area = Some(old & !0xffff_ffff | access.value & 0xffff_ffff);
                    } else if name == *high {
                        *area = Some(old & 0xffff_ffff | access.value << 32);
                    }
                }
            }
        }
    }
}

/// The chapter.
pub fn chapter(story: &Story) -> Markup {
    let accesses = &story.negotiation;
    let mut agreed = Agreed::default();
    let mut before = None;
    let mut step = |number: usize, access| {
        let was = agreed.clone();
        agreed.take(access);
        let since = since(access, before);
        before = access.at_ns;
        html! {
            article.step.driver #{ "negotiation-" (number) } data-say=(said(access)) {
                (number_and_time(number, accesses.len(), access.at_ns, since))
                h2 tabindex="-1" { (who(Side::Driver)) " " (said(access)) }
                p { (why::register(access)) }
                div.panels { (details(story, access)) (so_far(&was, &agreed)) }
            }
        }
    };
    html! {
        section.chapter data-name="Negotiation" {
            div.map {
                h2.of { "Negotiation" }
                p.muted { "Every " (words::seen(&story.device)) " to a register leaves the guest: " (accesses.len()) " exits." }
                ol.lanes.registers {
                    @for (number, access) in (1..).zip(accesses) {
                        li { a href={ "#negotiation-" (number) } {
                            i.driver aria-hidden="true" {}
                            span { (said(access)) }
                        } }
                    }
                }
            }
            div.steps {
                @for (number, access) in (1..).zip(accesses) { (step(number, access)) }
            }
        }
    }
}

fn since(access: &Access, before: Option<u64>) -> Option<u64> {
    access.at_ns?.checked_sub(before?)
}

fn said(access: &Access) -> String {
    let unnamed = format!("offset {:#x}", access.offset);
    let name = access.register.as_deref().unwrap_or(&unnamed);
    let value = words::access_value(access);
    match access.direction {
        Direction::Read => format!("reads {name}: {value}"),
        Direction::Write => format!("writes {name} = {value}"),
    }
}

fn details(story: &Story, access: &Access) -> Markup {
    let address = story.device.base.saturating_add(access.offset);
    html! {
        section.panel {
            h3 { "The access" }
            dl.facts {
                dt { "register" }
                dd {
                    (access.register.as_deref().unwrap_or("none"))
                    ", at offset " code { (format!("{:#05x}", access.offset)) }
                }
                dt { "address" } dd { code { (hex(address)) } ", " (words::bytes(access.width.into())) }
                dt { "value" } dd { code { (hex(access.value)) } " = " (access.value) }
                @if !access.meaning.is_empty() {
                    dt { "which says" }
                    dd { ul.bits { @for name in &access.meaning { li.on { (name) } } } }
                }
                dt { "instruction" } dd { (place(&access.by)) }
            }
        }
    }
}

/// What has been agreed upon, and what of it is new.
fn so_far(was: &Agreed<'_>, now: &Agreed<'_>) -> Markup {
    let fact = |name: &str, value: Option<String>, is_new: bool| {
        html! {
            dt { (name) }
            dd.new[is_new] { @match value { Some(value) => (value), None => span.muted { "–" } } }
        }
    };
    html! {
        section.panel {
            h3 { "Agreed so far" }
            ol.status {
                @for (bit, name) in STATUS {
                    li.on[now.status & bit != 0].new[now.status & !was.status & bit != 0] { (name) }
                }
            }
            dl.facts {
                dt { "features" }
                dd {
                    @if now.offered.is_empty() { span.muted { "–" } }
                    ul.bits {
                        @for name in &now.offered {
                            @let is_new = was.offered.contains(name) == was.accepted.contains(name)
                                && now.accepted.contains(name) != was.accepted.contains(name)
                                || !was.offered.contains(name);
                            li.on[now.accepted.contains(name)].new[is_new] { (name) }
                        }
                    }
                }
                (fact("queue size", now.queue_size.map(|size| size.to_string()), was.queue_size != now.queue_size))
                @for (((name, ..), area), old) in AREAS.iter().zip(now.areas).zip(was.areas) {
                    (fact(name, area.map(hex), area != old))
                }
                (fact("queue ready", now.ready.then(|| "yes".to_owned()), was.ready != now.ready))
            }
            p.muted { "Features are offered by the device, and framed once the driver has accepted them." }
        }
    }
}
