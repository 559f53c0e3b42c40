//! The disk behind the queues: a backend, and all that they have in common about it. It knows nothing of
//! rings and interrupts, and answers no request itself.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use log::warn;
use spec::Features;
use spec::block::{ID_SIZE, SECTOR_SIZE};

pub use super::answer::Answer;
use super::backend::{BlockBackend, sectors};
use super::cache::Writeback;
use super::capacity::{Capacity, Hold};
use super::config::SharedConfig;
use super::engine::{Engine, SyncEngine};
use super::request::{Buffers, Geometry, ParseError, Request};
use super::resize::{ResizeError, SizeWish};
use super::throttle::{Limits, Throttle};
use crate::locks::lock;
use crate::warn_once::WarnOnce;

/// What the log tells of, once each.
#[derive(Clone, Copy)]
pub(super) enum Warned {
    Rings,
    Head,
    Chain,
    Refused,
    Failed,
}

/// A backend, and what the driver has been told of it. Clones are the same disk, each for one queue.
#[derive(Clone)]
pub struct Disk {
    shared: Arc<Shared>,
    /// What the driver has accepted, which decides what it may ask for.
    features: Features,
}

/// What all queues have in common.
struct Shared {
    backend: Arc<dyn BlockBackend>,
    read_only: bool,
    id: [u8; ID_SIZE],
    /// Held while a request is under way.
    capacity: Capacity,
    writeback: Writeback,
    config: SharedConfig,
    size_wish: SizeWish,
    throttle: OnceLock<(Mutex<Throttle>, Instant)>,
    /// For all lives of the device: a guest that resets it in order to make its mistake again is not
    /// warned of again.
    warned: WarnOnce,
}

impl Disk {
    /// A disk that is `backend`, and that GET_ID calls `id`.
    #[must_use]
    pub fn new(backend: Box<dyn BlockBackend>, read_only: bool, id: [u8; ID_SIZE]) -> Self {
        let config = SharedConfig::new(&*backend, Features::empty(), 1);
        Self::told_by(backend, read_only, id, Writeback::default(), config)
    }

    /// The same with a cache in the mode that is, at any time, in `writeback`, of which the driver
    /// is told what is in `config`.
    pub(super) fn told_by(
        backend: Box<dyn BlockBackend>,
        read_only: bool,
        id: [u8; ID_SIZE],
        writeback: Writeback,
        config: SharedConfig,
    ) -> Self {
        let capacity = config.lock().capacity();
        let shared = Shared {
            backend: backend.into(),
            read_only,
            id,
            capacity: Capacity::new(capacity),
            writeback,
            config,
            size_wish: SizeWish::default(),
            throttle: OnceLock::new(),
            warned: WarnOnce::default(),
        };
        Self {
            shared: Arc::new(shared),
            features: Features::empty(),
        }
    }

    /// The disk for a driver that has accepted these `features`.
    pub(super) fn negotiated(&mut self, features: Features) {
        self.features = features;
    }

    /// Lets the disk be used no faster than `limits` say: they are given once.
    pub(super) fn limit(&self, limits: Limits) {
        if limits != Limits::default() {
            let throttle = Mutex::new(Throttle::new(limits));
            self.shared
                .throttle
                .get_or_init(|| (throttle, Instant::now()));
        }
    }

    /// How long the next request is to wait, if it is to.
    pub(super) fn wait(&self) -> Option<Duration> {
        let (throttle, start) = self.shared.throttle.get()?;
        let wait = lock(throttle).wait(start.elapsed());
        (!wait.is_zero()).then_some(wait)
    }

    /// A request about `bytes` of the disk has been done.
    pub(super) fn spend(&self, bytes: u64) {
        if let Some((throttle, start)) = self.shared.throttle.get() {
            lock(throttle).spend(start.elapsed(), bytes);
        }
    }

    /// By which whoever does not serve the disk has its size looked at.
    pub(super) fn size_wish(&self) -> &SizeWish {
        &self.shared.size_wish
    }

    /// Looks at the size of the disk, if somebody wishes for that, and returns whether the driver is
    /// told of another from now on. It waits until no request is under way, in whichever queue: those
    /// before were held against the old size, those after are held against the new one. So the caller
    /// must not have a [hold](Self::holder) on it.
    pub(super) fn resize(&self) -> bool {
        let shared = &*self.shared;
        shared.size_wish.is_set()
            && shared
                .capacity
                .change(|capacity| shared.size_wish.take() && self.look_at_size(capacity))
    }

    fn look_at_size(&self, capacity: &mut u64) -> bool {
        let shared = &*self.shared;
        let mut config = shared.config.lock();
        let old = *capacity;
        let size = shared.backend.size().map_err(ResizeError::from);
        match size.and_then(|size| Ok(sectors(size, config.block())?)) {
            Ok(new) if new != old => {
                config.change_capacity(new);
                *capacity = new;
                true
            }
            Ok(_) => false,
            Err(error) => {
                let (id, old) = (String::from_utf8_lossy(&shared.id), old * SECTOR_SIZE);
                let id = id.trim_end_matches('\0');
                warn!("block: the disk '{id}' keeps its size of {old} bytes: {error}");
                false
            }
        }
    }

    /// What the driver is told of the disk, as [`VirtioDevice::read_config`] has it.
    ///
    /// [`VirtioDevice::read_config`]: crate::virtio::VirtioDevice::read_config
    pub(super) fn read_config(&self, space: &mut [u8]) -> u32 {
        let shared = &*self.shared;
        shared.config.read(shared.writeback.get(), space)
    }

    /// Whether what is written is on stable storage before it completes (section 5.2.6.2).
    pub(super) fn is_write_through(&self) -> bool {
        let can_flush = Features::VIRTIO_BLK_F_FLUSH | Features::VIRTIO_BLK_F_CONFIG_WCE;
        !self.features.intersects(can_flush) || !self.shared.writeback.get()
    }

    /// Logs `message`, if it is the first of its kind for this disk.
    pub(super) fn warn(&self, kind: Warned, message: impl FnOnce() -> String) {
        if self.shared.warned.first(kind as u32) {
            warn!("block: {}", message());
        }
    }

    /// Where the sectors are.
    pub(super) fn backend(&self) -> &Arc<dyn BlockBackend> {
        &self.shared.backend
    }

    /// An engine that leaves transfers to the backend.
    #[must_use]
    pub fn engine(&self) -> Box<dyn Engine> {
        Box::new(SyncEngine::new(Arc::clone(&self.shared.backend)))
    }

    /// What GET_ID answers.
    pub(super) fn id(&self) -> [u8; ID_SIZE] {
        self.shared.id
    }

    /// Whoever is to keep the disk at its size, for requests that are held against it.
    pub(super) fn holder(&self) -> Hold {
        self.shared.capacity.holder()
    }

    /// The request in `buffers`, on a disk of this `capacity` in sectors.
    ///
    /// # Errors
    /// This disk refuses it.
    pub(super) fn parse<'a>(
        &self,
        capacity: u64,
        buffers: &Buffers<'_, 'a>,
    ) -> Result<Request<'a>, ParseError> {
        let geometry = Geometry {
            capacity,
            read_only: self.shared.read_only,
            discard: self.features.contains(Features::VIRTIO_BLK_F_DISCARD),
            write_zeroes: self.features.contains(Features::VIRTIO_BLK_F_WRITE_ZEROES),
        };
        Request::parse(buffers, &geometry)
    }
}
