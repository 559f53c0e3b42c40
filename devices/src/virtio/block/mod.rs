//! The virtio-blk device (section 5.2): what it offers, its configuration space, and who serves
//! its queues. It does no I/O and reads no request; that is the worker's.

mod answer;
pub mod backend;
mod cache;
mod capacity;
mod config;
pub mod disk;
pub mod engine;
pub mod extents;
mod flight;
mod notify;
pub mod observe;
mod options;
pub mod request;
mod resize;
mod server;
pub mod stats;
mod thread;
pub mod throttle;
pub mod worker;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use log::error;
use spec::Features;
use spec::block::SECTOR_SIZE;
use spec::block::config::WRITEBACK;
use spec::mmio::DEVICE_ID_BLOCK;

pub use backend::{BlockBackend, TransferError};
use backend::{Topology, sectors};
pub use notify::{FailureHandler, NotifyMode, StartHook};
pub use options::{BlockError, BlockOptions};
pub use resize::ResizeError;

use super::queue::SplitQueue;
use super::{Activation, InterruptState, VirtioDevice};
use crate::bus::Work;
use crate::error::DeviceError;
use cache::Writeback;
use config::SharedConfig;
use disk::Disk;
use engine::Engine;
#[cfg(feature = "io-uring")]
use engine::IoUringEngine;
use observe::MakeObserver;
use server::Server;
use stats::{QueueRecorder, SharedQueueStats};
use throttle::Limits;
use worker::QueueWorker;

/// The most request queues that a device can have.
pub const QUEUES_MAX: u16 = 64;
/// The largest size of a request queue, in descriptors: 1 MiB in pages that do not lie together,
/// the most that Linux asks for at once by default, is one request then.
pub const QUEUE_SIZE: u16 = 512;
/// The most data segments of a request: the queue less the header and the status.
pub const SEG_MAX: u32 = QUEUE_SIZE as u32 - 2;
/// The largest segment, in bytes. [`SEG_MAX`] of these, the largest request, are just under
/// 64 MiB: nothing stops a request that has begun, so that a machine with a slow disk must still
/// be able to wait for one. The requests of Linux end at a few MiB, and need at most 32 of these
/// for 4 MiB that lie together.
pub const SIZE_MAX: u32 = 128 << 10;
/// The most segments of a discard or write-zeroes request.
pub const CLEAR_SEG_MAX: u32 = 4;
/// The most sectors of a segment of a discard or write-zeroes request: 16 MiB. The largest request
/// clears as much as the largest write writes, since writing may be the only way to do it.
pub const CLEAR_SECTORS_MAX: u32 = (16 << 20) / SECTOR_SIZE as u32;

/// A block device.
pub struct Block {
    features: Features,
    topology: Topology,
    config: SharedConfig,
    disk: Disk,
    /// How to reach the driver, once it lives.
    interrupt: Option<Arc<InterruptState>>,
    /// Whether the configuration space has changed since the last reset without a notification.
    is_untold: bool,
    /// What the driver has accepted of the features.
    accepted: Features,
    writeback: Writeback,
    /// What `writeback` is after a reset.
    initial_writeback: bool,
    id: String,
    queues: Vec<Queue>,
}

/// A request queue, while there is one and otherwise.
struct Queue {
    server: Server,
    /// Makes its transfers; the server has it while the queue is served.
    engine: Option<Box<dyn Engine>>,
    observers: Vec<MakeObserver>,
}

impl Queue {
    /// Has nobody serve the queue any more: when this returns nothing of it is in flight.
    fn stop(&mut self) -> Result<(), DeviceError> {
        let engine = self.server.stop()?;
        self.engine = engine.or_else(|| self.engine.take());
        Ok(())
    }
}

impl Block {
    /// A block device on `backend`.
    ///
    /// # Errors
    /// The identity is not one, or there can be no thread.
    pub fn new(backend: Box<dyn BlockBackend>, options: BlockOptions) -> Result<Self, BlockError> {
        let (id_bytes, queue_count) = (options.id_bytes()?, options.queue_count()?);
        let BlockOptions {
            read_only,
            id,
            notify,
        } = options;
        let features = features(&*backend, read_only, queue_count);
        let writeback = Writeback::default();
        let initial_writeback = writeback.get();
        let topology = backend.topology();
        let config = SharedConfig::new(&*backend, features, queue_count);
        let (cache, told) = (writeback.clone(), config.clone());
        let disk = Disk::told_by(backend, read_only, id_bytes, cache, told);
        let queue = |(index, mode)| {
            let name = thread_name(&id, index, queue_count);
            let server = Server::new(mode, &name);
            server
                .map(|server| Queue {
                    server,
                    engine: None,
                    observers: Vec::new(),
                })
                .map_err(|source| BlockError::Thread { name, source })
        };
        let queues = (0..).zip(notify).map(queue).collect::<Result<_, _>>()?;
        Ok(Self {
            features,
            topology,
            config,
            disk,
            interrupt: None,
            is_untold: false,
            accepted: Features::empty(),
            writeback,
            initial_writeback,
            id,
            queues,
        })
    }

