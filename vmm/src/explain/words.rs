//! What is said of each step, in a line and in a paragraph: the same words on a terminal and on a
//! page. Nothing is laid out here.

use super::story::{Access, Code, Descriptor, Device, Direction, Event, Operation, Role, Side};

/// The name of a side.
pub fn side(side: Side) -> &'static str {
    match side {
        Side::Driver => "driver",
        Side::Kvm => "KVM",
        Side::Device => "device",
    }
}

/// What a request asks for, in a word.
pub fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "read",
        Operation::Write => "write",
    }
}

/// What a buffer is for, in a word.
pub fn role(role: Role) -> &'static str {
    match role {
        Role::Header => "header",
        Role::Data => "data",
        Role::Status => "status",
    }
}

/// What whoever takes the step does, as a sentence without its subject.
pub fn tell(event: &Event) -> String {
    match event {
        Event::DescriptorsWritten {
            head,
            chain,
            indirect,
        } => match indirect {
            Some(table) => format!(
                "writes descriptor {head}, which points to a table of {}",
                table.len
            ),
            None if chain.len() == 1 => format!("writes descriptor {head}, a chain by itself"),
            None => format!(
                "writes {} descriptors, a chain from head {head} on",
                chain.len()
            ),
        },
        Event::AvailableEntry { slot, head } => format!("avail.ring[{slot}] = {head}, the head"),
        Event::AvailableIndex { before, after } => format!("avail.idx: {before} -> {after}"),
        Event::NotificationWanted {
            avail_event,
            used_flags,
            wanted,
        } => {
            let reason = match (avail_event, used_flags) {
                (Some(event), _) => format!("avail_event is {event}: "),
                (None, Some(flags)) => format!("used.flags is {flags}: "),
                (None, None) => String::new(),
            };
            let wants = if *wanted { "wants" } else { "does not want" };
            format!("{reason}the device {wants} to be notified")
        }
        Event::Notify { address, value, .. } => {
            format!("writes {value} to QueueNotify ({address:#x})")
        }
        Event::Exit {
            reason,
            address,
            width,
            direction,
            vcpu,
        } => {
            let (what, preposition) = match direction {
                Direction::Read => ("read", "from"),
                Direction::Write => ("write", "to"),
            };
            format!(
                "{reason} of vCPU {vcpu}: {what} of {} {preposition} {address:#x}",
                bytes(u64::from(*width))
            )
        }
        Event::Signalled { address, value } => {
            format!("signals the eventfd for the write of {value} to {address:#x}")
        }
        Event::Taken {
            last_avail_idx,
            avail_idx,
            heads,
            refused,
        } => {
            let heads: Vec<String> = heads.iter().take(4).map(ToString::to_string).collect();
            let mut line = format!(
                "avail.idx is {avail_idx}, was {last_avail_idx}: takes head {}",
                heads.join(", ")
            );
            if heads.is_empty() {
                line = format!("avail.idx is {avail_idx}, was {last_avail_idx}");
            }
            if *refused > 0 {
                line += &format!("; refuses {refused}");
            }
            line
        }
        Event::Walked { head, chain, error } => match error {
            None => format!("walks the chain from head {head}: {} buffers", chain.len()),
            Some(error) => format!("refuses the chain from head {head}: {error}"),
        },
        Event::Parsed {
            request_type,
            name,
            sector,
            data_len,
            refusal,
            ..
        } => {
            let what = match (name, request_type) {
                (Some(name), _) => name.clone(),
                (None, Some(number)) => format!("type {number}"),
                (None, None) => "no request".to_owned(),
            };
            let at = sector.map_or(String::new(), |sector| format!(", sector {sector}"));
            let refused = refusal
                .as_ref()
                .map_or(String::new(), |refusal| format!("; refused: {refusal}"));
            format!("parses {what}{at}, {}{refused}", bytes(*data_len))
        }
        Event::FileIo {
            direction,
            offset,
            len,
            moved,
            failed,
        } => {
            let (verb, preposition) = match direction {
                Direction::Read => ("reads", "from"),
                Direction::Write => ("writes", "to"),
            };
            let end = match (failed, moved == len) {
                (true, _) => ": the host failed it".to_owned(),
                (false, true) => String::new(),
                (false, false) => format!(": {} were moved", bytes(*moved)),
            };
            format!(
                "{verb} {} {preposition} the disk, file offset {offset}{end}",
                bytes(*len)
            )
        }
        Event::StatusWritten {
            address,
            value,
            name,
        } => format!(
            "status byte at {address:#x} = {}",
            value_name((*value).into(), name.as_deref())
        ),
        Event::UsedAdded {
            slot,
            id,
            len,
            before,
            after,
        } => format!("used.ring[{slot}] = (id {id}, len {len}); used.idx: {before} -> {after}"),
        Event::InterruptUnwanted {
            used_event,
            avail_flags,
        } => {
            let reason = match (used_event, avail_flags) {
                (Some(event), _) => format!("used_event is {event}: "),
                (None, Some(flags)) => format!("avail.flags is {flags}: "),
                (None, None) => String::new(),
            };
            format!("{reason}the driver wants no interrupt")
        }
        Event::Interrupt {
            gsi,
            interrupt_status,
            meaning,
        } => format!(
            "InterruptStatus = {}; raises the interrupt: GSI {gsi}",
            meant((*interrupt_status).into(), meaning)
        ),
        Event::Resumed { vcpu, .. } => format!("enters vCPU {vcpu} again"),
        Event::Waiting { .. } => "waits for the interrupt".to_owned(),
        Event::HandlerEntered { vector, .. } => {
            format!("injects vector {vector}")
        }
        Event::Register { access } => {
            let register = access.register.as_deref().unwrap_or("no register");
            let value = meant(access.value, &access.meaning);
            match access.direction {
                Direction::Read => format!("{register} reads {value}"),
                Direction::Write => format!("{register} = {value}"),
            }
        }
        Event::UsedSeen {
            used_idx,
            id,
            len,
            status,
            name,
        } => format!(
            "used.idx is {used_idx}: id {id}, len {len}; status {}",
            value_name((*status).into(), name.as_deref())
        ),
        Event::Woken { .. } => "the waiter goes on".to_owned(),
    }
}

