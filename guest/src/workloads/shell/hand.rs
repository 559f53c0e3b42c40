//! A disk whose queue is worked by hand: the device with its queue, and buffers that have names. What
//! is put into them is in `by_hand`.

use spec::Features;
use spec::block::HEADER_SIZE;
use spec::mmio::DEVICE_ID_BLOCK;
use spec::queue::{self, DESC_SIZE};

use super::Wrong;
use super::arguments::parse;
use crate::dma::{Arena, Region};
use crate::virtio::raw::{RawDriver, RawQueue};
use crate::virtio::{Error, Options, Transport};

/// Size of the queue, in descriptors, where no other is asked for.
pub const QUEUE_SIZE: u16 = 8;
/// Size of the buffer for data, in bytes.
const DATA_SIZE: usize = 4096;
/// How many descriptors the indirect table has.
const TABLE_LEN: u16 = 16;
/// What the status byte is before the device writes it: none of the values that it may write.
pub const NOT_WRITTEN: u8 = 0xff;
/// A disk with a queue that is worked by hand.
pub struct Hand<'d, 'm> {
    pub driver: RawDriver<'d, 'm>,
    /// The features that have been accepted.
    pub features: Features,
    pub header: Region<'m>,
    data: Region<'m>,
    pub status: Region<'m>,
    /// The indirect table.
    pub table: Region<'m>,
    /// Whether the device has been notified since something was made available.
    pub kicked: bool,
}

impl<'d, 'm> Hand<'d, 'm> {
    /// Brings the device up with a queue of `size` descriptors, all zeros, and without event
    /// indices, so that the flags of the rings say what is wanted.
    pub fn new(
        transport: &'d mut dyn Transport,
        size: u16,
        options: &Options,
        arena: &mut Arena<'m>,
    ) -> Result<Self, Error> {
        transport.check(DEVICE_ID_BLOCK)?;
        transport.reset()?;
        let features = transport.offered_features() & options.wanted();
        let mut alloc = |len: u64, align| {
            let region = arena.alloc(len as usize, align)?;
            region.fill(0);
            Ok::<_, Error>(region)
        };
        let areas = [
            alloc(queue::desc_table_size(size), queue::DESC_ALIGN)?,
            alloc(queue::avail_ring_size(size), queue::AVAIL_ALIGN)?,
            alloc(queue::used_ring_size(size), queue::USED_ALIGN)?,
        ];
        let queue = RawQueue::new(size, areas);
        let mut hand = Self {
            driver: RawDriver { transport, queue },
            features: features - Features::VIRTIO_F_EVENT_IDX,
            header: alloc(HEADER_SIZE as u64, HEADER_SIZE as u64)?,
            data: alloc(DATA_SIZE as u64, DATA_SIZE as u64)?,
            status: alloc(1, 1)?,
            table: alloc(DESC_SIZE * u64::from(TABLE_LEN), queue::DESC_ALIGN)?,
            kicked: false,
        };
        hand.status.fill(NOT_WRITTEN);
        hand.driver.bring_up(hand.features)?;
        Ok(hand)
    }

    /// Resets the device and brings it up again, with nothing in its rings.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.kicked = false;
        self.driver.bring_up(self.features)
    }

    /// The buffers, by their names.
    pub const fn buffers(&self) -> [(&'static str, Region<'m>); 4] {
        [
            ("header", self.header),
            ("data", self.data),
            ("status", self.status),
            ("table", self.table),
        ]
    }

    /// The buffer that `word` names, from the offset on that may follow after a `+`.
    pub fn buffer(&self, word: &str) -> Result<Region<'m>, Wrong> {
        let (name, offset) = word.split_once('+').unwrap_or((word, "0"));
        let found = self.buffers().into_iter().find(|(known, _)| *known == name);
        let (_, region) = found.ok_or_else(|| Wrong::Choice {
            word: word.into(),
            choices: "header data status table",
        })?;
        let offset = parse(offset, 0..=region.len() as u64)? as usize;
        Ok(region.part(offset, region.len() - offset))
    }

    /// An address: a number, or where a buffer is.
    pub fn address(&self, word: &str) -> Result<u64, Wrong> {
        if word.starts_with(|char: char| char.is_ascii_digit()) {
            return parse(word, 0..=u64::MAX);
        }
        Ok(self.buffer(word)?.addr())
    }

    /// Where a descriptor is: `N` in the queue, or `tN` in the indirect table.
    pub fn slot(&self, word: &str) -> Result<Slot<'m>, Wrong> {
        let queue = &self.driver.queue;
        let (digits, table, len) = match word.strip_prefix('t') {
            Some(digits) => (digits, self.table, TABLE_LEN),
            None => (word, queue.desc, queue.size),
        };
        let index = parse(digits, 0..=u64::from(len) - 1)? as u16;
        let offset = usize::from(index) * DESC_SIZE as usize;
        Ok(Slot {
            index,
            memory: table.part(offset, DESC_SIZE as usize),
        })
    }
}

impl Drop for Hand<'_, '_> {
    fn drop(&mut self) {
        // The memory of the queue is free for others now. If the device does not come to rest, the
        // next who brings it up will be told.
        let _ = self.driver.transport.reset();
    }
}

/// The place of a descriptor.
pub struct Slot<'m> {
    pub index: u16,
    pub memory: Region<'m>,
}