    /// Has the cache begin, after each reset, in write-back mode or not: it does if this is not
    /// called. In write-through mode a write is on stable storage when it completes.
    #[must_use]
    pub fn with_writeback(mut self, writeback: bool) -> Self {
        self.initial_writeback = writeback;
        self.writeback.set(writeback);
        self
    }

    /// Lets the disk be used no faster than `limits` say: by default it is by no one's leave. A reset
    /// changes nothing of that.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        self.disk.limit(limits);
        self
    }

    /// Has the guest ask for blocks of `size` bytes: a power of two from 512 on, and 512 if this is
    /// not called. Requests are in sectors of 512 bytes all the same, and those of a guest that
    /// keeps to no block are served.
    ///
    /// # Errors
    /// The disk is not whole blocks, or there are no such blocks.
    pub fn with_block_size(self, size: u32) -> Result<Self, BlockError> {
        let mut config = self.config.lock();
        let capacity = config.capacity();
        let is_block = size.is_power_of_two() && u64::from(size) >= SECTOR_SIZE;
        if !is_block || sectors(capacity.saturating_mul(SECTOR_SIZE), size).is_err() {
            return Err(BlockError::BlockSize { size, capacity });
        }
        config.set_blocks(size, &self.topology);
        drop(config);
        Ok(self)
    }

    /// Has the transfers of `queue` made by `engine`, in all lives of the device. By default they are
    /// made by the backend, one after the other. A queue that is not there has none.
    #[must_use]
    pub fn with_engine(mut self, queue: u16, engine: Box<dyn Engine>) -> Self {
        if let Some(queue) = self.queues.get_mut(usize::from(queue)) {
            queue.engine = Some(engine);
        }
        self
    }

    /// Has the transfers of all queues made by io_uring, in all lives of the device. If `polled`, a
    /// thread of the kernel looks for what is submitted to a queue, while there is something every
    /// few milliseconds.
    ///
    /// # Errors
    /// There is no io_uring for this process, or for this disk. Then nothing changes.
    #[cfg(feature = "io-uring")]
    pub fn use_io_uring(&mut self, polled: bool) -> std::io::Result<()> {
        let read_only = self.features.contains(Features::VIRTIO_BLK_F_RO);
        let make = |_: &Queue| {
            let backend = Arc::clone(self.disk.backend());
            IoUringEngine::new(backend, read_only, polled)
        };
        let engines: Vec<_> = self.queues.iter().map(make).collect::<Result<_, _>>()?;
        for (queue, engine) in self.queues.iter_mut().zip(engines) {
            queue.engine = Some(Box::new(engine));
        }
        Ok(())
    }

    /// How many request queues the device has.
    #[must_use]
    pub fn queue_count(&self) -> u16 {
        u16::try_from(self.queues.len()).unwrap_or(QUEUES_MAX)
    }

    /// Keeps statistics of `queue` from the next activation on, and returns where.
    pub fn record_stats(&mut self, queue: u16) -> SharedQueueStats {
        let stats = SharedQueueStats::default();
        let kept = stats.clone();
        let make = move || Box::new(QueueRecorder::new(kept.clone())) as _;
        self.observe(queue, Box::new(make));
        stats
    }

    /// Has `queue` watched, from the next activation on, by what `make` returns then. It is dropped
    /// before the next is made. A queue that is not there is not watched.
    pub fn observe(&mut self, queue: u16, make: MakeObserver) {
        if let Some(queue) = self.queues.get_mut(usize::from(queue)) {
            queue.observers.push(make);
        }
    }

    /// Has the size of the disk looked at, if somebody wishes for that: by one of those who serve it.
    fn look_at_size(&mut self) -> Result<(), DeviceError> {
        let mut servers = self.queues.iter().map(|queue| &queue.server);
        if let Some(server) = servers.find(|server| server.is_serving()) {
            return server.resize();
        }
        match (self.disk.resize(), &self.interrupt) {
            (false, _) => Ok(()),
            (true, Some(interrupt)) => interrupt.config_changed(|space| self.read_config(space)),
            (true, None) => {
                self.is_untold = true;
                Ok(())
            }
        }
    }

    /// Has nobody serve a queue any more: when this returns nothing is in flight.
    fn stop(&mut self) -> Result<(), DeviceError> {
        let servers = || self.queues.iter().map(|queue| &queue.server);
        servers()
            .filter(|server| server.is_serving())
            .try_for_each(Server::ask_to_stop)?;
        self.queues.iter_mut().try_for_each(Queue::stop)
    }
}

impl VirtioDevice for Block {
    fn device_type(&self) -> u32 {
        DEVICE_ID_BLOCK
    }

    fn features(&self) -> Features {
        self.features
    }

