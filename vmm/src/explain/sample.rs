//! Stories for the tests of those that show them: as `vmm explain` tells them of the built-in guest,
//! and of guests and requests that are harder to show.

use spec::board::{FLAT_LOAD_ADDR, VIRTIO_MMIO_BASE, VIRTIO_MMIO_GSI, VIRTIO_MMIO_SIZE};
use spec::mmio::Register;
use spec::queue::{DESC_SIZE, DescFlags, avail_ring_size, desc_table_size, used_ring_size};

use super::story::{
    Access, Act, AvailableEntry, AvailableRing, BYTES_SHOWN, Buffer, Code, Descriptor, Device,
    Direction, Event, FORMAT, Features, IndirectTable, Machine, Operation, Queue, Range, Role,
    Side, Snapshot, Step, Story, TableEntry, UsedEntry, UsedRing,
};

/// Where the guest's memory for its device begins.
const DMA: u64 = 0x17_0000;
/// The vector of the device's interrupt.
const VECTOR: u8 = 37;
/// What a status byte holds before the device writes it.
const NOT_WRITTEN: u8 = 0xff;

/// What differs from story to story.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Size of the queue, in descriptors.
    pub queue_size: u16,
    /// Whether the descriptors are in a table of their own.
    pub indirect: bool,
    /// How much is read and written, in bytes.
    pub len: u32,
    /// Whether the requests are for sectors that do not exist.
    pub past_end: bool,
    /// Whether the guest is ours: its symbols are known, and its steps can be timed.
    pub ours: bool,
}

/// A story of the built-in guest.
pub const OURS: Shape = Shape {
    queue_size: 256,
    indirect: false,
    len: 512,
    past_end: false,
    ours: true,
};

/// A story of this shape.
pub fn story(shape: Shape) -> Story {
    let layout = Layout::new(shape);
    let mut teller = Teller {
        shape,
        layout,
        now: layout.snapshot(),
    };
    let acts = [Operation::Read, Operation::Write].map(|operation| teller.act(operation));
    Story {
        format: FORMAT,
        machine: machine(shape),
        device: device(),
        queue: Queue {
            index: 0,
            size: shape.queue_size,
            descriptor_area: layout.descriptor_area,
            driver_area: layout.driver_area,
            device_area: layout.device_area,
            event_idx: true,
            indirect: shape.indirect,
        },
        negotiation: negotiation(shape, layout),
        acts: acts.into(),
        notes: match shape.ours {
            true => vec![],
            false => vec!["The kernel has no symbols: functions are not named.".into()],
        },
    }
}

fn machine(shape: Shape) -> Machine {
    let range = |name: &str, address, len| Range {
        name: name.into(),
        address,
        len,
    };
    Machine {
        vmm: "0.1.0".into(),
        kernel: (!shape.ours).then(|| "kernel.bin".into()),
        initrd: None,
        cmdline: "run=explain virtio_mmio.device=4K@0xd0000000:5".into(),
        vcpus: 1,
        ranges: vec![
            range("RAM", 0, 32 << 20),
            range("guest", FLAT_LOAD_ADDR, 0x29_1288),
            range("virtio-mmio 0", VIRTIO_MMIO_BASE, VIRTIO_MMIO_SIZE),
        ],
    }
}

fn device() -> Device {
    let offered = 0x1_3000_6e46;
    Device {
        base: VIRTIO_MMIO_BASE,
        gsi: VIRTIO_MMIO_GSI,
        notify: "trap".into(),
        disk: None,
        id: "explain".into(),
        capacity: 2048,
        read_only: false,
        offered: features(offered),
        accepted: features(offered & !spec::Features::VIRTIO_F_INDIRECT_DESC.bits()),
    }
}

fn features(bits: u64) -> Features {
    let names = spec::Features::from_bits_retain(bits)
        .iter_names()
        .map(|(name, _)| name.to_string())
        .collect();
    Features { bits, names }
}

/// Where the guest has what it shares with the device.
#[derive(Clone, Copy)]
struct Layout {
    descriptor_area: u64,
    driver_area: u64,
    device_area: u64,
    tables: u64,
    header: u64,
    status: u64,
    data: u64,
}

impl Layout {
    fn new(shape: Shape) -> Self {
        let size = shape.queue_size;
        let driver_area = DMA + desc_table_size(size);
        let device_area = (driver_area + avail_ring_size(size)).next_multiple_of(4);
        let tables = (device_area + used_ring_size(size)).next_multiple_of(DESC_SIZE);
        let header = tables + if shape.indirect { 0x8_0000 } else { 0 };
        let status = header + DESC_SIZE * u64::from(size);
        Self {
            descriptor_area: DMA,
            driver_area,
            device_area,
            tables,
            header,
            status,
            data: (status + u64::from(size)).next_multiple_of(4096),
        }
    }

