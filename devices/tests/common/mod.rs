//! A driver by hand, for tests of the device: it puts any descriptors and rings into guest memory
//! and speaks to the transport by its registers alone, as a guest does. Nothing here is checked
//! for being valid; that is the device's part.

// Each test program uses a part of this.
#![allow(dead_code)]

pub mod backend;
mod chain;
pub mod clear;
pub mod crowd;
mod edges;
pub mod engine;
pub mod machine;
mod mode;
pub mod queues;
mod window;

pub use chain::*;
pub use edges::Edges;
pub use mode::*;
pub use window::Window;

use std::sync::atomic::{Ordering, fence};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use devices::virtio::block::backend::MemoryBackend;
use devices::virtio::block::stats::SharedQueueStats;
use devices::virtio::block::{Block, BlockBackend, BlockOptions};
use devices::virtio::{MmioTransport, RegisterPage};
use devices::{BusDevice, DeviceError, Response};
use spec::Features;
use spec::block::{RequestHeader, request_type, status};
use spec::mmio::Register;
use spec::queue::{self, DESC_SIZE, Descriptor};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

/// The longest that anything here is waited for.
pub const LIMIT: Duration = Duration::from_secs(10);

/// RAM: two adjacent regions, a hole, and a third.
pub const RAM: [(u64, usize); 3] = [(0, 0x8_0000), (0x8_0000, 0x8_0000), (0x20_0000, 0x1_0000)];
pub const BORDER: u64 = 0x8_0000;
pub const HOLE: u64 = 0x10_0000;
pub const END: u64 = 0x21_0000;

/// Where the driver puts things.
pub const DESC: u64 = 0x1000;
pub const AVAIL: u64 = 0x3000;
pub const USED: u64 = 0xc000;
pub const HEADER: u64 = 0x5000;
pub const STATUS: u64 = 0x6000;
pub const TABLE: u64 = 0x7000;
pub const DATA: u64 = 0x1_0000;

/// Size of the queue.
pub const SIZE: u16 = 8;
/// Size of the disk, in sectors.
pub const SECTORS: u64 = 64;
/// What a status byte is before the device writes it.
pub const UNTOUCHED: u8 = 0xaa;

/// The features that the driver accepts if a test does not say otherwise.
pub const PLAIN: Features = Features::VIRTIO_F_VERSION_1.union(Features::VIRTIO_BLK_F_FLUSH);
pub const INDIRECT: Features = PLAIN.union(Features::VIRTIO_F_INDIRECT_DESC);
pub const EVENT_IDX: Features = PLAIN.union(Features::VIRTIO_F_EVENT_IDX);

/// An entry of the used ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    pub head: u32,
    pub len: u32,
}

pub struct Driver {
    pub memory: GuestMemoryMmap,
    pub transport: MmioTransport,
    /// What a guest could read in place of the registers.
    pub page: Arc<RegisterPage>,
    /// What it has in place of the registers, if it has.
    pub window: Option<Window>,
    pub edges: Arc<Edges>,
    /// What has stopped the device's thread.
    pub failures: Receiver<DeviceError>,
    /// The disk, where it is the one that tests use by default.
    pub disk: MemoryBackend,
    pub stats: SharedQueueStats,
    kick: Option<EventFd>,
    pub size: u16,
    pub avail_idx: u16,
    pub used_seen: u16,
}

pub fn memory() -> GuestMemoryMmap {
    let ranges = RAM.map(|(base, len)| (GuestAddress(base), len));
    GuestMemoryMmap::from_ranges(&ranges).unwrap()
}

/// What a sector of the default disk holds: bytes that differ between sectors.
pub fn sector_content(sector: u64) -> Vec<u8> {
    (0..512_u64)
        .map(|i| (i * 7 + sector * 13 + 1) as u8)
        .collect()
}

pub fn default_disk() -> MemoryBackend {
    MemoryBackend::new((0..SECTORS).flat_map(sector_content).collect())
}

