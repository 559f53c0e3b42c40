//! Bytes on their way between the disk and memory of the guest: where they are on either side, and
//! for which requests. Who moves them is not decided here.

use std::fmt;
use std::io;
use std::sync::Arc;

use vm_memory::{GuestMemoryMmap, VolatileSlice};

use crate::virtio::block::answer::Begun;
use crate::virtio::block::backend::{BlockBackend, TransferError};
use crate::virtio::chain::Run;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the disk to memory.
    In,
    /// From memory to the disk.
    Out,
}

/// A transfer between a stretch of the disk and pieces of the memory of the guest, which stays mapped
/// for as long as this lives.
pub struct Transfer {
    memory: Arc<GuestMemoryMmap>,
    direction: Direction,
    position: u64,
    len: u64,
    /// Of `memory`, whatever they say of their lifetime: they are lent out for that of `self`.
    slices: Vec<VolatileSlice<'static>>,
    parts: Vec<Part>,
}

/// What of a transfer is for one request.
#[derive(Clone, Copy, Debug)]
pub(in crate::virtio::block) struct Part {
    /// The request.
    pub(in crate::virtio::block) request: Begun,
    /// First byte on the disk.
    position: u64,
    /// How many bytes.
    pub(in crate::virtio::block) len: u64,
    /// Its first slice.
    first: usize,
}

// SAFETY: the slices are all that is not `Send` by itself, for their pointers. They point into memory
// that belongs to no thread, and that stays mapped while `self` has its share of `memory`, wherever
// that is. All access to it is volatile or the kernel's.
unsafe impl Send for Transfer {}

impl Transfer {
    /// A transfer of nothing.
    pub(in crate::virtio::block) fn new(memory: Arc<GuestMemoryMmap>) -> Self {
        Self {
            memory,
            direction: Direction::In,
            position: 0,
            len: 0,
            slices: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// Makes it one of nothing again, in this `direction` and from this `position` on.
    pub(in crate::virtio::block) fn restart(&mut self, direction: Direction, position: u64) {
        (self.direction, self.position, self.len) = (direction, position, 0);
        self.slices.clear();
        self.parts.clear();
    }

    /// Adds the `data` of `request`: its counterpart on the disk is what follows that of the data
    /// before.
    ///
    /// # Errors
    /// A part of it is not in RAM. Then nothing is added.
    pub(in crate::virtio::block) fn add(
        &mut self,
        request: Begun,
        data: Run<'_>,
    ) -> io::Result<()> {
        let (first, len) = (self.slices.len(), data.len());
        // SAFETY: what this refers to lives, at this address, as long as `self.memory`, which nobody
        // replaces. The reference itself ends with this function; the slices that are made of it,
        // which point into its mappings and at nothing else, are dropped with `self` at the latest,
        // and lent out for no longer than `self` is borrowed.
        let memory: &'static GuestMemoryMmap = unsafe { &*Arc::as_ptr(&self.memory) };
        if let Err(error) = data.slices(memory, &mut self.slices) {
            self.slices.truncate(first);
            return Err(error);
        }
        self.parts.push(Part {
            request,
            position: self.end(),
            len,
            first,
        });
        self.len = self.len.saturating_add(len);
        Ok(())
    }

    /// Which way the bytes go.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// The first byte on the disk.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The byte on the disk after the last one.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position.saturating_add(self.len)
    }

    /// How many bytes: those of all [slices](Self::slices).
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The memory that they come from or go to, in the order of the disk.
    #[must_use]
    pub fn slices(&self) -> &[VolatileSlice<'_>] {
        &self.slices
    }

    /// What of it is for which request, in the order of the disk.
    pub(in crate::virtio::block) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Has the bytes moved by `backend`, and returns when they are.
    ///
    /// # Errors
    /// As those of [`BlockBackend::read_at`] and [`BlockBackend::write_at`].
    pub fn make(&self, backend: &dyn BlockBackend) -> Result<(), TransferError> {
        self.move_by(backend, self.slices(), self.position)
    }

    /// Has `backend` move what is for the request with this `index` among the [parts](Self::parts).
    ///
    /// # Errors
    /// As those of [`make`](Self::make).
    pub(in crate::virtio::block) fn make_part(
        &self,
        backend: &dyn BlockBackend,
        index: usize,
    ) -> Result<(), TransferError> {
        let Some(part) = self.parts.get(index) else {
            return Ok(());
        };
        let next = self.parts.get(index.saturating_add(1));
        let after = next.map_or(self.slices.len(), |next| next.first);
        let slices = self.slices.get(part.first..after).unwrap_or_default();
        self.move_by(backend, slices, part.position)
    }

    fn move_by(
        &self,
        backend: &dyn BlockBackend,
        slices: &[VolatileSlice<'_>],
        position: u64,
    ) -> Result<(), TransferError> {
        match self.direction {
            Direction::In => backend.read_at(slices, position),
            Direction::Out => backend.write_at(slices, position),
        }
    }
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer")
            .field("direction", &self.direction)
            .field("position", &self.position)
            .field("len", &self.len)
            .field("parts", &self.parts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(feature = "io-uring")]
impl Transfer {
    /// A transfer between the disk from `position` on and `data`, for no request.
    pub(super) fn of(
        memory: &Arc<GuestMemoryMmap>,
        (direction, position): (Direction, u64),
        data: Run<'_>,
    ) -> Self {
        let mut transfer = Self::new(Arc::clone(memory));
        transfer.restart(direction, position);
        // SAFETY: as in `add`.
        let memory: &'static GuestMemoryMmap = unsafe { &*Arc::as_ptr(&transfer.memory) };
        data.slices(memory, &mut transfer.slices).unwrap();
        transfer.len = data.len();
        transfer
    }
}
