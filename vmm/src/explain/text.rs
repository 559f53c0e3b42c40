//! The story on a terminal: plain lines of at most 80 columns, each side of a request one screenful.
//! What is said of a step is in `words`.

use super::story::{
    Access, Act, Buffer, Code, Descriptor, Direction, Event, Role, Side, Step, Story,
};
use super::words;

/// The longest line, in columns.
const WIDTH: usize = 80;
/// Where what is told begins, behind the step's number, its side and its times.
const INDENT: usize = 24;
/// Where a fact begins, behind its name.
const FACTS: usize = 17;
/// How many descriptors of a chain are shown.
const DESCRIPTORS_SHOWN: usize = 4;
/// How many bytes of the data are shown.
const DATA_SHOWN: usize = 16;

/// `story` as lines of text.
#[must_use]
pub fn render(story: &Story) -> String {
    let mut page = Page::default();
    machine(&mut page, story);
    negotiation(&mut page, story);
    if !story.acts.is_empty() {
        page.title(
            "In what follows, a line is a step: its number, when it was, and how long after",
            "",
        );
        page.line(
            "",
            0,
            "the step before, in us. Steps of KVM are marked. Numbers of bytes are decimal.",
        );
    }
    for act in &story.acts {
        one_side(&mut page, act, Side::Driver);
        one_side(&mut page, act, Side::Device);
    }
    times(&mut page, story);
    page.0
}

/// Lines, none of them too long.
#[derive(Default)]
struct Page(String);

impl Page {
    fn title(&mut self, left: &str, right: &str) {
        if !self.0.is_empty() {
            self.0 += "\n";
        }
        let gap = WIDTH.saturating_sub(left.chars().count() + right.chars().count());
        let line = match right {
            "" => left.to_owned(),
            right => format!("{left}{:gap$}{right}", "", gap = gap.max(2)),
        };
        self.line("", 2, &line);
    }

    /// `head`, and `text` from the column `indent` on, in as many lines as it takes. Whatever cannot
    /// be printed is shown as `?`.
    fn line(&mut self, head: &str, indent: usize, text: &str) {
        let text: Vec<char> = text
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        let mut line = format!(
            "{head:indent$}",
            indent = if head.is_empty() { 0 } else { indent }
        );
        let mut rest = text.as_slice();
        loop {
            let room = WIDTH.saturating_sub(line.chars().count()).max(1);
            let (now, later) = break_at(rest, room);
            line.extend(now);
            self.0 += line.trim_end();
            self.0 += "\n";
            if later.is_empty() {
                return;
            }
            rest = later;
            line = " ".repeat(indent);
        }
    }

    /// A line below that of a step.
    fn below(&mut self, text: &str) {
        self.line(&" ".repeat(INDENT), INDENT, text);
    }
}

/// As much of `text` as `room` columns hold, up to a space if there is one; and the rest.
fn break_at(text: &[char], room: usize) -> (&[char], &[char]) {
    if text.len() <= room {
        return (text, &[]);
    }
    let fits = text.iter().take(room + 1);
    // Not in the spaces that begin a line.
    let space = fits.collect::<Vec<_>>().iter().rposition(|c| **c == ' ');
    match space.filter(|at| *at > 8) {
        Some(at) => {
            let (now, later) = text.split_at(at);
            (now, later.get(1..).unwrap_or_default())
        }
        None => text.split_at(room),
    }
}

fn machine(page: &mut Page, story: &Story) {
    let (machine, device, queue) = (&story.machine, &story.device, &story.queue);
    page.title("The machine", &format!("vmm {}", machine.vmm));
    let mut fact = |name: &str, text: &str| page.line(&format!("  {name}"), FACTS, text);
    let built_in = |file: &Option<String>| file.clone().unwrap_or("built-in".to_owned());
    fact("kernel", &built_in(&machine.kernel));
    if let Some(initrd) = &machine.initrd {
        fact("initrd", initrd);
    }
    fact("command line", &machine.cmdline);
    for range in &machine.ranges {
        let last = range.address.saturating_add(range.len.saturating_sub(1));
        let text = format!("{:#x} to {last:#x}", range.address);
        fact(&range.name, &text);
    }
    let kind = if device.read_only { ", read-only" } else { "" };
    let disk = format!(
        "{}: {} sectors of 512 bytes{kind}, id {:?}",
        built_in(&device.disk),
        device.capacity,
        device.id
    );
    fact("disk", &disk);
    let text = format!(
        "virtio-mmio at {:#x}, GSI {}, notify={}, registers={}",
        device.base, device.gsi, device.notify, device.registers
    );
    fact("device", &text);
    let text = match queue.size {
        0 => "not set up by the driver".to_owned(),
        size => format!(
            "{size} descriptors; Descriptor Area {:#x}, Driver Area {:#x}, Device Area {:#x}",
            queue.descriptor_area, queue.driver_area, queue.device_area
        ),
    };
    fact(&format!("queue {}", queue.index), &text);
    for note in &story.notes {
        page.line("  note", FACTS, note);
    }
}