impl Driver {
    /// A driver of the default disk, that has not touched the device yet.
    pub fn new(mode: Mode) -> Self {
        let disk = default_disk();
        Self::with_backend(mode, false, disk.clone(), Box::new(disk))
    }

    /// A driver that has brought the default disk up, with these features.
    pub fn live(mode: Mode, features: Features) -> Self {
        let mut driver = Self::new(mode);
        driver.initialize(features);
        driver
    }

    /// A driver of a read-only default disk that has brought it up.
    pub fn read_only(mode: Mode) -> Self {
        let disk = default_disk();
        let mut driver = Self::with_backend(mode, true, disk.clone(), Box::new(disk));
        driver.initialize(PLAIN | Features::VIRTIO_BLK_F_RO);
        driver
    }

    /// A driver of the default disk with hooks, that has not touched the device yet.
    pub fn hooked(mode: Mode) -> (Self, Arc<Mutex<backend::Hooks>>) {
        let (backend, hooks) = backend::hooked();
        let disk = backend.disk.clone();
        let driver = Self::with_backend(mode, false, disk, Box::new(backend));
        (driver, hooks)
    }

    /// A driver of `backend`, which gets its bytes from `disk`.
    pub fn with_backend(
        mode: Mode,
        read_only: bool,
        disk: MemoryBackend,
        backend: Box<dyn BlockBackend>,
    ) -> Self {
        Self::with_block(mode, read_only, disk, backend, |block| block)
    }

    /// The same with a device that `change` has changed.
    pub fn with_block(
        mode: Mode,
        read_only: bool,
        disk: MemoryBackend,
        backend: Box<dyn BlockBackend>,
        change: impl FnOnce(Block) -> Block,
    ) -> Self {
        let (failed, failures) = channel();
        let (notify, kick) = mode.notify_mode(failed);
        let options = BlockOptions {
            read_only,
            id: "test disk".to_owned(),
            notify: vec![notify],
        };
        let mut block = change(Block::new(backend, options).unwrap());
        let stats = block.record_stats(0);
        let memory = memory();
        let edges = Arc::new(Edges::default());
        let page = Arc::new(RegisterPage::default());
        let window = (mode == Mode::Mapped).then(|| Window::on(&page, true));
        let transport = MmioTransport::on_page(
            memory.clone(),
            Box::new(block),
            edges.clone(),
            Arc::clone(&page),
        );
        Self {
            memory,
            transport,
            page,
            window,
            edges,
            failures,
            disk,
            stats,
            kick,
            size: SIZE,
            avail_idx: 0,
            used_seen: 0,
        }
    }

    // Registers

    /// Reads from the window at `offset`.
    pub fn read_at(&mut self, offset: u64, data: &mut [u8]) {
        match &self.window {
            Some(window) if window.read(offset, data) => {}
            _ => self.transport.read(offset, data),
        }
    }