/// The places in the guest's program that a step speaks of, each with what it is.
pub fn places(event: &Event) -> Vec<(&'static str, &Code)> {
    match event {
        Event::Notify { by, .. } => vec![("by", by)],
        Event::Register { access } => vec![("by", &access.by)],
        Event::Resumed { at: Some(at), .. } => vec![("at", at)],
        Event::Waiting { at } => vec![("by", at)],
        Event::Woken { at } => vec![("with", at)],
        Event::HandlerEntered {
            handler,
            interrupted,
            ..
        } => {
            let mut places = vec![("handler", handler)];
            places.extend(interrupted.as_ref().map(|code| ("interrupts", code)));
            places
        }
        _ => Vec::new(),
    }
}

/// A descriptor's flags, as `NEXT|WRITE`; `0` if there are none.
pub fn flags(descriptor: &Descriptor) -> String {
    match descriptor.flag_names.is_empty() {
        true => descriptor.flags.to_string(),
        false => descriptor.flag_names.join("|"),
    }
}

/// What was read or written, and what it says.
pub fn access_value(access: &Access) -> String {
    match access.value {
        0..=9 => access.value.to_string(),
        value => format!("{value:#x}"),
    }
}

/// `value (A|B)`.
fn meant(value: u64, meaning: &[String]) -> String {
    let names = (!meaning.is_empty()).then(|| meaning.join("|"));
    value_name(value, names.as_deref())
}

fn value_name(value: u64, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{value} ({name})"),
        None => value.to_string(),
    }
}

/// `len` as a number of bytes.
pub fn bytes(len: u64) -> String {
    match len {
        1 => "1 byte".to_owned(),
        len => format!("{len} bytes"),
    }
}

/// A byte as a character, or a dot.
pub fn printable(byte: u8) -> char {
    match byte {
        b' '..=b'~' => byte.into(),
        _ => '.',
    }
}

/// Which accesses to a register of `device` are exits.
pub fn seen(device: &Device) -> &'static str {
    match device.registers.as_str() {
        "mapped" => "write",
        _ => "access",
    }
}

/// A time in nanoseconds, as microseconds: with a tenth of them where that says anything.
pub fn micros(ns: u64) -> String {
    match ns / 1000 {
        us @ 100_000.. => us.to_string(),
        us => format!("{us}.{}", ns % 1000 / 100),
    }
}

/// A place in the guest's program: `function+0x6 (0x1024b6)`.
pub fn place(code: &Code) -> String {
    let Code { rip, offset, .. } = code;
    match &code.symbol {
        Some(symbol) if *offset > 0 => format!("{}+{offset:#x} ({rip:#x})", short(symbol)),
        Some(symbol) => format!("{} ({rip:#x})", short(symbol)),
        None => format!("{rip:#x}"),
    }
}

/// A function's name without the modules that it is in: `Device::write` for
/// `guest::machine::device::Device::write` and for
/// `<guest::machine::device::Device as guest::virtio::transport::Transport>::write`.
pub fn short(symbol: &str) -> String {
    if let Some((of, rest)) = symbol
        .strip_prefix('<')
        .and_then(|inner| inner.rsplit_once(">::"))
    {
        let of = of.split(" as ").next().unwrap_or(of);
        let of = of.rsplit("::").next().unwrap_or(of);
        return format!("{of}::{rest}");
    }
    let mut parts: Vec<&str> = symbol.rsplitn(3, "::").take(2).collect();
    parts.reverse();
    match parts.as_slice() {
        // A module says little, a type much.
        [first, last] if !first.starts_with(char::is_uppercase) => (*last).to_owned(),
        parts => parts.join("::"),
    }
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
