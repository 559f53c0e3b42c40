//! A device and the model of it, side by side: what a driver does is done to both. What the device
//! makes of its queues is in `drains`, and what it makes of registers in memory in `memory`.

mod drains;
mod memory;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::virtio::block::backend::MemoryBackend;
use devices::virtio::{MmioTransport, RegisterPage};
use devices::{BusDevice, Response};
use spec::Features;
use spec::block::config::WRITEBACK;
use spec::mmio::{CONFIG_OFFSET, Register};
use spec::queue::{DESC_SIZE, Descriptor, RING_IDX, avail_entry, avail_ring_size, used_ring_size};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use crate::model::disk::Disk;
use crate::model::queue::Queue;
use crate::model::ram::Ram;
use crate::model::registers::offered;
use crate::parts::{self, Edges, Mode, Parts};
use crate::ram;
use crate::window::Window;

/// Where the areas of the first queue are; there is room for one of 512 descriptors.
pub const AREAS: [u64; 3] = [0x1000, 0x3400, 0x4000];
/// The most queues there can be. The others are below the first one, and smaller.
pub const QUEUES_MAX: usize = 4;
const OTHER_AREAS: [u64; 3] = [0, 0x200, 0x280];
const OTHER_PLACE: u64 = 0x400;
const OTHER_SIZE_MAX: u16 = 32;

/// What the guest does, done to a device and to the model.
pub struct Harness {
    transport: MmioTransport,
    page: Arc<RegisterPage>,
    /// What the guest has in place of the registers, if it has.
    window: Option<Window>,
    /// What the guest has acknowledged there since the last exit.
    stored_ack: u32,
    memory: GuestMemoryMmap,
    backend: MemoryBackend,
    edges: Arc<Edges>,
    /// What notifies the queues of a device that has threads.
    kicks: Vec<EventFd>,
    pub ram: Ram,
    disk: Disk,
    lanes: Vec<Lane>,
    /// The queue that the guest uses next.
    chosen: usize,
    interrupts: u64,
    /// InterruptStatus.
    pending: u32,
    /// Whether DEVICE_NEEDS_RESET is set.
    needs_reset: bool,
    /// Room for what is found in RAM.
    found: [Vec<u8>; 3],
}

/// A queue.
struct Lane {
    areas: [u64; 3],
    /// Between DRIVER_OK and what ends its use.
    queue: Option<Queue>,
    /// Size of the last queue there was.
    size: u16,
}

impl Lane {
    fn new(index: usize) -> Self {
        Self {
            areas: match index as u64 {
                0 => AREAS,
                index => OTHER_AREAS.map(|area| OTHER_PLACE * index + area),
            },
            queue: None,
            size: 0,
        }
    }
}

impl Harness {
    pub fn new((mode, queues): (Mode, usize), read_only: bool) -> Self {
        let memory = ram::zeroed();
        let Parts {
            transport,
            page,
            window,
            backend,
            edges,
            kicks,
        } = Parts::new((mode, queues), read_only, memory.clone());
        let bytes = backend.bytes().clone();
        Self {
            transport,
            page,
            window,
            stored_ack: 0,
            ram: Ram::of(&memory),
            memory,
            disk: Disk {
                bytes,
                id: parts::id(),
                read_only,
                features: Features::empty(),
                writeback: true,
            },
            backend,
            edges,
            kicks,
            lanes: (0..queues).map(Lane::new).collect(),
            chosen: 0,
            interrupts: 0,
            pending: 0,
            needs_reset: false,
            found: ram::REGIONS.map(|(_, len)| vec![0; len]),
        }
    }

    /// Whether threads of the device's own serve the queues.
    pub fn has_thread(&self) -> bool {
        !self.kicks.is_empty()
    }

    /// Uses the queue of this number, modulo that of the queues, from here on.
    pub fn choose(&mut self, number: usize) {
        self.chosen = number % self.lanes.len();
    }

    /// Which queue is used.
    pub fn chosen(&self) -> usize {
        self.chosen
    }

    /// The queue that is used, between DRIVER_OK and what ends its use.
    pub fn queue(&self) -> Option<&Queue> {
        self.lanes[self.chosen].queue.as_ref()
    }

    /// Where the areas of the queue that is used are.
    pub fn areas(&self) -> [u64; 3] {
        self.lanes[self.chosen].areas
    }