    /// Writes to the window at `offset`.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> Response {
        match &self.window {
            Some(window) if window.write(offset, data) => Response::Done,
            _ => self.transport.write(offset, data).worked(),
        }
    }

    pub fn read(&mut self, register: Register) -> u32 {
        let mut data = [0; 4];
        self.read_at(register.offset(), &mut data);
        u32::from_le_bytes(data)
    }

    pub fn try_write(&mut self, register: Register, value: u32) -> Response {
        self.write_at(register.offset(), &value.to_le_bytes())
    }

    /// Writes a register and goes on until the device has done with it.
    pub fn write(&mut self, register: Register, value: u32) {
        let deadline = Instant::now() + LIMIT;
        let mut response = self.try_write(register, value);
        while matches!(response, Response::Again | Response::Later(_)) {
            assert!(Instant::now() < deadline, "no end of work");
            response = self.try_write(register, value);
        }
        assert!(matches!(response, Response::Done), "{response:?}");
    }

    pub fn reset(&mut self) {
        self.write(Register::Status, 0);
        assert_eq!(self.read(Register::Status), 0, "not reset");
    }

    /// Has the device learn of all that the driver has written to memory in place of registers: a write
    /// that exits, and asks for nothing.
    pub fn catch_up(&mut self) {
        self.write(Register::QueueNotify, u32::MAX);
    }

    /// The features that the device offers.
    pub fn offered(&mut self) -> Features {
        let words = [0, 1].map(|sel| {
            self.write(Register::DeviceFeaturesSel, sel);
            u64::from(self.read(Register::DeviceFeatures))
        });
        Features::from_bits_retain(words[0] | words[1] << 32)
    }

    /// The initialization sequence up to and with FEATURES_OK; returns the status.
    pub fn negotiate(&mut self, features: Features) -> u32 {
        self.reset();
        self.write(Register::Status, 1);
        self.write(Register::Status, 3);
        for sel in [0, 1] {
            self.write(Register::DriverFeaturesSel, sel);
            self.write(Register::DriverFeatures, features.word(sel));
        }
        self.write(Register::Status, 11);
        self.read(Register::Status)
    }

    /// Writes what describes the queue, all but QueueReady, and clears its memory.
    pub fn describe_queue(&mut self, num: u32, desc: u64, driver: u64, device: u64) {
        self.write(Register::QueueSel, 0);
        self.write(Register::QueueNum, num);
        for (low, high, addr) in [
            (Register::QueueDescLow, Register::QueueDescHigh, desc),
            (Register::QueueDriverLow, Register::QueueDriverHigh, driver),
            (Register::QueueDeviceLow, Register::QueueDeviceHigh, device),
        ] {
            self.write(low, addr as u32);
            self.write(high, (addr >> 32) as u32);
        }
    }

    /// Sets up the queue where the driver wants it, and makes it ready.
    pub fn set_up_queue(&mut self) {
        let zeros = vec![0; 0x2000];
        for area in [DESC, AVAIL, USED] {
            self.memory.write_slice(&zeros, GuestAddress(area)).unwrap();
        }
        (self.avail_idx, self.used_seen) = (0, 0);
        self.describe_queue(self.size.into(), DESC, AVAIL, USED);
        self.write(Register::QueueReady, 1);
        assert_eq!(self.read(Register::QueueReady), 1, "the queue is not ready");
    }

    /// The whole initialization sequence.
    pub fn initialize(&mut self, features: Features) {
        assert_eq!(self.negotiate(features), 11, "features were not accepted");
        self.set_up_queue();
        self.write(Register::Status, 15);
        assert_eq!(self.read(Register::Status), 15, "the device is not live");
    }

    // Memory

    pub fn load_u16(&self, addr: u64) -> u16 {
        self.memory
            .load(GuestAddress(addr), Ordering::SeqCst)
            .unwrap()
    }

    pub fn store_u16(&self, addr: u64, value: u16) {
        let addr = GuestAddress(addr);
        self.memory.store(value, addr, Ordering::SeqCst).unwrap();
    }

    pub fn bytes(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory
            .read_slice(&mut bytes, GuestAddress(addr))
            .unwrap();
        bytes
    }

    pub fn fill(&self, addr: u64, len: usize, byte: u8) {
        self.put(addr, &vec![byte; len]);
    }

    pub fn put(&self, addr: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(addr)).unwrap();
    }

    /// All of RAM.
    pub fn snapshot(&self) -> Vec<Vec<u8>> {
        let regions = RAM.into_iter();
        regions.map(|(base, len)| self.bytes(base, len)).collect()
    }

    pub fn header(&self, request_type: u32, sector: u64) {
        let header = RequestHeader {
            request_type,
            sector,
        };
        self.put(HEADER, &header.to_bytes());
    }

    pub fn status(&self) -> u8 {
        self.bytes(STATUS, 1)[0]
    }

    // The queue

    pub fn descriptor(&self, index: u16, descriptor: Descriptor) {
        self.put(DESC + DESC_SIZE * u64::from(index), &descriptor.to_bytes());
    }

    /// Puts a chain of these descriptors into the table from `first` on, one after the other.
    pub fn chain_at(&self, first: u16, descriptors: &[Descriptor]) {
        for (index, descriptor) in (first..).zip(linked(descriptors, first)) {
            self.descriptor(index, descriptor);
        }
    }

    /// Makes the chain from `head` available, without a notification.
    pub fn offer(&mut self, head: u16) {
        self.store_u16(AVAIL + queue::avail_entry(self.avail_idx, self.size), head);
        self.avail_idx = self.avail_idx.wrapping_add(1);
        self.store_u16(AVAIL + queue::RING_IDX, self.avail_idx);
    }

    /// Sends an available buffer notification the way that the notify mode has it.
    pub fn notify(&mut self) {
        match &self.kick {
            None => self.write(Register::QueueNotify, 0),
            Some(kick) => kick.write(1).unwrap(),
        }
    }

    /// Whether the device asks for a notification of what was offered since `avail_idx` was `old`.
    pub fn wants_notification(&self, features: Features, old: u16) -> bool {
        fence(Ordering::SeqCst);
        if features.contains(Features::VIRTIO_F_EVENT_IDX) {
            let event = self.load_u16(USED + queue::avail_event(self.size));
            queue::need_event(event, self.avail_idx, old)
        } else {
            self.load_u16(USED) & queue::USED_F_NO_NOTIFY == 0
        }
    }

    pub fn used_idx(&self) -> u16 {
        self.load_u16(USED + queue::RING_IDX)
    }

    /// The next entry of the used ring, if there is one.
    pub fn pop_used(&mut self) -> Option<Used> {
        if self.used_idx() == self.used_seen {
            return None;
        }
        let entry = USED + queue::used_entry(self.used_seen, self.size);
        self.used_seen = self.used_seen.wrapping_add(1);
        let word = |addr| self.memory.read_obj::<u32>(GuestAddress(addr)).unwrap();
        Some(Used {
            head: word(entry),
            len: word(entry + 4),
        })
    }

    /// Waits for the next entry of the used ring.
    pub fn wait_used(&mut self) -> Used {
        let edges = Arc::clone(&self.edges);
        edges.wait_until(|| {
            // Ask for an interrupt at the next one, then look.
            self.store_u16(AVAIL + queue::used_event(self.size), self.used_seen);
            fence(Ordering::SeqCst);
            self.used_idx() != self.used_seen
        });
        self.pop_used().unwrap()
    }

    // Requests

    /// Has the device serve one chain of these descriptors, and returns `used.len`.
    pub fn submit(&mut self, descriptors: &[Descriptor]) -> u32 {
        self.fill(STATUS, 1, UNTOUCHED);
        self.chain_at(0, descriptors);
        self.submit_head(0)
    }

    pub fn submit_head(&mut self, head: u16) -> u32 {
        self.offer(head);
        self.notify();
        let used = self.wait_used();
        assert_eq!(used.head, u32::from(head));
        used.len
    }

    /// A well-formed request with one data buffer; returns `used.len` and the status.
    pub fn request(&mut self, request_type: u32, sector: u64, data: &[Descriptor]) -> (u32, u8) {
        self.header(request_type, sector);
        let mut chain = vec![readable(HEADER, 16)];
        chain.extend_from_slice(data);
        chain.push(writable(STATUS, 1));
        let len = self.submit(&chain);
        (len, self.status())
    }

    /// Reads a sector of the default disk, as any driver does, and checks what it finds.
    pub fn assert_serves(&mut self) {
        let sector = 5;
        let expected = self.disk.bytes()[5 * 512..6 * 512].to_vec();
        self.fill(DATA, 512, 0);
        let data = [writable(DATA, 512)];
        let answer = self.request(request_type::IN, sector, &data);
        assert_eq!(answer, (513, status::OK), "the next request is not served");
        assert_eq!(self.bytes(DATA, 512), expected);
        assert_eq!(self.read(Register::Status) & 64, 0, "NEEDS_RESET");
    }
}