    /// The rings before the first request.
    fn snapshot(&self) -> Snapshot {
        let entries = 0..4;
        Snapshot {
            descriptors: entries
                .clone()
                .map(|index| TableEntry {
                    index,
                    descriptor: Descriptor::default(),
                })
                .collect(),
            indirect: None,
            available: AvailableRing {
                entries: entries
                    .clone()
                    .map(|slot| AvailableEntry { slot, head: 0 })
                    .collect(),
                ..AvailableRing::default()
            },
            used: UsedRing {
                entries: entries
                    .map(|slot| UsedEntry {
                        slot,
                        id: 0,
                        len: 0,
                    })
                    .collect(),
                ..UsedRing::default()
            },
            buffers: vec![],
        }
    }
}

/// The negotiation of our driver, but for what it reads of the configuration space.
fn negotiation(shape: Shape, layout: Layout) -> Vec<Access> {
    use Direction::{Read, Write};
    let (low, high) = (0x2000_6e46, 1);
    let names = |bits: u64| features(bits).names;
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let accesses = [
        (
            Read,
            Register::MagicValue,
            0x7472_6976,
            words(&["\"virt\""]),
        ),
        (Read, Register::Version, 2, vec![]),
        (Read, Register::DeviceID, 2, words(&["block device"])),
        (Write, Register::Status, 0, words(&["reset"])),
        (Read, Register::Status, 0, vec![]),
        (Write, Register::Status, 1, words(&["ACKNOWLEDGE"])),
        (
            Write,
            Register::Status,
            3,
            words(&["ACKNOWLEDGE", "DRIVER"]),
        ),
        (Write, Register::DeviceFeaturesSel, 0, vec![]),
        (
            Read,
            Register::DeviceFeatures,
            low | 1 << 28,
            names(low | 1 << 28),
        ),
        (Write, Register::DeviceFeaturesSel, 1, vec![]),
        (Read, Register::DeviceFeatures, high, names(1 << 32)),
        (Write, Register::DriverFeaturesSel, 0, vec![]),
        (Write, Register::DriverFeatures, low, names(low)),
        (Write, Register::DriverFeaturesSel, 1, vec![]),
        (Write, Register::DriverFeatures, high, names(1 << 32)),
        (
            Write,
            Register::Status,
            11,
            words(&["ACKNOWLEDGE", "DRIVER", "FEATURES_OK"]),
        ),
        (
            Read,
            Register::Status,
            11,
            words(&["ACKNOWLEDGE", "DRIVER", "FEATURES_OK"]),
        ),
        (Write, Register::QueueSel, 0, vec![]),
        (Read, Register::QueueNumMax, 512, vec![]),
        (Read, Register::QueueReady, 0, vec![]),
        (Write, Register::QueueNum, shape.queue_size.into(), vec![]),
        (
            Write,
            Register::QueueDescLow,
            layout.descriptor_area,
            vec![],
        ),
        (Write, Register::QueueDescHigh, 0, vec![]),
        (Write, Register::QueueDriverLow, layout.driver_area, vec![]),
        (Write, Register::QueueDriverHigh, 0, vec![]),
        (Write, Register::QueueDeviceLow, layout.device_area, vec![]),
        (Write, Register::QueueDeviceHigh, 0, vec![]),
        (Write, Register::QueueReady, 1, vec![]),
        (Read, Register::QueueReady, 1, vec![]),
        (
            Write,
            Register::Status,
            15,
            words(&["ACKNOWLEDGE", "DRIVER", "DRIVER_OK", "FEATURES_OK"]),
        ),
    ];
    (0..)
        .zip(accesses)
        .map(|(i, (direction, register, value, meaning))| Access {
            at_ns: Some(i * 14_200),
            direction,
            offset: register.offset(),
            register: Some(format!("{register:?}")),
            width: 4,
            value,
            meaning,
            by: code(shape, 0x10_24b3, "guest::machine::device::Device::write", 3),
        })
        .collect()
}

fn code(shape: Shape, rip: u64, symbol: &str, offset: u64) -> Code {
    Code {
        rip,
        symbol: shape.ours.then(|| symbol.into()),
        offset: if shape.ours { offset } else { 0 },
        instruction: None,
    }
}

/// Tells an act, and keeps the memory as it is after each step.
struct Teller {
    shape: Shape,
    layout: Layout,
    now: Snapshot,
}

impl Teller {
    fn act(&mut self, operation: Operation) -> Act {
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
