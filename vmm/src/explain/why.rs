//! Why a step is taken, and what it means to the other side: a paragraph for each kind of step.

use super::story::{Access, Direction, Event};

/// Why the step is taken, and what it means to the other side.
pub fn step(event: &Event) -> &'static str {
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
            "There is no memory that the guest may write at the address, so the CPU leaves the guest, \
             KVM decodes the instruction, and the ioctl KVM_RUN returns to the VMM's vCPU thread."
        }
        Event::Signalled { .. } => {
            "An ioeventfd covers the address: KVM handles the write itself and wakes the device's \
             worker. The guest still leaves and enters again, but not as far as the VMM."
        }
        Event::Taken { .. } => {
            "An acquire load of avail.idx, then the ring's entries from where it was up to it. While \
             it works it asks for no more notifications: by used.flags, or by an avail_event that \
             is far away."
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
             8 bytes raises the GSI on the IOAPIC that is in the kernel. With registers=mapped there \
             is none: an ioctl, KVM_IRQ_LINE, sets the line."
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
                "The handler asks why the device interrupts. This access exits to the VMM as well; \
                 with registers=mapped it is a load from memory, and does not."
            }
            Some("InterruptACK") => {
                "The handler tells the device that it has noticed. One more exit to the VMM; with \
                 registers=mapped it is a store to memory, which the device finds at the next \
                 notification."
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
pub fn register(access: &Access) -> &'static str {
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
