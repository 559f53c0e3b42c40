//! What is said of each step, in a line and in a paragraph: the same words on a terminal and on a
//! page. Nothing is laid out here.

use super::story::{Access, Code, Descriptor, Direction, Event, Operation, Role, Side};

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
                "sees avail.idx {avail_idx}, was at {last_avail_idx}: takes head {}",
                heads.join(", ")
            );
            if heads.is_empty() {
                line = format!("sees avail.idx {avail_idx}, was at {last_avail_idx}");
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
            "InterruptStatus = {}; writes to the irqfd: GSI {gsi}",
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
            "sees used.idx {used_idx}: id {id}, len {len}; status {}",
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
        Event::Resumed { at: Some(at), .. } | Event::Waiting { at } | Event::Woken { at } => {
            vec![("at", at)]
        }
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

/// Why the step is taken, and what it means to the other side.
pub fn why(event: &Event) -> &'static str {
    match event {
        Event::DescriptorsWritten { indirect, .. } => match indirect {
            None => {
                "Each descriptor names one buffer in guest memory. NEXT chains it to another one; \
                 WRITE lets the device write there. The device does not know of the chain yet."
            }
            Some(_) => {
                "The buffers are named in a table of their own, so that the chain takes one entry \
                 of the Descriptor Area whatever its length. The device does not know of it yet."
            }
        },
        Event::AvailableEntry { .. } => {
            "The available ring holds heads of chains. The device looks no further than avail.idx, \
             so this entry is still the driver's."
        }
        Event::AvailableIndex { .. } => {
            "From here on the chain belongs to the device. A release store: whoever sees the new \
             index also sees the ring entry, the descriptors and the buffers."
        }
        Event::NotificationWanted { .. } => {
            "A notification costs an exit from the guest, so the driver asks first. A full fence \
             stands between the store to avail.idx and this load: either the driver sees that it \
             has to notify, or the device sees the new index."
        }
        Event::Notify { .. } => {
            "The available buffer notification: the queue's index, written to a register where \
             there is no RAM. This is the instruction that leaves the guest."
        }
        Event::Exit { .. } => {
            "No memory slot covers the address, so the CPU leaves the guest, KVM decodes the \
             instruction, and the ioctl KVM_RUN returns to the VMM's vCPU thread."
        }
        Event::Signalled { .. } => {
            "An ioeventfd covers the address: KVM handles the write itself and wakes the device's \
             worker. The guest still leaves and enters again, but not as far as the VMM."
        }
        Event::Taken { .. } => {
            "An acquire load of avail.idx, then the ring's entries up to it. What is the device's \
             is the entries between where it was and this index."
        }
        Event::Walked { .. } => {
            "The device copies each descriptor once and checks it: the driver could change it at \
             any time, and is not trusted."
        }
        Event::Parsed { .. } => {
            "The header is copied once: the type, and the sector, of 512 bytes each. The last \
             device-writable byte is where the status goes."
        }
        Event::FileIo { .. } => {
            "The data goes straight between the file and guest memory, with no copy in between. \
             The offset is the sector times 512."
        }
        Event::StatusWritten { .. } => {
            "One byte tells the driver how the request ended. It is written before the used ring."
        }
        Event::UsedAdded { .. } => {
            "The chain belongs to the driver again. len counts the bytes that the device wrote to \
             guest memory, the status byte among them. used.idx is a release store."
        }
        Event::InterruptUnwanted { .. } => {
            "The driver polls, or still has used buffers to look at: an interrupt would be wasted."
        }
        Event::Interrupt { .. } => {
            "The used buffer notification. The irqfd is an eventfd that KVM listens to: a write of \
             8 bytes raises the GSI on the IOAPIC that is in the kernel."
        }
        Event::Resumed { .. } => "The guest goes on behind the instruction that left it.",
        Event::Waiting { .. } => {
            "There is nothing else to do, so the CPU is halted. KVM keeps the vCPU's thread asleep \
             in the kernel: with its local APIC there, HLT is no exit to the VMM."
        }
        Event::HandlerEntered { .. } => {
            "The IOAPIC's pin is routed to this vector of the local APIC. KVM injects it, and the \
             CPU goes where the guest's IDT says."
        }
        Event::Register { access } => match access.register.as_deref() {
            Some("InterruptStatus") => {
                "The handler asks why the device interrupts. This access exits to the VMM as well."
            }
            Some("InterruptACK") => {
                "The handler tells the device that it has noticed. One more exit to the VMM."
            }
            _ => "Another exit to the VMM.",
        },
        Event::UsedSeen { .. } => {
            "An acquire load of used.idx, then the entry. The descriptors are free again, and the \
             status byte says how the request ended."
        }
        Event::Woken { .. } => {
            "The interrupt has ended the wait: the program goes on where it was waiting."
        }
    }
}

