//! Stories for the tests of those that show them: as `vmm explain` tells them of the built-in guest,
//! and of guests and requests that are harder to show.

mod bring_up;
mod teller;

use spec::board::{FLAT_LOAD_ADDR, VIRTIO_MMIO_BASE, VIRTIO_MMIO_GSI, VIRTIO_MMIO_SIZE};
use spec::queue::{DESC_SIZE, avail_ring_size, desc_table_size, used_ring_size};

use super::story::{
    AvailableEntry, AvailableRing, Code, Descriptor, Device, FORMAT, Features, Machine, Operation,
    Queue, Range, Snapshot, Story, TableEntry, UsedEntry, UsedRing,
};
use bring_up::negotiation;
use teller::Teller;

/// Where the guest's memory for its device begins.
const DMA: u64 = 0x17_0000;

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
        registers: "trap".into(),
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

fn code(shape: Shape, rip: u64, symbol: &str, offset: u64) -> Code {
    Code {
        rip,
        symbol: shape.ours.then(|| symbol.into()),
        offset: if shape.ours { offset } else { 0 },
        instruction: None,
    }
}
