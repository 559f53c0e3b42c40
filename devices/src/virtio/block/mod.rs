//! The virtio-blk device (section 5.2): what it offers, its configuration space, and who serves
//! its queue. It does no I/O and reads no request; that is the worker's.

pub mod backend;
mod cache;
mod config;
pub mod disk;
pub mod extents;
mod notify;
pub mod observe;
pub mod request;
mod resize;
pub mod stats;
mod thread;
pub mod throttle;
pub mod worker;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use log::error;
use spec::Features;
use spec::block::config::WRITEBACK;
use spec::block::{ID_SIZE, REQUEST_QUEUE, SECTOR_SIZE};
use spec::mmio::DEVICE_ID_BLOCK;

pub use backend::{BlockBackend, TransferError};
pub use notify::{FailureHandler, NotifyMode, StartHook};
pub use resize::ResizeError;

use super::queue::SplitQueue;
use super::{Activation, Drain, InterruptState, VirtioDevice};
use crate::error::DeviceError;
use cache::Writeback;
use config::SharedConfig;
use disk::Disk;
use observe::MakeObserver;
use resize::SizeWish;
use stats::{DrainCause, QueueRecorder, SharedQueueStats};
use thread::WorkerThread;
use throttle::Limits;
use worker::QueueWorker;

/// The largest size of the request queue, in descriptors: 1 MiB in pages that do not lie together,
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

/// What can be chosen of a block device.
#[derive(Debug)]
pub struct BlockOptions {
    /// Refuse everything that would change the disk.
    pub read_only: bool,
    /// What GET_ID answers: at most 20 printable ASCII characters.
    pub id: String,
    /// How the device learns of available buffers.
    pub notify: NotifyMode,
}

/// Why a block device cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The identity does not fit the 20 bytes that the specification has for it.
    #[error("the id '{0}' is longer than {ID_SIZE} bytes")]
    IdTooLong(String),
    /// The identity has characters that the specification does not allow.
    #[error("the id '{0}' is not printable ASCII")]
    IdNotPrintable(String),
    /// The disk does not end with a whole block, or no block can have this size.
    #[error("a disk of {capacity} sectors is not made of blocks of {size} bytes")]
    BlockSize {
        /// Size of a block, in bytes.
        size: u32,
        /// Size of the disk, in sectors.
        capacity: u64,
    },
    /// The thread that is to serve the queue could not be started.
    #[error("cannot start the thread '{name}': {source}")]
    Thread {
        /// Name of the thread.
        name: String,
        /// Why not.
        source: io::Error,
    },
}

/// A block device.
pub struct Block {
    features: Features,
    physical_block: u32,
    config: SharedConfig,
    size_wish: SizeWish,
    /// How to reach the driver, once it lives.
    interrupt: Option<Arc<InterruptState>>,
    /// Whether the configuration space has changed since the last reset without a notification.
    is_untold: bool,
    /// What the driver has accepted of the features.
    accepted: Features,
    writeback: Writeback,
    /// What `writeback` is after a reset.
    initial_writeback: bool,
    server: Server,
    id: String,
    observers: Vec<MakeObserver>,
    state: State,
}

/// Who is to serve the queue.
enum Server {
    /// Whoever notifies.
    Notifier,
    /// A thread of the device's own.
    Thread(WorkerThread),
}

impl Server {
    /// Who `mode` says that serves the queue of the disk `id`.
    fn new(mode: NotifyMode, id: &str) -> Result<Self, BlockError> {
        let (kick, on_start, on_failure, idle_limit) = match mode {
            NotifyMode::Trap => return Ok(Self::Notifier),
            NotifyMode::IoEventFd {
                kick,
                on_start,
                on_failure,
            } => (kick, on_start, on_failure, Duration::ZERO),
            NotifyMode::Poll {
                kick,
                on_start,
                on_failure,
                idle_limit,
            } => (kick, on_start, on_failure, idle_limit),
        };
        let name = thread_name(id);
        WorkerThread::start(&name, kick, on_start, on_failure, idle_limit)
            .map(Self::Thread)
            .map_err(|source| BlockError::Thread { name, source })
    }
}

/// Who has the disk.
enum State {
    /// Nobody: the driver has not activated the device, or does not use its queue any more.
    Idle(Disk),
    /// Whoever notifies serves the queue.
    Trap(Box<QueueWorker>),
    /// The device's thread serves the queue.
    Thread,
    /// The device's thread is gone; the machine ends.
    Failed,
}

