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

/// Where the areas of a queue are; there is room for one of 512 descriptors.
pub const AREAS: [u64; 3] = [0x1000, 0x3400, 0x4000];
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
    /// What notifies a device that has a thread.
    kick: Option<EventFd>,
    pub ram: Ram,
    disk: Disk,
    /// The queue, between DRIVER_OK and what ends its use.
    pub queue: Option<Queue>,
    /// Size of the last queue there was.
    size: u16,
    interrupts: u64,
    /// Room for what is found in RAM.
    found: [Vec<u8>; 3],
}

impl Harness {
    pub fn new(mode: Mode, read_only: bool) -> Self {
        let memory = ram::zeroed();
        let Parts {
            transport,
            backend,
            edges,
            kick,
            ..
        } = Parts::new(mode, read_only, memory.clone());
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
            kick,
            queue: None,
            size: 0,
            interrupts: 0,
            found: ram::REGIONS.map(|(_, len)| vec![0; len]),
        }
    }

    /// Whether a thread of the device's own serves the queue.
    pub fn has_thread(&self) -> bool {
        self.kick.is_some()
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
        self.queue = None;
        assert_eq!(self.read(Register::Status), 0, "not reset");
        assert_eq!(self.read(Register::InterruptStatus), 0, "not reset");
        self.assert_as_modelled();
    }

    /// The initialization sequence, with as many of `features` as the device offers and with a queue of `size` at [`AREAS`], whose rings are as they
    /// are in RAM. What is in them is served.
    pub fn bring_up(&mut self, features: Features, size: u16) {
        let features = features & offered(self.disk.read_only);
        self.reset();
        self.write(Register::Status, 1);
        self.write(Register::Status, 3);
        for sel in [0, 1] {
            self.write(Register::DriverFeaturesSel, sel);
            self.write(Register::DriverFeatures, features.word(sel));
        }
        self.write(Register::Status, 11);
        self.write(Register::QueueNum, size.into());
        let lows = [
            Register::QueueDescLow,
            Register::QueueDriverLow,
            Register::QueueDeviceLow,
        ];
        for (low, area) in lows.into_iter().zip(AREAS) {
            self.write(low, area as u32);
        }
        self.write(Register::QueueReady, 1);
        self.disk.features = features;
        self.disk.writeback = features.contains(Features::VIRTIO_BLK_F_FLUSH)
            || !features.contains(Features::VIRTIO_BLK_F_CONFIG_WCE);
        self.queue = Some(Queue::new(size, AREAS, features));
        self.size = size;
        self.drain(Register::Status, 15);
        assert_eq!(self.read(Register::Status) & !64, 15, "not live");
    }

    /// Ends the use of the queue.
    pub fn stop_queue(&mut self) {
        self.write(Register::QueueReady, 0);
        self.queue = None;
    }

    /// Acknowledges events.
    pub fn acknowledge(&mut self, events: u32) {
        self.write(Register::InterruptACK, events);
        if let Some(queue) = &mut self.queue {
            queue.interrupt_status &= !events;
        }
    }

    /// Switches the cache to write-back mode or from it, where the driver may.
    pub fn set_writeback(&mut self, value: u8) {
        let response = self.transport.write(CONFIG_OFFSET + WRITEBACK, &[value]);
        assert!(matches!(response, Response::Done), "{response:?}");
        let features = self.disk.features;
        if self.queue.is_some() && features.contains(Features::VIRTIO_BLK_F_CONFIG_WCE) {
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

    /// Fills the rings of a queue of `size` with zeros.
    pub fn clear_rings(&mut self, size: u16) {
        let [_, avail, used] = AREAS;
        self.poke(avail, &vec![0; avail_ring_size(size) as usize]);
        self.poke(used, &vec![0; used_ring_size(size) as usize]);
    }

    /// Puts `descriptor` into the table.
    pub fn descriptor(&mut self, index: u16, descriptor: Descriptor) {
        self.poke(
            AREAS[0] + DESC_SIZE * u64::from(index),
            &descriptor.to_bytes(),
        );
    }

    /// Makes `head` available as the next one.
    pub fn offer(&mut self, head: u16) {
        let Some(size) = self.queue.as_ref().map(|queue| queue.size) else {
            return;
        };
        let idx = self.ram.field(AREAS[1] + RING_IDX);
        self.poke(AREAS[1] + avail_entry(idx, size), &head.to_le_bytes());
        self.set_avail_idx(idx.wrapping_add(1));
    }

    /// Sets `avail.idx`. In one piece, for a thread may be looking at it.
    pub fn set_avail_idx(&mut self, idx: u16) {
        let addr = AREAS[1] + RING_IDX;
        self.ram.write(addr, &idx.to_le_bytes());
        self.memory
            .store(idx, GuestAddress(addr), Ordering::SeqCst)
            .unwrap();
    }

    // The queue

    /// Notifies the device, and goes on until all that is in the queue has been served.
    pub fn notify(&mut self) {
        self.drain(Register::QueueNotify, 0);
    }

    /// Writes `value` to a register that leads to drains.
    fn drain(&mut self, register: Register, value: u32) {
        if self.has_thread() {
            match register {
                Register::QueueNotify => self.kick.as_ref().unwrap().write(1).unwrap(),
                _ => self.write(register, value),
            }
            return self.wait_for_thread();
        }
        for _ in 0..DRAINS_MAX {
            let response = self.try_write(register, value);
            let more = self.drain_model();
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

    /// One drain of the model; whether there is more to do.
    fn drain_model(&mut self) -> bool {
        let Some(queue) = &mut self.queue else {
            return false;
        };
        let before = queue.interrupts;
        let more = queue.drain(&mut self.ram, &mut self.disk);
        self.interrupts += queue.interrupts - before;
        more
    }

    /// Has the model serve all that is in the queue, and waits until the device has.
    fn wait_for_thread(&mut self) {
        let mut drains = 0;
        while self.drain_model() {
            drains += 1;
            if drains == DRAINS_MAX {
                return self.reset_thread();
            }
        }
        let Some(queue) = &self.queue else {
            return;
        };
        let (idx, needs_reset) = (queue.next_used, queue.needs_reset);
        let start = Instant::now();
        while self.used_idx() != idx || (self.read(Register::Status) & 64 != 0) != needs_reset {
            assert!(
                start.elapsed() < LIMIT,
                "used.idx is {}, not {idx}",
                self.used_idx()
            );
            thread::sleep(TURN);
        }
        self.assert_as_modelled();
    }

    /// Resets the device where it does not matter what it has come to, and goes on from there.
    fn reset_thread(&mut self) {
        self.write(Register::Status, 0);
        self.queue = None;
        self.ram = Ram::of(&self.memory);
        self.disk.bytes = self.backend.bytes().clone();
    }

    /// Resets the device while its thread, if it has one, may be serving the one chain that was
    /// made available last: it has been served, or it has not. Without a thread it has not.
    pub fn notify_and_reset(&mut self) {
        let Some(queue) = &self.queue else {
            return;
        };
        // A driver of a device without a thread may have written to `used.idx`.
        let Some(kick) = &self.kick else {
            return self.reset();
        };
        let idx = queue.next_used;
        kick.write(1).unwrap();
        self.write(Register::Status, 0);
        if self.used_idx() != idx {
            while self.drain_model() {}
        }
        self.queue = None;
        self.assert_as_modelled();
    }

    fn used_idx(&self) -> u16 {
        self.memory
            .load(GuestAddress(AREAS[2] + RING_IDX), Ordering::SeqCst)
            .unwrap()
    }

    /// Compares the device with the model.
    fn assert_as_modelled(&mut self) {
        ram::read(&self.memory, &mut self.found);
        if self.has_thread() {
            // When a thread asks to be notified, and when it interrupts, is its own business.
            for wish in [AREAS[2], AREAS[2] + avail_event(self.size)] {
                let wish = wish as usize..wish as usize + 2;
                self.ram.regions[0][wish.clone()].copy_from_slice(&self.found[0][wish]);
            }
        } else {
            assert_eq!(self.edges.count(), self.interrupts, "interrupts");
            if let Some(queue) = &self.queue {
                let (pending, needs_reset) = (queue.interrupt_status, queue.needs_reset);
                assert_eq!(
                    self.read(Register::InterruptStatus),
                    pending,
                    "InterruptStatus"
                );
                assert_eq!(
                    self.read(Register::Status) & 64 != 0,
                    needs_reset,
                    "NEEDS_RESET"
                );
            }
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

    /// Makes sure that the device serves a read: without a reset, where it needs none; and after
    /// one.
    pub fn assert_serves(&mut self) {
        let alive = self
            .queue
            .as_ref()
            .filter(|queue| !queue.needs_reset && queue.size >= 4);
        if alive.is_some() {
            self.read_a_sector();
        }
        self.reset();
        self.clear_rings(8);
        self.bring_up(
            Features::VIRTIO_F_VERSION_1 | Features::VIRTIO_BLK_F_FLUSH,
            8,
        );
        self.read_a_sector();
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