    fn forget_queues(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.queue = None);
        (self.pending, self.needs_reset) = (0, false);
        self.stored_ack = 0;
    }

    // Registers

    pub fn read(&mut self, register: Register) -> u32 {
        let mut data = [0; 4];
        match &self.window {
            Some(_) => self.page.read(register.offset(), &mut data),
            None => self.transport.read(register.offset(), &mut data),
        }
        u32::from_le_bytes(data)
    }

    fn try_write(&mut self, register: Register, value: u32) -> Response {
        self.write_at(register.offset(), &value.to_le_bytes())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Response {
        if self.store(offset, bytes) {
            return Response::Done;
        }
        self.exit();
        self.transport.write(offset, bytes).worked()
    }

    /// Writes a register that leads to no drain.
    pub fn write(&mut self, register: Register, value: u32) {
        let response = self.try_write(register, value);
        assert!(
            matches!(response, Response::Done),
            "{response:?} to {value:#x} in {register:?}"
        );
    }

    /// Resets the device.
    pub fn reset(&mut self) {
        self.write(Register::Status, 0);
        self.forget_queues();
        assert_eq!(self.read(Register::Status), 0, "not reset");
        self.catch_up();
        assert_eq!(self.read(Register::Status), 0, "not reset");
        assert_eq!(self.read(Register::InterruptStatus), 0, "not reset");
        self.assert_as_modelled();
    }

    /// The initialization sequence, with as many of `features` as the device offers and with a first
    /// queue of `size` at [`AREAS`], and others as large as there is room for, whose rings are as they
    /// are in RAM. What is in them is served.
    pub fn bring_up(&mut self, features: Features, size: u16) {
        let mut features = features & offered(self.disk.read_only);
        features.set(Features::VIRTIO_BLK_F_MQ, self.lanes.len() > 1);
        self.reset();
        self.write(Register::Status, 1);
        self.write(Register::Status, 3);
        for sel in [0, 1] {
            self.write(Register::DriverFeaturesSel, sel);
            self.write(Register::DriverFeatures, features.word(sel));
        }
        self.write(Register::Status, 11);
        self.disk.features = features;
        self.disk.writeback = features.contains(Features::VIRTIO_BLK_F_FLUSH)
            || !features.contains(Features::VIRTIO_BLK_F_CONFIG_WCE);
        for index in 0..self.lanes.len() {
            let (areas, size) = (self.lanes[index].areas, size_of(index, size));
            let registers = [
                (Register::QueueSel, index as u32),
                (Register::QueueNum, size.into()),
                (Register::QueueDescLow, areas[0] as u32),
                (Register::QueueDriverLow, areas[1] as u32),
                (Register::QueueDeviceLow, areas[2] as u32),
                (Register::QueueReady, 1),
            ];
            for (register, value) in registers {
                self.write(register, value);
            }
            let queue = Some(Queue::new(size, areas, features));
            self.lanes[index] = Lane { areas, queue, size };
        }
        self.drain(Register::Status, 15);
        assert_eq!(self.read(Register::Status) & !64, 15, "not live");
    }

    /// Ends the use of the queue.
    pub fn stop_queue(&mut self) {
        self.write(Register::QueueSel, self.chosen as u32);
        self.write(Register::QueueReady, 0);
        self.lanes[self.chosen].queue = None;
    }

    /// Acknowledges events.
    pub fn acknowledge(&mut self, events: u32) {
        let is_open = self.is_open();
        self.write(Register::InterruptACK, events);
        if !is_open {
            self.pending &= !events;
        }
    }

    /// Switches the cache to write-back mode or from it, where the driver may.
    pub fn set_writeback(&mut self, value: u8) {
        let response = self.write_at(CONFIG_OFFSET + WRITEBACK, &[value]);
        assert!(matches!(response, Response::Done), "{response:?}");
        let features = self.disk.features;
        // No request comes between a reset and the next DRIVER_OK, when it begins anew.
        if features.contains(Features::VIRTIO_BLK_F_CONFIG_WCE) {
            self.disk.writeback = value != 0;
        }
    }

    // Memory

    /// Writes `bytes` at `addr`, up to the first that would not be in RAM.
    pub fn poke(&mut self, addr: u64, bytes: &[u8]) {
        let in_ram = |len: &usize| Ram::holds(addr, *len as u64);
        let len = (0..=bytes.len()).rev().find(in_ram).unwrap_or(0);
        let bytes = &bytes[..len];
        self.ram.write(addr, bytes);
        self.memory.write_slice(bytes, GuestAddress(addr)).unwrap();
    }

    /// Fills the rings with zeros, for a first queue of `size`.
    pub fn clear_rings(&mut self, size: u16) {
        for index in 0..self.lanes.len() {
            let ([_, avail, used], size) = (self.lanes[index].areas, size_of(index, size));
            self.poke(avail, &vec![0; avail_ring_size(size) as usize]);
            self.poke(used, &vec![0; used_ring_size(size) as usize]);
        }
    }

    /// Puts `descriptor` into the table.
    pub fn descriptor(&mut self, index: u16, descriptor: Descriptor) {
        self.poke(
            self.areas()[0] + DESC_SIZE * u64::from(index),
            &descriptor.to_bytes(),
        );
    }

    /// Makes `head` available as the next one.
    pub fn offer(&mut self, head: u16) {
        let Some(size) = self.queue().map(|queue| queue.size) else {
            return;
        };
        let avail = self.areas()[1];
        let idx = self.ram.field(avail + RING_IDX);
        self.poke(avail + avail_entry(idx, size), &head.to_le_bytes());
        self.set_avail_idx(idx.wrapping_add(1));
    }

    /// Sets `avail.idx`. In one piece, for a thread may be looking at it.
    pub fn set_avail_idx(&mut self, idx: u16) {
        let addr = self.areas()[1] + RING_IDX;
        self.ram.write(addr, &idx.to_le_bytes());
        self.memory
            .store(idx, GuestAddress(addr), Ordering::SeqCst)
            .unwrap();
    }
}

/// Size of the queue `index`, where the first is of `size`.
fn size_of(index: usize, size: u16) -> u16 {
    if index == 0 {
        size
    } else {
        size.min(OTHER_SIZE_MAX)
    }
}
