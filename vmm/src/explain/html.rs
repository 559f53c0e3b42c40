//! The story as one page that needs nothing else: every step is in it, drawn, and can be read without
//! the script, which only shows one at a time. Whatever the page says of this run has been escaped.

use maud::{Markup, PreEscaped, html};

use super::bring_up;
use super::draw::{self, Frame, side, who};
use super::story::{Act, Code, Event, Operation, Side, Step, Story};
use super::{why, words};
use crate::page;

const TITLE: &str = "vmm explain: one request, step by step";
const STYLE: &str = include_str!("explain.css");
const SCRIPT: &str = include_str!("explain.js");
/// The page may use nothing but its own style sheet and script.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      base-uri 'none'; form-action 'none'";
/// The sides, in the order of their lanes.
const LANES: [Side; 3] = [Side::Driver, Side::Kvm, Side::Device];

/// `story` as a page.
///
/// # Errors
/// Where the story cannot be written as JSON, which is part of the page.
pub fn page(story: &Story) -> serde_json::Result<String> {
    // Nothing in it can end the element that it is in.
    let data = serde_json::to_string(story)?.replace('<', "\\u003c");
    let body = html! {
        header {
            h1 { "One request, step by step" }
            nav.chapters aria-label="Chapters" {
                a href="#start" { "Start" }
                @if !story.negotiation.is_empty() { a href="#negotiation-1" { "Negotiation" } }
                @for act in &story.acts { a href=(anchor(act, 1)) { (title(act)) } }
            }
        }
        main {
            (start(story))
            @if !story.negotiation.is_empty() { (bring_up::chapter(story)) }
            @for act in &story.acts { (chapter(story, act)) }
        }
        p.announce role="status" aria-live="polite" {}
        nav.controls aria-label="Steps" {
            button type="button" data-move="-1" { span aria-hidden="true" { "←" } " Previous" }
            p.where {}
            button type="button" data-move="1" { "Next " span aria-hidden="true" { "→" } }
        }
        script id="story" type="application/json" { (PreEscaped(data)) }
        script { (PreEscaped(SCRIPT)) }
    };
    Ok(page::page(TITLE, POLICY, STYLE, &body))
}

fn title(act: &Act) -> &'static str {
    match act.operation {
        Operation::Read => "Read",
        Operation::Write => "Write",
    }
}

fn anchor(act: &Act, number: usize) -> String {
    format!("#{}-{number}", words::operation(act.operation))
}

/// The chapter that says what there is to see.
fn start(story: &Story) -> Markup {
    let (machine, device, queue) = (&story.machine, &story.device, &story.queue);
    let built_in = |file: &Option<String>| file.clone().unwrap_or("built-in".to_owned());
    html! {
        section.chapter data-name="Start" {
            article.step #start {
                h2 tabindex="-1" { "What happened in this run" }
                p {
                    (requests(&story.acts)) " The guest's "
                    (who(Side::Driver)) " and the VMM's " (who(Side::Device))
                    " share a virtqueue in guest memory, and " (who(Side::Kvm))
                    " stands between the two. Every number on this page is of this run."
                }
                dl.areas {
                    dt { "Descriptor Area" }
                    dd { "The driver writes descriptors: address, length and flags of one buffer each." }
                    dt { "Driver Area" }
                    dd { "The available ring: the driver puts the head of a chain of descriptors here." }
                    dt { "Device Area" }
                    dd { "The used ring: the device returns the head, with how many bytes it wrote." }
                }
                p.keys {
                    kbd { "→" } ", " kbd { "j" } " and " kbd { "Space" } " step forward, "
                    kbd { "←" } " and " kbd { "k" } " back; " kbd { "Home" } " and " kbd { "End" }
                    " go to the first and the last step."
                }
                @for note in &story.notes { p.note { (note) } }
                div.panels {
                    @for act in &story.acts {
                        section.panel {
                            h3 { (title(act)) ": sector " (act.sector) ", " (words::bytes(act.len)) }
                            (time_line(act))
                        }
                    }
                    section.panel {
                        h3 { "The machine" }
                        dl.facts {
                            dt { "kernel" } dd { (built_in(&machine.kernel)) }
                            @if let Some(initrd) = &machine.initrd { dt { "initrd" } dd { (initrd) } }
                            dt { "command line" } dd { code { (machine.cmdline) } }
                            dt { "vCPUs" } dd { (machine.vcpus) }
                            dt { "disk" }
                            dd {
                                (built_in(&device.disk)) ", " (device.capacity) " sectors of 512 bytes"
                                @if device.read_only { ", read-only" }
                                ", id " code { (device.id) }
                            }
                            dt { "device" }
                            dd { "virtio-mmio at " code { (hex(device.base)) } ", GSI " (device.gsi) ", notify=" (device.notify) ", registers=" (device.registers) }
                            dt { "queue " (queue.index) }
                            dd { @if queue.size == 0 { "not set up by the driver" } @else { (queue.size) " descriptors" } }
                            dt { "features" } dd { (features(story)) }
                            dt { "vmm" } dd { (machine.vmm) }
                        }
                    }
                    (draw::memory_map(story, None))
                }
            }
        }
    }
}

