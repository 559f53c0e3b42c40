//! Sectors on a disk that is read and written in larger units, and from memory that lies at multiples
//! of them. What fits is passed on as it is; all else goes through a room of bounded size. It knows
//! no file.

use std::fs::File;
use std::io;
use std::sync::{Mutex, MutexGuard};

use vm_memory::mmap::MmapRegion;
use vm_memory::{VolatileMemory, VolatileSlice};

use super::vectored::byte_count;
use super::{BlockBackend, Gate, Topology, TransferError};
use crate::locks::lock;

/// How many bytes go through the room at once: whole units.
const ROOM: usize = 256 << 10;
/// The largest unit, in bytes: that of the memory which the room is made of.
const UNIT_MAX: usize = 4096;

/// A `backend` that takes whole units alone, from memory that is aligned to them, as a disk of
/// sectors.
///
/// A write of a part of a unit reads the unit, and writes all of it. No other change is made through
/// this meanwhile, so that the rest of the unit is as it was.
#[derive(Debug)]
pub struct AlignedBackend<B> {
    backend: B,
    unit: usize,
    room: Mutex<MmapRegion>,
    /// Whoever changes whole units is in it, and one who changes parts of them closes it.
    gate: Gate,
}

/// A stretch of whole units on the disk, and what of it is asked for.
struct Piece {
    /// First byte on the disk.
    start: u64,
    /// How many bytes.
    len: usize,
    /// How many of them come before what is asked for.
    skip: usize,
    /// How many of them are asked for.
    wanted: usize,
}

