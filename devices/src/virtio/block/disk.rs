//! The disk behind the queues: answers the request in a chain, by I/O on the backend or by refusing
//! it, and writes the status byte. It knows nothing of rings and interrupts.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use log::warn;
use spec::Features;
use spec::block::{ID_SIZE, SECTOR_SIZE, status};
use vm_memory::{GuestMemoryMmap, VolatileSlice};

use super::backend::{BlockBackend, TransferError, sectors};
use super::cache::Writeback;
use super::config::SharedConfig;
use super::extents::Extent;
use super::request::{Buffers, Geometry, Operation, ParseError, Request};
use super::resize::{ResizeError, SizeWish};
use super::stats::RequestKind;
use super::throttle::{Limits, Throttle};
use crate::virtio::ram;
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

/// What has become of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What it asked for.
    pub kind: RequestKind,
    /// Whether the host failed it.
    pub failed: bool,
    /// The status byte; `None` where there is none that may be written.
    pub status: Option<u8>,
    /// How many of the device-writable bytes of the chain have been written: `used.len`.
    pub written: u32,
    /// How many bytes of the disk the backend was asked to move or clear.
    pub moved: u64,
    /// Whether it was to bring data to stable storage.
    pub flushed: bool,
    /// How many segments it was to clear.
    pub clears: u64,
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
    backend: Box<dyn BlockBackend>,
    read_only: bool,
    id: [u8; ID_SIZE],
    /// Size of the disk, in sectors. It does not change while a request is under way.
    capacity: RwLock<u64>,
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
            backend,
            read_only,
            id,
            capacity: RwLock::new(capacity),
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
    /// told of another from now on. No request is under way meanwhile, in whichever queue: those
    /// before were held against the old size, those after are held against the new one.
    pub(super) fn resize(&self) -> bool {
        let shared = &*self.shared;
        if !shared.size_wish.take() {
            return false;
        }
        let held = shared.capacity.write();
        let mut capacity = held.unwrap_or_else(PoisonError::into_inner);
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
    fn is_write_through(&self) -> bool {
        let can_flush = Features::VIRTIO_BLK_F_FLUSH | Features::VIRTIO_BLK_F_CONFIG_WCE;
        !self.features.intersects(can_flush) || !self.shared.writeback.get()
    }

    /// Logs `message`, if it is the first of its kind for this disk.
    pub(super) fn warn(&self, kind: Warned, message: impl FnOnce() -> String) {
        if self.shared.warned.first(kind as u32) {
            warn!("block: {}", message());
        }
    }

    /// What GET_ID answers.
    pub(super) fn id(&self) -> [u8; ID_SIZE] {
        self.shared.id
    }

    /// The disk as it is for one request: its size stays the same for as long as the caller has this.
    pub(super) fn hold(&self) -> Held<'_> {
        let capacity = self.shared.capacity.read();
        Held {
            disk: self,
            capacity: capacity.unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// A disk while a request is under way.
pub(super) struct Held<'d> {
    disk: &'d Disk,
    capacity: RwLockReadGuard<'d, u64>,
}

impl Held<'_> {
    /// The request in `buffers`.
    ///
    /// # Errors
    /// This disk refuses it.
    pub(super) fn parse<'a>(&self, buffers: &Buffers<'a>) -> Result<Request<'a>, ParseError> {
        let Disk { shared, features } = self.disk;
        let geometry = Geometry {
            capacity: *self.capacity,
            read_only: shared.read_only,
            discard: features.contains(Features::VIRTIO_BLK_F_DISCARD),
            write_zeroes: features.contains(Features::VIRTIO_BLK_F_WRITE_ZEROES),
        };
        Request::parse(buffers, &geometry)
    }

    /// Answers what has been `parsed`. `slices` is room to work in.
    pub(super) fn answer<'m>(
        &self,
        memory: &'m GuestMemoryMmap,
        parsed: &Result<Request<'_>, ParseError>,
        slices: &mut Vec<VolatileSlice<'m>>,
    ) -> Answer {
        let (mut moved, mut flushed, mut clears, mut failed) = (0, false, 0, false);
        let kind = RequestKind::of(parsed);
        let (address, (written, status)) = match parsed {
            Ok(request) => {
                moved = request.operation.byte_count();
                clears = request.operation.segment_count();
                // The driver may change its mind at any time: this is what it wants for this one.
                let write_through = self.disk.is_write_through();
                flushed = match request.operation {
                    Operation::Flush => true,
                    Operation::Out { .. } | Operation::WriteZeroes(_) => write_through,
                    Operation::In { .. } | Operation::GetId { .. } | Operation::Discard(_) => false,
                };
                match self.execute(memory, &request.operation, write_through, slices) {
                    Ok(written) => (request.status, (written, status::OK)),
                    Err(error) => {
                        failed = true;
                        self.disk.warn(Warned::Failed, || {
                            format!("a request failed, and more may: {}", error.source)
                        });
                        (request.status, (error.transferred, status::IOERR))
                    }
                }
            }
            Err(error) => {
                self.disk.warn(Warned::Refused, || {
                    format!("refused a request, and may refuse more: {error}")
                });
                match error.status {
                    Some(address) => (address, (0, error.code())),
                    // What is no request is of the default kind.
                    None => return Answer::default(),
                }
            }
        };
        // Parsing has checked the address: this succeeds.
        let status_written = ram::write(memory, address, &[status]).is_ok();
        let total = written.saturating_add(u64::from(status_written));
        Answer {
            kind,
            failed,
            status: status_written.then_some(status),
            written: u32::try_from(total).unwrap_or(u32::MAX),
            moved,
            flushed,
            clears,
        }
    }

    /// Does what is asked, and returns how many bytes of data have been written to the memory of
    /// the guest; an error says the same.
    fn execute<'m>(
        &self,
        memory: &'m GuestMemoryMmap,
        operation: &Operation<'_>,
        write_through: bool,
        slices: &mut Vec<VolatileSlice<'m>>,
    ) -> Result<u64, TransferError> {
        let backend = &self.disk.shared.backend;
        slices.clear();
        match operation {
            Operation::In { position, data } => {
                data.slices(memory, slices)?;
                backend.read_at(slices, *position)?;
                Ok(data.len())
            }
            Operation::Out { position, data } => {
                data.slices(memory, slices)?;
                let result = backend.write_at(slices, *position);
                result.map_err(|error| error.source)?;
                if write_through {
                    backend.flush()?;
                }
                Ok(0)
            }
            Operation::Flush => {
                backend.flush()?;
                Ok(0)
            }
            Operation::GetId { data } => Ok(data.write(memory, &self.disk.shared.id)? as u64),
            Operation::Discard(extents) => {
                for Extent { position, len, .. } in extents.iter() {
                    backend.discard(position, len)?;
                }
                Ok(0)
            }
            Operation::WriteZeroes(extents) => {
                for extent in extents.iter() {
                    let Extent {
                        position,
                        len,
                        unmap,
                    } = extent;
                    backend.write_zeroes(position, len, unmap)?;
                }
                if write_through {
                    backend.flush()?;
                }
                Ok(0)
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
