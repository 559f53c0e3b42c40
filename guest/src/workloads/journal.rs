//! `run=journal`: writes sectors that tell which write they are of, many at once and at random
//! places, or clears them, flushes now and then unless `flush=off`, and prints what is stable: for
//! whoever takes the power away in the middle and looks what is left. It reads nothing back. See
//! `spec::journal`.

use spec::Features;
use spec::block::{RequestHeader, SECTOR_SIZE, SEGMENT_SIZE, Segment, request_type, segment_flags};
use spec::journal::{Change, FLUSHED, Slots, Stamp};

use super::extent::Extent;
use super::params::Parameters;
use super::{Environment, Failure, open_chosen, writable};
use crate::dma::Region;
use crate::virtio::block::Token;
use crate::virtio::queue::{Buffer, MAX_QUEUE_SIZE};
use crate::virtio::{Block, Error};

/// Sectors of a write, at most.
const SIZE_MAX: u64 = 256;
const DEFAULT_SIZE: u64 = 8;
const DEFAULT_DEPTH: u64 = 8;
const DEFAULT_FLUSH_EVERY: u64 = 16;
/// The device is notified after as many writes, or before the driver waits: so that it has some at
/// once even where the write to QueueNotify returns only when they are done.
const NOTIFY_EVERY: u64 = 4;

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let (console, machine, arena) = environment.parts();
    let (lba, count) = parameters.sectors()?;
    let seed = parameters.number("seed", 1, 0..=u64::MAX)?;
    let writes = parameters.number("writes", u64::MAX, 1..=u64::MAX)?;
    let size = parameters.number("size", DEFAULT_SIZE.min(count), 1..=SIZE_MAX.min(count))?;
    let flush_every = parameters.number("flush_every", DEFAULT_FLUSH_EVERY, 1..=u64::MAX)?;
    let flushes = parameters.choice("flush", &["on", "off"])? == "on";
    let clears = parameters.choice("clears", &["off", "on"])? == "on";
    let mut block = open_chosen(parameters, machine, arena)?;
    writable(block.info())?;
    let mut needed = Features::empty();
    needed.set(Features::VIRTIO_BLK_F_FLUSH, flushes);
    needed.set(
        Features::VIRTIO_BLK_F_DISCARD | Features::VIRTIO_BLK_F_WRITE_ZEROES,
        clears,
    );
    let missing = needed.difference(block.info().accepted);
    if !missing.is_empty() {
        return Err(Error::MissingFeatures(missing).into());
    }
    if !flushes && block.writeback() != Some(false) {
        return Err(Failure::WriteBack);
    }
    // One place is for the flush.
    let most = u64::from(block.capacity(1).saturating_sub(1));
    if most == 0 {
        return Err(Error::QueueSize {
            size: block.queue_size(),
            min: 2 * block.queue_size(),
            max: MAX_QUEUE_SIZE,
        }
        .into());
    }
    let depth = parameters.number("depth", DEFAULT_DEPTH.min(most), 1..=most)?;
    let bytes = (size * SECTOR_SIZE) as usize;
    Extent::new(block.info(), lba, count, bytes)?;
    let buffers = arena.alloc(usize::from(block.queue_size()) * bytes, SECTOR_SIZE)?;

    let mut journal = Journal {
        block: &mut block,
        buffers,
        bytes,
        writes: Writes::default(),
        flushes,
        flush: None,
    };
    for (sequence, slot) in (1..=writes).zip(Slots::new(seed, count / size)) {
        let lba = lba + slot * size;
        while journal.writes.count >= depth as usize || journal.writes.contains(lba) {
            journal.complete(console)?;
        }
        let stamp = Stamp {
            sequence,
            lba,
            seed,
        };
        journal.write(Change::of(sequence, clears), stamp)?;
        if sequence % NOTIFY_EVERY == 0 {
            journal.block.notify();
        }
        if sequence % flush_every == 0 {
            journal.make_stable(sequence, console)?;
        }
    }
    while journal.writes.count > 0 {
        journal.complete(console)?;
    }
    journal.make_stable(writes, console)?;
    while journal.flush.is_some() {
        journal.complete(console)?;
    }
    writeln!(console, "journal seed={seed} writes={writes} ok")?;
    Ok(())
}

/// A write in flight.
#[derive(Clone, Copy, Default)]
struct Write {
    token: Token,
    sequence: u64,
    lba: u64,
}

/// The writes in flight, in no order.
struct Writes {
    all: [Write; MAX_QUEUE_SIZE as usize],
    count: usize,
}

impl Default for Writes {
    fn default() -> Self {
        Self {
            all: [Write::default(); MAX_QUEUE_SIZE as usize],
            count: 0,
        }
    }
}