/// Why the driver accesses a register while it brings the device up.
pub fn register_why(access: &Access) -> &'static str {
    let name = access.register.as_deref().unwrap_or_default();
    match (name, access.direction) {
        ("MagicValue", _) => "Is there a virtio device at all? The four bytes spell \"virt\".",
        ("Version", _) => "2 is the register layout of VIRTIO 1; a legacy device would say 1.",
        ("DeviceID", _) => "What kind of device: 2 is a block device, 0 would be none.",
        ("VendorID", _) => "Who made the device. Drivers do not depend on it.",
        ("DeviceFeaturesSel", _) => {
            "There are more feature bits than a register has: this selects which 32 DeviceFeatures \
             shows."
        }
        ("DeviceFeatures", _) => "What the device offers, 32 bits of it.",
        ("DriverFeaturesSel", _) => "Selects which 32 bits DriverFeatures sets.",
        ("DriverFeatures", _) => {
            "What the driver accepts of what was offered. What is not accepted is not used."
        }
        ("QueueSel", _) => "The queue registers that follow speak of this queue.",
        ("QueueNumMax", _) => "The most descriptors that the queue may have; 0 if there is none.",
        ("QueueNum", _) => "How many descriptors the driver gives the queue.",
        ("QueueReady", Direction::Read) => "Whether the device has the queue in use.",
        ("QueueReady", Direction::Write) => {
            "The three addresses are complete: the device checks them and takes the queue into use."
        }
        ("QueueDescLow" | "QueueDescHigh", _) => {
            "Where the Descriptor Area is in guest memory, one half of the address."
        }
        ("QueueDriverLow" | "QueueDriverHigh", _) => {
            "Where the Driver Area, the available ring, is in guest memory, one half of the address."
        }
        ("QueueDeviceLow" | "QueueDeviceHigh", _) => {
            "Where the Device Area, the used ring, is in guest memory, one half of the address."
        }
        ("QueueNotify", _) => "The available buffer notification.",
        ("InterruptStatus", _) => "Why the device interrupts.",
        ("InterruptACK", _) => "What the driver has noticed of it.",
        ("ConfigGeneration", _) => {
            "Read before and after the configuration space: if it has changed, what was read may be \
             half old and half new."
        }
        ("Status", Direction::Write) => match access.value {
            0 => "Writing 0 resets the device: whatever it knew is gone.",
            value if value & 128 != 0 => "The driver has given up on the device.",
            value if value & 4 != 0 => "DRIVER_OK: the driver is ready, and the device is live.",
            value if value & 8 != 0 => {
                "FEATURES_OK: the driver has said all that it accepts. The device may refuse."
            }
            value if value & 2 != 0 => "DRIVER: the guest knows how to drive the device.",
            _ => "ACKNOWLEDGE: the guest has noticed the device.",
        },
        ("Status", Direction::Read) => match access.value {
            0 => "The device says 0 when its reset is complete.",
            value if value & 12 == 8 => {
                "FEATURES_OK is still set: the device agrees with what was accepted."
            }
            _ => {
                "How far driver and device have come. Flags are added, and never cleared but by a reset."
            }
        },
        (name, _) if name.starts_with("config") => {
            "The configuration space begins at offset 0x100: what is particular to this kind of \
             device."
        }
        _ => "",
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

/// A time in nanoseconds, as microseconds.
pub fn micros(ns: u64) -> String {
    format!("{}.{}", ns / 1000, ns % 1000 / 100)
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