    fn queue_max_sizes(&self) -> &[u16] {
        const SIZES: [u16; QUEUES_MAX as usize] = [QUEUE_SIZE; QUEUES_MAX as usize];
        SIZES.get(..self.queues.len()).unwrap_or(&SIZES)
    }

    fn read_config(&self, space: &mut [u8]) -> u32 {
        self.config.read(self.writeback.get(), space)
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let can_switch = self.accepted.contains(Features::VIRTIO_BLK_F_CONFIG_WCE);
        if let &[value] = data
            && offset == WRITEBACK
            && can_switch
        {
            self.writeback.set(value != 0);
        }
    }

    fn writable_config(&self) -> Range<usize> {
        let offset = WRITEBACK as usize;
        match self.accepted.contains(Features::VIRTIO_BLK_F_CONFIG_WCE) {
            true => offset..offset + 1,
            false => 0..0,
        }
    }

    fn negotiated(&mut self, features: Features) {
        self.accepted = features;
        // A driver that cannot flush begins in write-through mode (section 5.2.5.2).
        let cannot_flush = !features.contains(Features::VIRTIO_BLK_F_FLUSH);
        if features.contains(Features::VIRTIO_BLK_F_CONFIG_WCE) && cannot_flush {
            self.writeback.set(false);
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), DeviceError> {
        let Activation {
            memory,
            features,
            queues,
            interrupt,
        } = activation;
        // The driver may have read what there was before: it could not be told while it did so.
        if std::mem::take(&mut self.is_untold) {
            interrupt.config_changed(|space| self.read_config(space))?;
        }
        self.interrupt = Some(Arc::clone(&interrupt));
        for ((index, queue), layout) in (0..).zip(&mut self.queues).zip(queues) {
            let Some(layout) = layout else {
                continue;
            };
            let rings = SplitQueue::new(layout, features);
            let (disk, interrupt) = (self.disk.clone(), Arc::clone(&interrupt));
            let engine = queue.engine.take();
            let engine = engine.unwrap_or_else(|| disk.engine());
            let mut worker = QueueWorker::new(
                (disk, engine),
                memory.clone(),
                (index, rings),
                features,
                interrupt,
            );
            for make in &mut queue.observers {
                worker.observe(make());
            }
            queue.server.serve(worker);
        }
        Ok(())
    }

    fn notify(&mut self, queue: u16) -> Result<Option<Arc<dyn Work>>, DeviceError> {
        match self.queues.get(usize::from(queue)) {
            Some(queue) => queue.server.notify(),
            None => Ok(None),
        }
    }

    fn refresh(&mut self) -> Result<(), DeviceError> {
        self.disk.size_wish().set();
        self.look_at_size()
    }

    fn stop_queue(&mut self, queue: u16) -> Result<(), DeviceError> {
        if let Some(queue) = self.queues.get_mut(usize::from(queue)) {
            queue.stop()?;
        }
        // It may have been the one that was to look.
        if self.disk.size_wish().is_set() {
            self.look_at_size()?;
        }
        Ok(())
    }

    fn reset(&mut self) -> Result<(), DeviceError> {
        self.stop()?;
        self.interrupt = None;
        self.is_untold = false;
        self.accepted = Features::empty();
        self.writeback.set(self.initial_writeback);
        Ok(())
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            error!("block: cannot stop the threads that serve its queues: {error}");
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("id", &self.id)
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

/// What a device on `backend` with so many queues offers.
fn features(backend: &dyn BlockBackend, read_only: bool, queue_count: u16) -> Features {
    let mut features = Features::VIRTIO_F_VERSION_1
        | Features::VIRTIO_F_EVENT_IDX
        | Features::VIRTIO_F_INDIRECT_DESC
        | Features::VIRTIO_BLK_F_FLUSH
        | Features::VIRTIO_BLK_F_CONFIG_WCE
        | Features::VIRTIO_BLK_F_SEG_MAX
        | Features::VIRTIO_BLK_F_SIZE_MAX
        | Features::VIRTIO_BLK_F_GEOMETRY
        | Features::VIRTIO_BLK_F_BLK_SIZE
        | Features::VIRTIO_BLK_F_TOPOLOGY;
    features.set(Features::VIRTIO_BLK_F_RO, read_only);
    features.set(Features::VIRTIO_BLK_F_MQ, queue_count > 1);
    features.set(Features::VIRTIO_BLK_F_WRITE_ZEROES, !read_only);
    let discards = !read_only && backend.discard_granularity().is_some();
    features.set(Features::VIRTIO_BLK_F_DISCARD, discards);
    features
}

/// The name of the thread that serves queue `index` of `count` of the disk `id`; the kernel shows 15
/// bytes of it.
fn thread_name(id: &str, index: u16, count: u16) -> String {
    let queue = if count > 1 {
        format!("blk{index}")
    } else {
        "blk".to_owned()
    };
    if id.is_empty() {
        queue
    } else {
        format!("{queue} {id}")
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