/// What the guest has asked for.
fn requests(acts: &[Act]) -> String {
    let made: Vec<&str> = acts
        .iter()
        .map(|act| words::operation(act.operation))
        .collect();
    match made.is_empty() {
        true => "This run ended before the guest asked anything of its disk.".to_owned(),
        false => format!("A guest has asked its disk for a {}.", made.join(" and a ")),
    }
}

/// What was offered, and of it what was accepted.
fn features(story: &Story) -> Markup {
    let (offered, accepted) = (&story.device.offered, &story.device.accepted);
    html! {
        ul.bits {
            @for name in &offered.names {
                @if accepted.names.contains(name) { li.on { (name) } }
                @else { li { (name) " (not accepted)" } }
            }
        }
    }
}

/// One request.
fn chapter(story: &Story, act: &Act) -> Markup {
    let name = words::operation(act.operation);
    let frames = Frame::of(act);
    let total = act.steps.len();
    html! {
        section.chapter data-name=(title(act)) {
            div.map {
                h2.of { "The " (name) ": sector " (act.sector) ", " (words::bytes(act.len)) }
                (time_line(act))
                ol.lanes {
                    @for (number, step) in (1..).zip(&act.steps) {
                        li { a href=(anchor(act, number)) {
                            @for lane in LANES {
                                i class=(if lane == step.side { side(lane) } else { "" }) aria-hidden="true" {}
                            }
                            span { (words::tell(&step.event)) }
                            @if let Some(ns) = step.since_ns { em { "+" (words::micros(ns)) } }
                        } }
                    }
                }
            }
            div.steps {
                @for ((number, step), frame) in (1..).zip(&act.steps).zip(&frames) {
                    article class={ "step " (side(step.side)) } id={ (name) "-" (number) }
                        data-say={ (words::side(step.side)) ": " (words::tell(&step.event)) } {
                        (number_and_time(number, total, step.at_ns, step.since_ns))
                        h2 tabindex="-1" { (who(step.side)) " " (words::tell(&step.event)) }
                        div.told {
                            div { p { (why::step(&step.event)) } (facts(story, step)) }
                            (draw::scene(step))
                        }
                        div.panels.drawing {
                            div.column { (draw::descriptors(story, frame)) (draw::buffers(frame)) }
                            div.column {
                                (draw::available(story, frame))
                                (draw::used(story, frame))
                                (draw::memory_map(story, Some(frame)))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A bar of the act's steps, each as wide as it took.
fn time_line(act: &Act) -> Markup {
    let took = |side| {
        let steps = act.steps.iter().filter(|step| step.side == side);
        steps.filter_map(|step| step.since_ns).reduce(|a, b| a + b)
    };
    html! {
        div.time aria-hidden="true" {
            @for (number, step) in (1..).zip(&act.steps) {
                @if let Some(ns) = step.since_ns {
                    a href=(anchor(act, number)) class=(side(step.side)) tabindex="-1"
                        style={ "flex-grow:" (ns) } {}
                }
            }
        }
        p.took {
            @for lane in LANES {
                span { (who(lane)) " " @match took(lane) { Some(ns) => (words::micros(ns)), None => "–" } }
            }
            @if let Some(ns) = act.steps.iter().filter_map(|step| step.at_ns).max() {
                span { "in all " strong { (words::micros(ns)) " µs" } }
            }
        }
    }
}

/// Which step this is, and when.
pub fn number_and_time(number: usize, total: usize, at: Option<u64>, since: Option<u64>) -> Markup {
    html! {
        p.when {
            "Step " (number) " of " (total)
            @if let Some(at) = at { span { " at " (words::micros(at)) " µs" } }
            @if let Some(since) = since { strong { " +" (words::micros(since)) " µs" } }
        }
    }
}

/// What does not fit into the sentence.
fn facts(story: &Story, step: &Step) -> Markup {
    let register = |address: u64| {
        let offset = address.checked_sub(story.device.base)?;
        let register = spec::mmio::Register::at(offset)?;
        Some(format!(
            "{register:?}: {offset:#05x} into the window at {:#x}",
            story.device.base
        ))
    };
    let facts: Vec<(&str, String)> = match &step.event {
        Event::Notify { address, .. } | Event::Exit { address, .. } => {
            let register = register(*address).map(|text| ("register", text));
            register.into_iter().collect()
        }
        Event::Parsed {
            status_address: Some(address),
            ..
        } => {
            vec![("status byte", format!("goes to {address:#x}"))]
        }
        Event::FileIo { offset, .. } => {
            vec![(
                "file offset",
                format!("{offset} = sector {} × 512", offset / 512),
            )]
        }
        _ => vec![],
    };
    let places = words::places(&step.event);
    html! {
        @if !facts.is_empty() || !places.is_empty() {
            dl.facts {
                @for (what, code) in places { dt { (what) } dd { (place(code)) } }
                @for (what, text) in facts { dt { (what) } dd { (text) } }
            }
        }
    }
}

/// A place in the guest's program, with all that is known of it.
pub fn place(at: &Code) -> Markup {
    html! {
        @if let Some(text) = &at.instruction { code.instruction { (text) } " at " }
        code { (hex(at.rip)) }
        @if let Some(symbol) = &at.symbol {
            ", " code { (symbol) @if at.offset > 0 { "+" (hex(at.offset)) } }
        }
    }
}

/// As addresses are written.
pub fn hex(number: u64) -> String {
    format!("{number:#x}")
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
