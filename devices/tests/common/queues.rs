//! A driver of a disk with several request queues, for tests of what these have in common.

use std::sync::mpsc::channel;

use devices::virtio::block::stats::SharedQueueStats;
use devices::virtio::block::{Block, BlockBackend, BlockOptions, NotifyMode};
use spec::Features;
use spec::block::{RequestHeader, request_type, status};
use spec::mmio::Register;
use spec::queue::{self, DESC_SIZE};
use vmm_sys_util::eventfd::EventFd;

use super::*;

/// What a driver of several queues accepts.
pub const MQ: Features = PLAIN.union(Features::VIRTIO_BLK_F_MQ);
/// How many queues the device has.
pub const QUEUES: u16 = 3;

/// A driver of several queues: what is of the device, and what of each queue.
pub struct Queues {
    pub driver: Driver,
    pub lanes: Vec<Lane>,
    /// What it accepts.
    pub features: Features,
}

/// One queue of size [`SIZE`], with one request at a time.
pub struct Lane {
    pub index: u16,
    pub kick: Option<EventFd>,
    pub stats: SharedQueueStats,
    idx: u16,
}

impl Lane {
    /// Where the areas, the header, the status and the data of the queue are.
    pub fn at(&self, offset: u64) -> u64 {
        0x2_0000 + 0x1_0000 * u64::from(self.index) + offset
    }

    pub fn avail(&self) -> u64 {
        self.at(0x1000)
    }

    pub fn used(&self) -> u64 {
        self.at(0x2000)
    }

    pub fn header(&self) -> u64 {
        self.at(0x3000)
    }

    pub fn status(&self) -> u64 {
        self.at(0x4000)
    }

    pub fn data(&self) -> u64 {
        self.at(0x5000)
    }
}

impl Queues {
    /// A driver that has not touched the device, which is on `backend` and may have been changed.
    pub fn new(
        mode: Mode,
        backend: Box<dyn BlockBackend>,
        change: impl FnOnce(Block) -> Block,
    ) -> Self {
        let (failed, _failures) = channel();
        let (notify, kicks): (Vec<NotifyMode>, Vec<_>) = (0..QUEUES)
            .map(|_| mode.notify_mode(failed.clone()))
            .unzip();
        let options = BlockOptions {
            read_only: false,
            id: "many".to_owned(),
            notify,
        };
        let mut block = change(Block::new(backend, options).unwrap());
        let lane = |(index, kick)| Lane {
            index,
            kick,
            stats: block.record_stats(index),
            idx: 0,
        };
        let lanes = (0..).zip(kicks).map(lane).collect();
        let disk = default_disk();
        let nothing = Box::new(default_disk());
        let driver = Driver::with_block(Mode::Trap, false, disk, nothing, |_| block);
        Self {
            driver,
            lanes,
            features: MQ,
        }
    }

    /// The same of a driver that has brought the device up with all queues.
    pub fn live(mode: Mode, backend: Box<dyn BlockBackend>) -> Self {
        let mut queues = Self::new(mode, backend, |block| block);
        queues.initialize();
        queues
    }

    pub fn initialize(&mut self) {
        self.set_up();
        self.driver.write(Register::Status, 15);
    }

    /// All of that but DRIVER_OK.
    pub fn set_up(&mut self) {
        assert_eq!(self.driver.negotiate(self.features), 11);
        for lane in &mut self.lanes {
            let (desc, avail, used) = (lane.at(0), lane.avail(), lane.used());
            self.driver.put(desc, &[0; 0x3000]);
            lane.idx = 0;
            let registers = [
                (Register::QueueSel, lane.index.into()),
                (Register::QueueNum, SIZE.into()),
                (Register::QueueDescLow, desc as u32),
                (Register::QueueDriverLow, avail as u32),
                (Register::QueueDeviceLow, used as u32),
                (Register::QueueReady, 1),
            ];
            for (register, value) in registers {
                self.driver.write(register, value);
            }
            assert_eq!(self.driver.read(Register::QueueReady), 1);
        }
    }

    /// Makes a request about one sector available in queue `index`, without a notification.
    pub fn offer(&mut self, index: usize, request_type: u32, sector: u64) {
        let (lane, driver) = (&mut self.lanes[index], &self.driver);
        let header = RequestHeader {
            request_type,
            sector,
        };
        driver.put(lane.header(), &header.to_bytes());
        driver.fill(lane.status(), 1, UNTOUCHED);
        let data = match request_type {
            request_type::IN => vec![writable(lane.data(), 512)],
            request_type::OUT => vec![readable(lane.data(), 512)],
            request_type::WRITE_ZEROES => {
                let segment = clear::segment(sector, 1, 0);
                driver.put(lane.data(), &segment.to_bytes());
                vec![readable(lane.data(), 16)]
            }
            _ => vec![],
        };
        let ends = (readable(lane.header(), 16), writable(lane.status(), 1));
        let chain = [vec![ends.0], data, vec![ends.1]].concat();
        for (place, descriptor) in (0..).zip(linked(&chain, 0)) {
            driver.put(lane.at(DESC_SIZE * place), &descriptor.to_bytes());
        }
        driver.store_u16(lane.avail() + queue::avail_entry(lane.idx, SIZE), 0);
        lane.idx = lane.idx.wrapping_add(1);
        driver.store_u16(lane.avail() + queue::RING_IDX, lane.idx);
    }

    pub fn notify(&mut self, index: usize) {
        match &self.lanes[index].kick {
            None => self.driver.write(Register::QueueNotify, index as u32),
            Some(kick) => kick.write(1).unwrap(),
        }
    }

    pub fn is_done(&self, index: usize) -> bool {
        let lane = &self.lanes[index];
        self.driver.load_u16(lane.used() + queue::RING_IDX) == lane.idx
    }

    /// Waits until queue `index` has nothing in flight, and returns the status.
    pub fn wait(&self, index: usize) -> u8 {
        // There is an interrupt for each completion: none has asked for less.
        self.driver.edges.wait_until(|| self.is_done(index));
        self.driver.bytes(self.lanes[index].status(), 1)[0]
    }

    pub fn request(&mut self, index: usize, request_type: u32, sector: u64) -> u8 {
        self.offer(index, request_type, sector);
        self.notify(index);
        self.wait(index)
    }

    pub fn assert_serves(&mut self, index: usize) {
        assert_eq!(self.request(index, request_type::IN, 7), status::OK);
        let data = self.driver.bytes(self.lanes[index].data(), 512);
        assert_eq!(data, sector_content(7), "queue {index}");
    }
}
