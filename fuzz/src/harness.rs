//! A device and the model of it, side by side: what a driver does is done to both, and after each
//! drain all that a guest can see of the device is what the model says, and so is the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use devices::virtio::MmioTransport;
use devices::virtio::block::backend::MemoryBackend;
use devices::{BusDevice, Response};
use spec::Features;
use spec::block::config::WRITEBACK;
use spec::block::{RequestHeader, request_type, status};
use spec::mmio::{CONFIG_OFFSET, Register};
use spec::queue::{
    DESC_SIZE, DescFlags, Descriptor, RING_IDX, avail_entry, avail_event, avail_ring_size,
    used_ring_size,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use crate::model::disk::Disk;
use crate::model::queue::Queue;
use crate::model::ram::Ram;
use crate::model::registers::offered;
use crate::parts::{self, Edges, Mode, Parts, SECTORS};
use crate::ram;

/// Where the areas of the first queue are; there is room for one of 512 descriptors.
pub const AREAS: [u64; 3] = [0x1000, 0x3400, 0x4000];
/// The most queues there can be. The others are below the first one, and smaller.
pub const QUEUES_MAX: usize = 4;
const OTHER_AREAS: [u64; 3] = [0, 0x200, 0x280];
const OTHER_PLACE: u64 = 0x400;
const OTHER_SIZE_MAX: u16 = 32;
/// More drains than it takes to serve a full queue, in shares of 16 flushes.
const DRAINS_MAX: u32 = 100;
/// The longest that a thread is waited for.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a thread is left alone before it is looked after.
const TURN: Duration = Duration::from_micros(20);

/// What the guest does, done to a device and to the model.
pub struct Harness {
    transport: MmioTransport,
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
            backend,
            edges,
            kicks,
            ..
        } = Parts::new((mode, queues), read_only, memory.clone());
        let bytes = backend.bytes().clone();
        Self {
            transport,
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
    }

    // Registers

    pub fn read(&mut self, register: Register) -> u32 {
        let mut data = [0; 4];
        self.transport.read(register.offset(), &mut data);
        u32::from_le_bytes(data)
    }

    fn try_write(&mut self, register: Register, value: u32) -> Response {
        self.transport
            .write(register.offset(), &value.to_le_bytes())
            .worked()
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
        self.write(Register::InterruptACK, events);
        self.pending &= !events;
    }

    /// Switches the cache to write-back mode or from it, where the driver may.
    pub fn set_writeback(&mut self, value: u8) {
        let response = self.transport.write(CONFIG_OFFSET + WRITEBACK, &[value]);
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

    // The queue

    /// Notifies the device of the queue that is used, and goes on until all that is in it has been
    /// served.
    pub fn notify(&mut self) {
        self.drain(Register::QueueNotify, self.chosen as u32);
    }

    /// Writes `value` to a register that leads to drains: of the queue that is used, or of all.
    fn drain(&mut self, register: Register, value: u32) {
        if self.has_thread() {
            match register {
                Register::QueueNotify => self.kicks[self.chosen].write(1).unwrap(),
                _ => self.write(register, value),
            }
            return self.wait_for_threads();
        }
        for _ in 0..DRAINS_MAX {
            let response = self.try_write(register, value);
            let more = match register {
                Register::QueueNotify => self.drain_model(self.chosen),
                _ => self.drain_models(),
            };
            match response {
                Response::Done => assert!(!more, "a drain ended too early"),
                Response::Again => assert!(more, "a drain has no end"),
                other => panic!("{other:?}"),
            }
            self.assert_as_modelled();
            if !more {
                return;
            }
        }
        // A buffer over the available ring can make it look ever new.
        self.reset();
    }

    /// One drain of a queue of the model; whether there is more to do.
    fn drain_model(&mut self, index: usize) -> bool {
        let Some(queue) = &mut self.lanes[index].queue else {
            return false;
        };
        let before = queue.interrupts;
        let more = queue.drain(&mut self.ram, &mut self.disk);
        self.interrupts += queue.interrupts - before;
        self.pending |= std::mem::take(&mut queue.interrupt_status);
        self.needs_reset |= queue.needs_reset;
        more
    }

    /// One drain of each, one after the other; whether there is more to do in any.
    fn drain_models(&mut self) -> bool {
        let queues = 0..self.lanes.len();
        queues.fold(false, |more, index| self.drain_model(index) | more)
    }

    /// Has the model serve all that is in the queues, and waits until the device has.
    fn wait_for_threads(&mut self) {
        let mut drains = 0;
        while self.drain_models() {
            drains += 1;
            if drains == DRAINS_MAX {
                return self.reset_thread();
            }
        }
        let start = Instant::now();
        while !self.has_caught_up() {
            assert!(start.elapsed() < LIMIT, "the device serves no more");
            thread::sleep(TURN);
        }
        self.assert_as_modelled();
    }

    /// Whether the device has served what the model has.
    fn has_caught_up(&mut self) -> bool {
        let mut lanes = self.lanes.iter().filter_map(|lane| lane.queue.as_ref());
        let all_used = lanes.all(|queue| self.used_idx(queue.used) == queue.next_used);
        all_used && (self.read(Register::Status) & 64 != 0) == self.needs_reset
    }

    /// Resets the device where it does not matter what it has come to, and goes on from there.
    fn reset_thread(&mut self) {
        self.write(Register::Status, 0);
        self.forget_queues();
        self.ram = Ram::of(&self.memory);
        self.disk.bytes = self.backend.bytes().clone();
    }

    /// Resets the device while its thread, if it has one, may be serving the one chain that was
    /// made available last: it has been served, or it has not. Without a thread it has not.
    pub fn notify_and_reset(&mut self) {
        let Some(queue) = self.queue() else {
            return;
        };
        // A driver of a device without a thread may have written to `used.idx`.
        let Some(kick) = self.kicks.get(self.chosen) else {
            return self.reset();
        };
        let (used, idx) = (queue.used, queue.next_used);
        kick.write(1).unwrap();
        self.write(Register::Status, 0);
        if self.used_idx(used) != idx {
            while self.drain_model(self.chosen) {}
        }
        self.forget_queues();
        self.assert_as_modelled();
    }

    fn used_idx(&self, used: u64) -> u16 {
        self.memory
            .load(GuestAddress(used + RING_IDX), Ordering::SeqCst)
            .unwrap()
    }

    /// Compares the device with the model.
    fn assert_as_modelled(&mut self) {
        ram::read(&self.memory, &mut self.found);
        if self.has_thread() {
            // When a thread asks to be notified, and when it interrupts, is its own business.
            for Lane { areas, size, .. } in &self.lanes {
                for wish in [areas[2], areas[2] + avail_event(*size)] {
                    let wish = wish as usize..wish as usize + 2;
                    self.ram.regions[0][wish.clone()].copy_from_slice(&self.found[0][wish]);
                }
            }
        } else {
            assert_eq!(self.edges.count(), self.interrupts, "interrupts");
            let pending = self.read(Register::InterruptStatus);
            assert_eq!(pending, self.pending, "InterruptStatus");
            let needs_reset = self.read(Register::Status) & 64 != 0;
            assert_eq!(needs_reset, self.needs_reset, "NEEDS_RESET");
        }
        let pairs = self.found.iter().zip(&self.ram.regions);
        for ((base, _), (found, expected)) in ram::REGIONS.into_iter().zip(pairs) {
            if found != expected {
                let at = found.iter().zip(expected).position(|(a, b)| a != b);
                let at = at.unwrap();
                let addr = base + at as u64;
                panic!("{:#x} at {addr:#x}, not {:#x}", found[at], expected[at]);
            }
        }
        assert!(
            *self.backend.bytes() == self.disk.bytes,
            "the disk holds something else"
        );
    }

    // Life

    /// Makes sure that the device serves a read in each queue: without a reset, where that needs none;
    /// and after one.
    pub fn assert_serves(&mut self) {
        for index in 0..self.lanes.len() {
            self.choose(index);
            let alive = self
                .queue()
                .filter(|queue| !queue.needs_reset && queue.size >= 4);
            if alive.is_some() {
                self.read_a_sector();
            }
        }
        self.reset();
        self.clear_rings(8);
        self.bring_up(
            Features::VIRTIO_F_VERSION_1 | Features::VIRTIO_BLK_F_FLUSH,
            8,
        );
        for index in 0..self.lanes.len() {
            self.choose(index);
            self.read_a_sector();
        }
    }

    fn read_a_sector(&mut self) {
        const HEADER: u64 = 0x2_0000;
        const DATA: u64 = 0x2_0200;
        const STATUS: u64 = 0x2_0400;
        let header = RequestHeader {
            request_type: request_type::IN,
            sector: SECTORS - 1,
        };
        self.poke(HEADER, &header.to_bytes());
        self.poke(STATUS, &[0xaa]);
        let buffers = [
            (HEADER, 16, DescFlags::NEXT),
            (DATA, 512, DescFlags::NEXT | DescFlags::WRITE),
            (STATUS, 1, DescFlags::WRITE),
        ];
        for (index, (addr, len, flags)) in (0..).zip(buffers) {
            let next = index + 1;
            self.descriptor(
                index,
                Descriptor {
                    addr,
                    len,
                    flags,
                    next,
                },
            );
        }
        self.offer(0);
        self.notify();
        let read = self.ram.read(DATA, 512);
        assert_eq!(
            self.ram.read(STATUS, 1),
            [status::OK],
            "the next request is not served"
        );
        assert!(
            read == self.disk.bytes[self.disk.bytes.len() - 512..],
            "not what the disk holds"
        );
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
