//! A disk whose transfers end when a test lets them, and a driver of it.

use std::sync::Arc;

use devices::virtio::block::backend::MemoryBackend;
use devices::virtio::block::{Block, BlockBackend};
use spec::Features;
use spec::block::status;

use super::crowd::crowd_data;
use super::engine::{Gate, GatedEngine, Remembering};
use super::*;

/// What a driver of many requests may accept.
pub const ALL: Features = INDIRECT.union(Features::VIRTIO_F_EVENT_IDX);

/// A driver of a queue of this `size`, its disk, and what lets its transfers end.
pub struct Machine<D: BlockBackend + 'static = MemoryBackend> {
    pub driver: Driver,
    pub disk: Remembering<D>,
    pub gate: Arc<Gate>,
}

impl Machine {
    pub fn new(mode: Mode, size: u16, features: Features, random: u64) -> Self {
        let bytes = default_disk();
        let disk = Remembering::new(bytes.clone());
        let (engine, gate) = GatedEngine::new(disk.clone(), random);
        let with_engine = |block: Block| block.with_engine(0, Box::new(engine));
        Self::with(mode, (size, features), (disk, bytes), gate, with_engine)
    }

    /// The same with the engine that a disk has by default, which has all done at once.
    pub fn by_default(mode: Mode, size: u16, features: Features) -> Self {
        let bytes = default_disk();
        let disk = (Remembering::new(bytes.clone()), bytes);
        let gate = Arc::new(Gate::new());
        Self::with(mode, (size, features), disk, gate, |block| block)
    }

    /// Makes a request for one sector available, in memory of its own.
    pub fn offer(&mut self, index: u16, request_type: u32, sector: u64) {
        let data = [(crowd_data(index), 512)];
        let driver = &mut self.driver;
        driver.offer_one_of_many(index, request_type, sector, &data);
    }

    /// The driver by itself: nothing lets its transfers end.
    pub fn into_driver(mut self) -> Driver {
        let gate = Arc::new(Gate::new());
        drop(std::mem::replace(&mut self.gate, gate));
        std::mem::replace(&mut self.driver, Driver::new(Mode::Trap))
    }

    pub fn assert_read(&self, index: u16, sector: u64) {
        assert_eq!(self.driver.status_of(index), status::OK);
        let data = self.driver.bytes(crowd_data(index), 512);
        assert_eq!(data, sector_content(sector));
    }
}

impl<D: BlockBackend + 'static> Machine<D> {
    /// The same on this `disk`, which the driver takes for `bytes`, with a device that `change` has
    /// changed.
    pub fn with(
        mode: Mode,
        (size, features): (u16, Features),
        (disk, bytes): (Remembering<D>, MemoryBackend),
        gate: Arc<Gate>,
        change: impl FnOnce(Block) -> Block,
    ) -> Self {
        let boxed = Box::new(disk.clone());
        let mut driver = Driver::with_block(mode, false, bytes, boxed, change);
        driver.size = size;
        driver.initialize(features);
        Self { driver, disk, gate }
    }
}

/// A test that has failed must not wait for what it has in flight.
impl<D: BlockBackend + 'static> Drop for Machine<D> {
    fn drop(&mut self) {
        self.gate.open();
    }
}
