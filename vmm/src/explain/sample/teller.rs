//! A request of the story for tests: its steps, and what each makes of memory.

use spec::board::{VIRTIO_MMIO_BASE, VIRTIO_MMIO_GSI};
use spec::mmio::Register;
use spec::queue::DescFlags;

use super::super::story::{
    Access, Act, BYTES_SHOWN, Buffer, Code, Descriptor, Direction, Event, IndirectTable, Operation,
    Role, Side, Snapshot, Step, TableEntry,
};
use super::{Layout, Shape, code};

/// The vector of the device's interrupt.
const VECTOR: u8 = 37;
/// What a status byte holds before the device writes it.
const NOT_WRITTEN: u8 = 0xff;

/// Tells an act, and keeps the memory as it is after each step.
pub struct Teller {
    pub shape: Shape,
    pub layout: Layout,
    /// What is in memory.
    pub now: Snapshot,
}

impl Teller {
    /// One request.
    pub fn act(&mut self, operation: Operation) -> Act {
        let before = self.now.clone();
        let sector = if self.shape.past_end { 1 << 20 } else { 2 };
        let mut steps = Vec::new();
        let mut at = None;
        for (side, event, took) in self.events(operation, sector) {
            self.apply(&event, operation);
            let untimed = side == Side::Driver && !self.shape.ours;
            let since = (at.is_some() && !untimed).then_some(took);
            at = Some(at.map_or(0, |at: u64| at + took));
            steps.push(Step {
                side,
                at_ns: at.filter(|_| !untimed),
                since_ns: since,
                event,
                after: self.now.clone(),
            });
        }
        Act {
            operation,
            sector,
            len: self.shape.len.into(),
            before,
            steps,
        }
    }

    /// The three descriptors, in the order of the chain.
    fn chain(&self, operation: Operation) -> [Descriptor; 3] {
        let data = match operation {
            Operation::Read => DescFlags::NEXT | DescFlags::WRITE,
            Operation::Write => DescFlags::NEXT,
        };
        let Layout {
            header,
            data: at,
            status,
            ..
        } = self.layout;
        [
            descriptor(header, 16, DescFlags::NEXT, 1),
            descriptor(at, self.shape.len, data, 2),
            descriptor(status, 1, DescFlags::WRITE, 0),
        ]
    }

    fn events(&self, operation: Operation, sector: u64) -> Vec<(Side, Event, u64)> {
        use Side::{Device, Driver, Kvm};
        let shape = self.shape;
        let code = |rip, symbol, offset| code(shape, rip, symbol, offset);
        let chain = self.chain(operation);
        let entries: Vec<TableEntry> = (0..)
            .zip(chain.clone())
            .map(|(index, descriptor)| TableEntry { index, descriptor })
            .collect();
        let (idx, gsi) = (self.now.available.idx, VIRTIO_MMIO_GSI);
        let slot = idx % shape.queue_size;
        let notify_address = VIRTIO_MMIO_BASE + Register::QueueNotify.offset();
        let (direction, request_type, name) = match operation {
            Operation::Read => (Direction::Read, 0, "VIRTIO_BLK_T_IN"),
            Operation::Write => (Direction::Write, 1, "VIRTIO_BLK_T_OUT"),
        };
        let (status, status_name) = match shape.past_end {
            true => (1, "VIRTIO_BLK_S_IOERR"),
            false => (0, "VIRTIO_BLK_S_OK"),
        };
        let written = match operation {
            Operation::Read if !shape.past_end => shape.len + 1,
            _ => 1,
        };
        let register = |direction, register: Register, rip| Event::Register {
            access: Access {
                at_ns: None,
                direction,
                offset: register.offset(),
                register: Some(format!("{register:?}")),
                width: 4,
                value: 1,
                meaning: vec!["USED_BUFFER".into()],
                by: code(rip, "interrupt", rip - 0x10_3cb0),
            },
        };
        let indirect = shape.indirect.then(|| IndirectTable {
            address: self.layout.tables,
            entries: entries.clone(),
            len: 3,
        });
        let direct = match shape.indirect {
            false => entries,
            true => vec![TableEntry {
                index: 0,
                descriptor: descriptor(self.layout.tables, 48, DescFlags::INDIRECT, 0),
            }],
        };
        let halt = code(0x10_0511, "halt", 1);
        let mut events = vec![
            (
                Driver,
                Event::DescriptorsWritten {
                    head: 0,
                    chain: direct,
                    indirect,
                },
                0,
            ),
            (Driver, Event::AvailableEntry { slot, head: 0 }, 6_100),
            (
                Driver,
                Event::AvailableIndex {
                    before: idx,
                    after: idx.wrapping_add(1),
                },
                2_400,
            ),
            (
                Driver,
                Event::NotificationWanted {
                    avail_event: Some(idx),
                    used_flags: None,
                    wanted: true,
                },
                9_800,
            ),
            (
                Driver,
                Event::Notify {
                    address: notify_address,
                    value: 0,
                    by: Code {
                        instruction: Some("mov [rdi+rsi],edx".into()),
                        ..code(0x10_24b6, "guest::machine::device::Device::write", 6)
                    },
                },
                4_700,
            ),
            (
                Kvm,
                Event::Exit {
                    reason: "KVM_EXIT_MMIO".into(),
                    address: notify_address,
                    width: 4,
                    direction: Direction::Write,
                    vcpu: 0,
                },
                3_900,
            ),
            (
                Device,
                Event::Taken {
                    last_avail_idx: idx,
                    avail_idx: idx.wrapping_add(1),
                    heads: vec![0],
                    refused: 0,
                },
                1_300,
            ),
            (
                Device,
                Event::Walked {
                    head: 0,
                    chain: chain.to_vec(),
                    error: None,
                },
                700,
            ),
            (
                Device,
                Event::Parsed {
                    request_type: Some(request_type),
                    name: Some(name.into()),
                    sector: Some(sector),
                    data_len: shape.len.into(),
                    status_address: Some(self.layout.status),
                    refusal: shape.past_end.then(|| {
                        let count = shape.len / 512;
                        format!("{count} sectors from {sector} are not all on the disk")
                    }),
                },
                600,
            ),
        ];
        if !shape.past_end {
            let io = Event::FileIo {
                direction,
                offset: sector * 512,
                len: shape.len.into(),
                moved: shape.len.into(),
                failed: false,
            };
            events.push((Device, io, 5_200));
        }
        let rest = [
            (
                Device,
                Event::StatusWritten {
                    address: self.layout.status,
                    value: status,
                    name: Some(status_name.into()),
                },
                400,
            ),
            (
                Device,
                Event::UsedAdded {
                    slot,
                    id: 0,
                    len: written,
                    before: idx,
                    after: idx.wrapping_add(1),
                },
                300,
            ),
            (
                Device,
                Event::Interrupt {
                    gsi,
                    interrupt_status: 1,
                    meaning: vec!["USED_BUFFER".into()],
                },
                2_900,
            ),
            (
                Kvm,
                Event::Resumed {
                    vcpu: 0,
                    at: Some(code(0x10_24b9, "guest::machine::device::Device::write", 9)),
                },
                1_100,
            ),
            (Driver, Event::Waiting { at: halt.clone() }, 15_600),
            (
                Kvm,
                Event::HandlerEntered {
                    vector: VECTOR,
                    handler: code(0x10_03a0, "vectors", 0x250),
                    interrupted: Some(halt.clone()),
                },
                4_400,
            ),
            (
                Driver,
                register(Direction::Read, Register::InterruptStatus, 0x10_3ce1),
                17_200,
            ),
            (
                Driver,
                register(Direction::Write, Register::InterruptACK, 0x10_3cec),
                9_500,
            ),
            (Driver, Event::Woken { at: halt }, 22_000),
            (
                Driver,
                Event::UsedSeen {
                    used_idx: idx.wrapping_add(1),
                    id: 0,
                    len: written,
                    status,
                    name: Some(status_name.into()),
                },
                6_700,
            ),
        ];
        events.extend(rest);
        events
    }