fn negotiation(page: &mut Page, story: &Story) {
    let accesses = &story.negotiation;
    if accesses.is_empty() {
        return;
    }
    let seen = words::seen(&story.device);
    page.title(
        &format!("The negotiation: each {seen} to a register, and each is an exit"),
        "at us, since us",
    );
    let (mut before, mut function) = (None, None);
    for access in accesses {
        // Where the guest was is told where it changes; for a guest without symbols, at first.
        if function != Some(&access.by.symbol) {
            function = Some(&access.by.symbol);
            page.line("  by ", 5, &words::place(&access.by));
        }
        let since = access
            .at_ns
            .zip(before)
            .and_then(|(now, then): (u64, u64)| now.checked_sub(then));
        before = access.at_ns;
        let head = format!("{}{}{}", time(access.at_ns), after(since), register(access));
        let indent = head.chars().count();
        page.line(&head, indent, &access.meaning.join(" "));
    }
}

fn register(access: &Access) -> String {
    let way = match access.direction {
        Direction::Read => 'R',
        Direction::Write => 'W',
    };
    let unnamed = format!("offset {:#x}", access.offset);
    let name = access.register.as_deref().unwrap_or(&unnamed);
    let value = words::access_value(access);
    format!(" {way} {name:<17} {value:<10} ")
}

/// One side of a request, with what KVM does for it. The other side's steps are counted only.
fn one_side(page: &mut Page, act: &Act, side: Side) {
    let what = words::operation(act.operation);
    let of = match side {
        Side::Device => "the device's side",
        _ => "the driver's side",
    };
    page.title(
        &format!("The {what}, {of}"),
        &format!("sector {}, {}", act.sector, words::bytes(act.len)),
    );
    let steps: Vec<(usize, &Step)> = (1..).zip(&act.steps).collect();
    let mut hidden: Vec<&Step> = Vec::new();
    for (index, &(number, step)) in steps.iter().enumerate() {
        let beside = [index.checked_sub(1), index.checked_add(1)]
            .map(|at| at.and_then(|at| act.steps.get(at)));
        let is_shown = match (step.side, side) {
            // What KVM does for the device is next to what the device does.
            (Side::Kvm, Side::Device) => beside
                .into_iter()
                .flatten()
                .any(|step| step.side == Side::Device),
            (Side::Kvm, _) => true,
            (of, side) => of == side,
        };
        if !is_shown {
            hidden.push(step);
            continue;
        }
        elsewhere(page, number, &mut hidden, side);
        let mark = if step.side == Side::Kvm { "kvm" } else { "" };
        let head = format!(
            "{number:>2} {mark:3}{}{}",
            time(step.at_ns),
            after(step.since_ns)
        );
        let text = words::tell(&step.event) + &places(&step.event);
        page.line(&head, INDENT, &text);
        details(page, step);
    }
    let number = act.steps.len().saturating_add(1);
    elsewhere(page, number, &mut hidden, side);
}

/// Where in the guest's program it happens.
fn places(event: &Event) -> String {
    let of = |(what, code): (&str, &Code)| {
        let instruction = code.instruction.as_ref();
        let instruction = instruction.map_or(String::new(), |text| format!("{text} at "));
        format!(", {what} {instruction}{}", words::place(code))
    };
    words::places(event).into_iter().map(of).collect()
}

/// One line for the steps before `number` that the other side's section has.
fn elsewhere(page: &mut Page, number: usize, hidden: &mut Vec<&Step>, side: Side) {
    let count = hidden.len();
    if count == 0 {
        return;
    }
    let who = match side {
        Side::Device => "the driver's side",
        _ => "the device's side",
    };
    let took = hidden
        .iter()
        .filter_map(|step| step.since_ns)
        .reduce(|a, b| a + b);
    let took = took.map_or(String::new(), |ns| format!(", {} us", words::micros(ns)));
    let (first, last) = (number.saturating_sub(count), number.saturating_sub(1));
    let steps = match count {
        1 => format!("{first:>2}"),
        _ => format!("{first:>2} to {last}"),
    };
    page.line(&steps, INDENT, &format!("{who}{took}"));
    hidden.clear();
}