impl Writes {
    fn in_flight(&self) -> &[Write] {
        &self.all[..self.count]
    }

    fn contains(&self, lba: u64) -> bool {
        self.in_flight().iter().any(|write| write.lba == lba)
    }

    /// The number of the first that has not completed, if there is one.
    fn first(&self) -> Option<u64> {
        self.in_flight().iter().map(|write| write.sequence).min()
    }

    fn add(&mut self, write: Write) {
        self.all[self.count] = write;
        self.count += 1;
    }

    fn take(&mut self, token: Token) -> Option<Write> {
        let index = self.in_flight().iter().position(|w| w.token == token)?;
        let write = self.all[index];
        self.count -= 1;
        self.all[index] = self.all[self.count];
        Some(write)
    }
}

/// A flush in flight.
struct Flush {
    token: Token,
    /// The last write such that it and all before it had completed by then.
    up_to: u64,
}

struct Journal<'b, 'd, 'm> {
    block: &'b mut Block<'d, 'm>,
    /// A buffer for each token.
    buffers: Region<'m>,
    /// Length of a write.
    bytes: usize,
    writes: Writes,
    /// Whether it takes a flush to make them stable.
    flushes: bool,
    flush: Option<Flush>,
}

impl Journal<'_, '_, '_> {
    /// Submits the write of which `stamp` is the first sector's, as it changes the slot.
    fn write(&mut self, change: Change, stamp: Stamp) -> Result<(), Error> {
        let Stamp { sequence, lba, .. } = stamp;
        let token = self.block.next_token().ok_or(Error::QueueFull)?;
        let room = usize::from(token) * self.bytes;
        let (request_type, flags) = match change {
            Change::Write => (request_type::OUT, 0),
            Change::WriteZeroes { unmap: false } => (request_type::WRITE_ZEROES, 0),
            Change::WriteZeroes { unmap: true } => {
                (request_type::WRITE_ZEROES, segment_flags::UNMAP)
            }
            Change::Discard => (request_type::DISCARD, 0),
        };
        let (sector, buffer) = if change == Change::Write {
            let buffer = self.buffers.part(room, self.bytes);
            let offsets = (0..self.bytes).step_by(SECTOR_SIZE as usize);
            for (lba, offset) in (lba..).zip(offsets) {
                buffer.write(offset, &Stamp { lba, ..stamp }.sector());
            }
            (lba, buffer)
        } else {
            let buffer = self.buffers.part(room, SEGMENT_SIZE);
            let segment = Segment {
                sector: lba,
                num_sectors: (self.bytes as u64 / SECTOR_SIZE) as u32,
                flags,
            };
            buffer.write(0, &segment.to_bytes());
            (0, buffer)
        };
        let header = RequestHeader {
            request_type,
            sector,
        };
        let token = self.block.submit(header, &[Buffer::readable(buffer)])?;
        self.writes.add(Write {
            token,
            sequence,
            lba,
        });
        Ok(())
    }

    /// Has stable what was written up to the write `sequence`, as far as it has completed: submits a
    /// flush, once the last flush has completed, or tells at once where it takes none.
    fn make_stable<'e>(
        &mut self,
        sequence: u64,
        console: &mut dyn core::fmt::Write,
    ) -> Result<(), Failure<'e>> {
        while self.flush.is_some() {
            self.complete(console)?;
        }
        let up_to = self.writes.first().map_or(sequence, |first| first - 1);
        if !self.flushes {
            writeln!(console, "{FLUSHED}{up_to}")?;
            return Ok(());
        }
        let header = RequestHeader {
            request_type: request_type::FLUSH,
            sector: 0,
        };
        let token = self.block.submit(header, &[])?;
        self.flush = Some(Flush { token, up_to });
        self.block.notify();
        Ok(())
    }

    /// Takes what has completed, or waits for it.
    fn complete<'e>(&mut self, console: &mut dyn core::fmt::Write) -> Result<(), Failure<'e>> {
        let completion = match self.block.poll()? {
            Some(completion) => completion,
            None => {
                self.block.notify();
                self.block.wait()?
            }
        };
        match self.flush.take_if(|flush| flush.token == completion.token) {
            Some(Flush { up_to, .. }) => {
                completion.ok().map_err(Failure::request("flush", 0))?;
                writeln!(console, "{FLUSHED}{up_to}")?;
            }
            None => {
                let write = self.writes.take(completion.token);
                let Write { lba, .. } = write.ok_or(Error::UsedId(completion.token.into()))?;
                completion.ok().map_err(Failure::request("write", lba))?;
            }
        }
        Ok(())
    }
}