impl<B: BlockBackend> AlignedBackend<B> {
    /// A disk on `backend`, which takes units of `unit` bytes: a power of two, from 512 to 4096.
    ///
    /// # Errors
    /// The unit is none, the disk is not whole units, or there is no memory for the room.
    pub fn new(backend: B, unit: u32) -> io::Result<Self> {
        let unit = usize::try_from(unit).unwrap_or(usize::MAX);
        if !unit.is_power_of_two() || !(512..=UNIT_MAX).contains(&unit) {
            let message = format!("it is to be read and written in units of {unit} bytes");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        let room = MmapRegion::new(ROOM).map_err(io::Error::other)?;
        let disk = Self {
            backend,
            unit,
            room: Mutex::new(room),
            gate: Gate::default(),
        };
        disk.size()?;
        Ok(disk)
    }

    /// Whether the backend takes `slices` and `position` as they are.
    fn fits(&self, slices: &[VolatileSlice<'_>], position: u64) -> bool {
        let is_whole = |number: usize| number.is_multiple_of(self.unit);
        position.is_multiple_of(self.unit as u64)
            && slices
                .iter()
                .all(|slice| is_whole(slice.ptr_guard().as_ptr().addr()) && is_whole(slice.len()))
    }

    /// The first piece of `left` bytes from `position` on.
    fn piece(&self, position: u64, left: usize) -> Piece {
        let skip = (position % self.unit as u64) as usize;
        let len = skip.saturating_add(left).min(ROOM);
        let len = len.next_multiple_of(self.unit);
        Piece {
            start: position.saturating_sub(skip as u64),
            len,
            skip,
            wanted: len.saturating_sub(skip).min(left),
        }
    }

    /// The room, which nobody else works in meanwhile.
    fn room(&self) -> MutexGuard<'_, MmapRegion> {
        lock(&self.room)
    }

    fn read_by_room(
        &self,
        slices: &[VolatileSlice<'_>],
        position: u64,
    ) -> Result<(), TransferError> {
        let room = self.room();
        let (total, mut done) = (byte_count(slices), 0_usize);
        while done < total {
            let at = position.saturating_add(done as u64);
            let piece = self.piece(at, total.saturating_sub(done));
            let units = slice(&*room, 0, piece.len)?;
            let result = self.backend.read_at(&[units], piece.start);
            let read = moved(&result, &piece);
            let mut from = piece.skip;
            for part in parts(slices, done, read) {
                slice(&units, from, part.len())?.copy_to_volatile_slice(part);
                from = from.saturating_add(part.len());
            }
            done = done.saturating_add(read);
            if read < piece.wanted {
                return ended(result, done);
            }
        }
        Ok(())
    }

    fn write_by_room(
        &self,
        slices: &[VolatileSlice<'_>],
        position: u64,
    ) -> Result<(), TransferError> {
        let (_closed, room) = (self.gate.close(), self.room());
        let (total, mut done) = (byte_count(slices), 0_usize);
        while done < total {
            let at = position.saturating_add(done as u64);
            let piece = self.piece(at, total.saturating_sub(done));
            if let Err(error) = self.read_around(&room, &piece) {
                return ended(Err(error), done);
            }
            let units = slice(&*room, 0, piece.len)?;
            let mut to = piece.skip;
            for part in parts(slices, done, piece.wanted) {
                part.copy_to_volatile_slice(slice(&units, to, part.len())?);
                to = to.saturating_add(part.len());
            }
            let result = self.backend.write_at(&[units], piece.start);
            let written = moved(&result, &piece);
            done = done.saturating_add(written);
            if result.is_err() {
                return ended(result, done);
            }
        }
        Ok(())
    }

    /// Reads into the room the units of `piece` that are not to be written as a whole: the first,
    /// the last, or both.
    fn read_around(&self, room: &MmapRegion, piece: &Piece) -> Result<(), TransferError> {
        let last = piece.len.saturating_sub(self.unit);
        let after = piece.skip.saturating_add(piece.wanted) < piece.len;
        let first = (piece.skip > 0).then_some(0);
        let last = (after && (last > 0 || piece.skip == 0)).then_some(last);
        for offset in first.into_iter().chain(last) {
            let unit = slice(room, offset, self.unit)?;
            let position = piece.start.saturating_add(offset as u64);
            self.backend.read_at(&[unit], position)?;
        }
        Ok(())
    }
}

impl<B: BlockBackend> BlockBackend for AlignedBackend<B> {
    fn capacity(&self) -> u64 {
        self.backend.capacity()
    }

    /// One that is not whole units is an error: nothing could write the last of them.
    fn size(&self) -> io::Result<u64> {
        let (size, unit) = (self.backend.size()?, self.unit);
        if size.is_multiple_of(unit as u64) {
            return Ok(size);
        }
        Err(io::Error::other(format!(
            "its size, {size} bytes, is not a multiple of {unit}, the unit in which it is read and \
             written"
        )))
    }

    fn topology(&self) -> Topology {
        let topology = self.backend.topology();
        Topology {
            physical_block: topology.physical_block.max(self.unit as u32),
            ..topology
        }
    }

    /// A call to a disk without a cache waits for it: the fewer the better.
    fn merges_below(&self) -> u64 {
        u64::MAX
    }

    fn read_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        match self.fits(slices, position) {
            true => self.backend.read_at(slices, position),
            false => self.read_by_room(slices, position),
        }
    }

    fn write_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        if !self.fits(slices, position) {
            return self.write_by_room(slices, position);
        }
        let _inside = self.gate.pass();
        self.backend.write_at(slices, position)
    }

    fn file(&self) -> Option<&File> {
        self.backend.file()
    }

    fn admits(
        &self,
        writes: bool,
        slices: &[VolatileSlice<'_>],
        position: u64,
    ) -> io::Result<bool> {
        Ok(self.fits(slices, position) && self.backend.admits(writes, slices, position)?)
    }

    fn gate(&self) -> Option<&Gate> {
        Some(&self.gate)
    }

    fn flush(&self) -> io::Result<()> {
        self.backend.flush()
    }

    fn discard_granularity(&self) -> Option<u32> {
        self.backend.discard_granularity()
    }

    fn discard(&self, position: u64, len: u64) -> io::Result<()> {
        let _inside = self.gate.pass();
        self.backend.discard(position, len)
    }

    fn zero_unwritten(&self, position: u64, len: u64, unmap: bool) -> io::Result<()> {
        let _inside = self.gate.pass();
        self.backend.zero_unwritten(position, len, unmap)
    }
}

/// The `len` bytes of `memory` from `offset` on.
fn slice<M: VolatileMemory>(
    memory: &M,
    offset: usize,
    len: usize,
) -> io::Result<VolatileSlice<'_, vm_memory::bitmap::BS<'_, M::B>>> {
    memory.get_slice(offset, len).map_err(io::Error::other)
}

/// The parts of `slices` that are the `len` bytes after the first `skip`.
fn parts<'a>(
    slices: &[VolatileSlice<'a>],
    mut skip: usize,
    mut len: usize,
) -> impl Iterator<Item = VolatileSlice<'a>> {
    slices.iter().filter_map(move |slice| {
        let before = skip.min(slice.len());
        skip = skip.saturating_sub(before);
        let count = len.min(slice.len().saturating_sub(before));
        len = len.saturating_sub(count);
        slice.subslice(before, count).ok()
    })
}

/// How many of the bytes that are asked for of `piece` its transfer has moved.
fn moved(result: &Result<(), TransferError>, piece: &Piece) -> usize {
    let Err(error) = result else {
        return piece.wanted;
    };
    let moved = usize::try_from(error.transferred).unwrap_or(usize::MAX);
    moved.saturating_sub(piece.skip).min(piece.wanted)
}

/// The `result` of the last transfer as that of all, which have moved `done` bytes.
fn ended(result: Result<(), TransferError>, done: usize) -> Result<(), TransferError> {
    result.map_err(|error| TransferError {
        transferred: done as u64,
        source: error.source,
    })
}

#[cfg(test)]
#[path = "aligned_tests.rs"]
mod tests;