impl Block {
    /// A block device on `backend`.
    ///
    /// # Errors
    /// The identity is not one, or there can be no thread.
    pub fn new(backend: Box<dyn BlockBackend>, options: BlockOptions) -> Result<Self, BlockError> {
        let BlockOptions {
            read_only,
            id,
            notify,
        } = options;
        if !id.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            return Err(BlockError::IdNotPrintable(id));
        }
        let mut id_bytes = [0; ID_SIZE];
        match id_bytes.get_mut(..id.len()) {
            Some(bytes) => bytes.copy_from_slice(id.as_bytes()),
            None => return Err(BlockError::IdTooLong(id)),
        }

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
        features.set(Features::VIRTIO_BLK_F_WRITE_ZEROES, !read_only);
        let discards = !read_only && backend.discard_granularity().is_some();
        features.set(Features::VIRTIO_BLK_F_DISCARD, discards);
        let writeback = Writeback::default();
        let initial_writeback = writeback.get();
        let physical_block = backend.physical_block();
        let config = SharedConfig::new(&*backend, features);
        let (cache, told) = (writeback.clone(), config.clone());
        let disk = Disk::told_by(backend, read_only, id_bytes, cache, told);
        Ok(Self {
            features,
            physical_block,
            config,
            size_wish: disk.size_wish(),
            interrupt: None,
            is_untold: false,
            accepted: Features::empty(),
            writeback,
            initial_writeback,
            server: Server::new(notify, &id)?,
            id,
            observers: Vec::new(),
            state: State::Idle(disk),
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
    pub fn with_limits(mut self, limits: Limits) -> Self {
        if let State::Idle(disk) = &mut self.state {
            disk.limit(limits);
        }
        self
    }

    /// Has the guest ask for blocks of `size` bytes: a power of two from 512 on, and 512 if this is
    /// not called. Requests are in sectors of 512 bytes all the same, and those of a guest that
    /// keeps to no block are served.
    ///
    /// # Errors
    /// The disk is not whole blocks, or there are no such blocks.
    pub fn with_block_size(self, size: u32) -> Result<Self, BlockError> {
        let (sectors, mut config) = (u64::from(size) / SECTOR_SIZE, self.config.lock());
        let capacity = config.capacity();
        if !size.is_power_of_two() || sectors == 0 || !capacity.is_multiple_of(sectors) {
            return Err(BlockError::BlockSize { size, capacity });
        }
        config.set_blocks(size, self.physical_block);
        drop(config);
        Ok(self)
    }

    /// Keeps statistics of the queue from the next activation on, and returns where.
    pub fn record_stats(&mut self) -> SharedQueueStats {
        let stats = SharedQueueStats::default();
        let kept = stats.clone();
        self.observe(Box::new(move || Box::new(QueueRecorder::new(kept.clone()))));
        stats
    }

    /// Has the queue watched, from the next activation on, by what `make` returns then. It is
    /// dropped before the next is made.
    pub fn observe(&mut self, make: MakeObserver) {
        self.observers.push(make);
    }

    /// Takes the disk back from whoever serves the queue, when nothing is in flight any more.
    fn stop(&mut self) -> Result<(), DeviceError> {
        self.state = match (
            std::mem::replace(&mut self.state, State::Failed),
            &mut self.server,
        ) {
            (State::Trap(worker), _) => State::Idle(worker.into_disk()),
            (State::Thread, Server::Thread(thread)) => State::Idle(thread.stop()?),
            (state, _) => state,
        };
        Ok(())
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
        &[QUEUE_SIZE]
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
        let queue = queues.get(usize::from(REQUEST_QUEUE)).cloned().flatten();
        let Some(layout) = queue else {
            return Ok(());
        };
        self.state = match std::mem::replace(&mut self.state, State::Failed) {
            State::Idle(disk) => {
                let queue = SplitQueue::new(layout, features);
                let mut worker = QueueWorker::new(disk, memory, queue, features, interrupt);
                for make in &mut self.observers {
                    worker.observe(make());
                }
                match &mut self.server {
                    Server::Notifier => State::Trap(Box::new(worker)),
                    Server::Thread(thread) => {
                        thread.serve(worker);
                        State::Thread
                    }
                }
            }
            state => state,
        };
        Ok(())
    }

    fn notify(&mut self, queue: u16) -> Result<Drain, DeviceError> {
        match (&mut self.state, &self.server) {
            (State::Trap(worker), _) if queue == REQUEST_QUEUE => match worker.process_queue()? {
                Drain::Complete if worker.rearm_notifications() => {
                    worker.woken(DrainCause::Poll);
                    Ok(Drain::More)
                }
                drain => Ok(drain),
            },
            (State::Thread, Server::Thread(thread)) if queue == REQUEST_QUEUE => thread.kick(),
            _ => Ok(Drain::Complete),
        }
    }

    fn refresh(&mut self) -> Result<(), DeviceError> {
        self.size_wish.set();
        match (&mut self.state, &self.server) {
            (State::Idle(disk), _) => match (disk.resize(), &self.interrupt) {
                (false, _) => Ok(()),
                (true, Some(interrupt)) => {
                    interrupt.config_changed(|space| disk.read_config(space))
                }
                (true, None) => {
                    self.is_untold = true;
                    Ok(())
                }
            },
            (State::Trap(worker), _) => worker.resize(),
            (State::Thread, Server::Thread(thread)) => thread.kick().map(drop),
            _ => Ok(()),
        }
    }

    fn stop_queue(&mut self, queue: u16) -> Result<(), DeviceError> {
        if queue == REQUEST_QUEUE {
            self.stop()?;
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
            error!("block: cannot stop the thread that serves the queue: {error}");
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

/// The name of the thread that serves the disk `id`; the kernel shows 15 bytes of it.
fn thread_name(id: &str) -> String {
    if id.is_empty() {
        "blk".to_owned()
    } else {
        format!("blk {id}")
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