/// What does not fit into the line of a step.
fn details(page: &mut Page, step: &Step) {
    match &step.event {
        Event::DescriptorsWritten {
            chain, indirect, ..
        } => {
            for entry in chain.iter().take(DESCRIPTORS_SHOWN) {
                let name = format!("desc[{}]", entry.index);
                descriptor(page, &name, &entry.descriptor, &step.after.buffers);
            }
            let table = indirect.iter().flat_map(|table| &table.entries);
            for entry in table.take(DESCRIPTORS_SHOWN) {
                let name = format!("  [{}]", entry.index);
                descriptor(page, &name, &entry.descriptor, &step.after.buffers);
            }
            let of_table = indirect.as_ref().map(|table| table.len as usize);
            left_out(page, of_table.unwrap_or(chain.len()));
        }
        Event::Walked { chain, .. } => {
            for (index, buffer) in chain.iter().take(DESCRIPTORS_SHOWN).enumerate() {
                descriptor(page, &format!("  {index}:"), buffer, &step.after.buffers);
            }
            left_out(page, chain.len());
        }
        Event::Parsed {
            status_address: Some(address),
            ..
        } => {
            page.below(&format!("  status byte to go to {address:#x}"));
        }
        Event::FileIo { .. } => {
            for data in step
                .after
                .buffers
                .iter()
                .filter(|b| b.role == Role::Data)
                .take(1)
            {
                page.below(&format!("data {}", hex(data)));
            }
        }
        _ => {}
    }
}

fn descriptor(page: &mut Page, name: &str, descriptor: &Descriptor, buffers: &[Buffer]) {
    let Descriptor {
        addr, len, next, ..
    } = descriptor;
    let flags = words::flags(descriptor);
    let next = match descriptor.flag_names.iter().any(|name| name == "NEXT") {
        true => format!("-> {next}"),
        false => String::new(),
    };
    let of = buffers.iter().find(|buffer| buffer.address == *addr);
    let role = of.map_or("", |buffer| words::role(buffer.role));
    page.below(&format!(
        "  {name:<8}{addr:#x} len {len:<4} {flags:<10} {next:<5} {role}"
    ));
}

fn left_out(page: &mut Page, count: usize) {
    let more = count.saturating_sub(DESCRIPTORS_SHOWN);
    if more > 0 {
        page.below(&format!("  and {more} more"));
    }
}

/// The first bytes of a buffer, as numbers and as text.
fn hex(buffer: &Buffer) -> String {
    let bytes: Vec<u8> = buffer.bytes.iter().take(DATA_SHOWN).copied().collect();
    let text: String = bytes.iter().map(|byte| words::printable(*byte)).collect();
    let numbers: Vec<String> = bytes
        .chunks(8)
        .map(|eight| eight.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    format!("{} {text}", numbers.join(" "))
}

/// Where the time of each request went.
fn times(page: &mut Page, story: &Story) {
    if story.acts.is_empty() {
        return;
    }
    page.title("Where the time went", "us");
    for act in &story.acts {
        let took = act.steps.iter().filter_map(|step| step.at_ns).max();
        let of = |side| -> u64 {
            let steps = act.steps.iter().filter(|step| step.side == side);
            steps.filter_map(|step| step.since_ns).sum()
        };
        let sides = [Side::Driver, Side::Kvm, Side::Device]
            .map(|side| format!("{} {}", words::side(side), words::micros(of(side))));
        let text = format!(
            "{} in all: {}",
            words::micros(took.unwrap_or(0)),
            sides.join(", ")
        );
        page.line(
            &format!("  {}", words::operation(act.operation)),
            FACTS,
            &text,
        );
    }
}

/// In a column of eight.
fn time(ns: Option<u64>) -> String {
    let text = ns.map_or("-".to_owned(), words::micros);
    format!("{text:>8}")
}

/// In a column of ten: how long after what is before.
fn after(ns: Option<u64>) -> String {
    let text = ns.map_or(String::new(), |ns| format!("+{}", words::micros(ns)));
    format!("{text:>9} ")
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
