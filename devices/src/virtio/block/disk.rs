//! The disk behind the queue: answers the request in a chain, by I/O on the backend or by refusing
//! it, and writes the status byte. It knows nothing of rings and interrupts.

use std::time::{Duration, Instant};

use log::warn;
use spec::Features;
use spec::block::{ID_SIZE, SECTOR_SIZE, status};
use vm_memory::{GuestMemoryMmap, VolatileSlice};

use super::backend::{BlockBackend, TransferError};
use super::cache::Writeback;
use super::config::SharedConfig;
use super::extents::Extent;
use super::request::{Buffers, Geometry, Operation, ParseError, Request};
use super::resize::{ResizeError, SizeWish, sectors};
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

/// A backend, and what the driver has been told of it.
pub struct Disk {
    backend: Box<dyn BlockBackend>,
    geometry: Geometry,
    id: [u8; ID_SIZE],
    /// Whether the driver can say when writes are to be stable.
    can_flush: bool,
    writeback: Writeback,
    config: SharedConfig,
    size_wish: SizeWish,
    throttle: Option<(Throttle, Instant)>,
    /// Kept here for all who serve the disk, one after the other: a guest that resets the device
    /// in order to make its mistake again is not warned of again.
    warned: WarnOnce,
}

impl Disk {
    /// A disk that is `backend`, and that GET_ID calls `id`.
    #[must_use]
    pub fn new(backend: Box<dyn BlockBackend>, read_only: bool, id: [u8; ID_SIZE]) -> Self {
        let config = SharedConfig::new(&*backend, Features::empty());
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
        let geometry = Geometry {
            capacity: config.lock().capacity(),
            read_only,
            ..Geometry::default()
        };
        Self {
            backend,
            geometry,
            id,
            can_flush: false,
            writeback,
            config,
            size_wish: SizeWish::default(),
            throttle: None,
            warned: WarnOnce::default(),
        }
    }

    /// The driver has accepted these `features`, which decide what it may ask for.
    pub(super) fn negotiated(&mut self, features: Features) {
        let can_flush = Features::VIRTIO_BLK_F_FLUSH | Features::VIRTIO_BLK_F_CONFIG_WCE;
        self.can_flush = features.intersects(can_flush);
        self.geometry.discard = features.contains(Features::VIRTIO_BLK_F_DISCARD);
        self.geometry.write_zeroes = features.contains(Features::VIRTIO_BLK_F_WRITE_ZEROES);
    }

    /// Lets the disk be used no faster than `limits` say.
    pub(super) fn limit(&mut self, limits: Limits) {
        let limited = limits != Limits::default();
        self.throttle = limited.then(|| (Throttle::new(limits), Instant::now()));
    }

    /// How long the next request is to wait, if it is to.
    pub(super) fn wait(&self) -> Option<Duration> {
        let (throttle, start) = self.throttle.as_ref()?;
        let wait = throttle.wait(start.elapsed());
        (!wait.is_zero()).then_some(wait)
    }

    /// A request about `bytes` of the disk has been done.
    pub(super) fn spend(&mut self, bytes: u64) {
        if let Some((throttle, start)) = &mut self.throttle {
            throttle.spend(start.elapsed(), bytes);
        }
    }

    /// By which whoever does not serve the disk has its size looked at.
    pub(super) fn size_wish(&self) -> SizeWish {
        self.size_wish.clone()
    }

    /// Looks at the size of the disk, if somebody wishes for that, and returns whether the driver is
    /// told of another from now on. No request is under way meanwhile: those before were held
    /// against the old size, those after are held against the new one.
    pub(super) fn resize(&mut self) -> bool {
        if !self.size_wish.take() {
            return false;
        }
        let mut config = self.config.lock();
        let old = config.capacity();
        let size = self.backend.size().map_err(ResizeError::from);
        match size.and_then(|size| sectors(size, config.block())) {
            Ok(new) if new != old => {
                config.change_capacity(new);
                self.geometry.capacity = new;
                true
            }
            Ok(_) => false,
            Err(error) => {
                let (id, old) = (String::from_utf8_lossy(&self.id), old * SECTOR_SIZE);
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
        self.config.read(self.writeback.get(), space)
    }

    /// Whether what is written is on stable storage before it completes (section 5.2.6.2).
    fn is_write_through(&self) -> bool {
        !self.can_flush || !self.writeback.get()
    }

    /// Logs `message`, if it is the first of its kind for this disk.
    pub(super) fn warn(&mut self, kind: Warned, message: impl FnOnce() -> String) {
        if self.warned.first(kind as u32) {
            warn!("block: {}", message());
        }
    }

    /// What GET_ID answers.
    pub(super) fn id(&self) -> [u8; ID_SIZE] {
        self.id
    }

    /// The request in `buffers`.
    ///
    /// # Errors
    /// This disk refuses it.
    pub(super) fn parse<'a>(&self, buffers: &Buffers<'a>) -> Result<Request<'a>, ParseError> {
        Request::parse(buffers, &self.geometry)
    }

    /// Answers what has been `parsed`. `slices` is room to work in.
    pub(super) fn answer<'m>(
        &mut self,
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
                let write_through = self.is_write_through();
                flushed = match request.operation {
                    Operation::Flush => true,
                    Operation::Out { .. } | Operation::WriteZeroes(_) => write_through,
                    Operation::In { .. } | Operation::GetId { .. } | Operation::Discard(_) => false,
                };
                match self.execute(memory, &request.operation, write_through, slices) {
                    Ok(written) => (request.status, (written, status::OK)),
                    Err(error) => {
                        failed = true;
                        self.warn(Warned::Failed, || {
                            format!("a request failed, and more may: {}", error.source)
                        });
                        (request.status, (error.transferred, status::IOERR))
                    }
                }
            }
            Err(error) => {
                self.warn(Warned::Refused, || {
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
        &mut self,
        memory: &'m GuestMemoryMmap,
        operation: &Operation<'_>,
        write_through: bool,
        slices: &mut Vec<VolatileSlice<'m>>,
    ) -> Result<u64, TransferError> {
        slices.clear();
        match operation {
            Operation::In { position, data } => {
                data.slices(memory, slices)?;
                self.backend.read_at(slices, *position)?;
                Ok(data.len())
            }
            Operation::Out { position, data } => {
                data.slices(memory, slices)?;
                let result = self.backend.write_at(slices, *position);
                result.map_err(|error| error.source)?;
                if write_through {
                    self.backend.flush()?;
                }
                Ok(0)
            }
            Operation::Flush => {
                self.backend.flush()?;
                Ok(0)
            }
            Operation::GetId { data } => Ok(data.write(memory, &self.id)? as u64),
            Operation::Discard(extents) => {
                for Extent { position, len, .. } in extents.iter() {
                    self.backend.discard(position, len)?;
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
                    self.backend.write_zeroes(position, len, unmap)?;
                }
                if write_through {
                    self.backend.flush()?;
                }
                Ok(0)
            }
        }
    }
}