    /// What memory is like after `event`.
    fn apply(&mut self, event: &Event, operation: Operation) {
        let now = &mut self.now;
        match event {
            Event::DescriptorsWritten {
                chain, indirect, ..
            } => {
                for entry in chain {
                    now.descriptors[usize::from(entry.index)] = entry.clone();
                }
                now.indirect = indirect.clone();
                now.buffers = buffers(self.layout, self.shape, operation);
            }
            Event::AvailableEntry { slot, head } => {
                now.available.entries[usize::from(*slot)].head = *head;
            }
            Event::AvailableIndex { after, .. } => now.available.idx = *after,
            Event::Taken { avail_idx, .. } => now.used.avail_event = *avail_idx,
            Event::FileIo {
                direction: Direction::Read,
                ..
            } => now.buffers[1].bytes = text(self.shape.len),
            Event::StatusWritten { value, .. } => now.buffers[2].bytes = vec![*value],
            Event::UsedAdded {
                slot,
                id,
                len,
                after,
                ..
            } => {
                let entry = &mut now.used.entries[usize::from(*slot)];
                (entry.id, entry.len) = (*id, *len);
                now.used.idx = *after;
            }
            Event::UsedSeen { used_idx, .. } => now.available.used_event = *used_idx,
            _ => {}
        }
    }
}

fn descriptor(addr: u64, len: u32, flags: DescFlags, next: u16) -> Descriptor {
    Descriptor {
        addr,
        len,
        flags: flags.bits(),
        flag_names: flags.iter_names().map(|(name, _)| name.into()).collect(),
        next,
    }
}

/// The buffers as the driver hands them over.
fn buffers(layout: Layout, shape: Shape, operation: Operation) -> Vec<Buffer> {
    let (request_type, data) = match operation {
        Operation::Read => (0, vec![0; shown(shape.len)]),
        Operation::Write => (
            1,
            text(shape.len).iter().map(u8::to_ascii_uppercase).collect(),
        ),
    };
    let header = spec::block::RequestHeader {
        request_type,
        sector: if shape.past_end { 1 << 20 } else { 2 },
    };
    let buffer = |role, address, len: u32, bytes| Buffer {
        role,
        address,
        len: len.into(),
        bytes,
    };
    vec![
        buffer(Role::Header, layout.header, 16, header.to_bytes().into()),
        buffer(Role::Data, layout.data, shape.len, data),
        buffer(Role::Status, layout.status, 1, vec![NOT_WRITTEN]),
    ]
}

/// What is on the disk, as far as it is shown.
fn text(len: u32) -> Vec<u8> {
    let text = "This is sector 2 of the built-in disk. ".bytes();
    text.cycle().take(shown(len)).collect()
}

fn shown(len: u32) -> usize {
    BYTES_SHOWN.min(len as usize)
}
