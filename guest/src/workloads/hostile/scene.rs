//! What a case works with: a device that has been brought up by hand, buffers with guards around
//! them, and what the disk must hold. And how it is seen, after the case, that the device goes on.
//! What is done to the device is the cases' matter.

use spec::Features;
use spec::block::{HEADER_SIZE, RequestHeader, SECTOR_SIZE, request_type};
use spec::mmio::{DEVICE_ID_BLOCK, DeviceStatus};
use spec::queue::{self, DESC_SIZE, Descriptor};

use super::Stage;
use super::case::Mode;
use super::descriptors::linked;
pub use super::descriptors::{descriptor, indirect, readable, set_table, writable};
use super::seen::{Broken, Checks, OK, Outcome, Seen, read_of};
use super::yard::{UNTOUCHED, Yard, copy, is_filled, is_same};
use crate::cmdline::Window;
use crate::dma::Region;
use crate::virtio::Error;
use crate::virtio::raw::{RawDriver, RawQueue};

/// Size of a sector, in bytes.
pub const SECTOR: usize = SECTOR_SIZE as usize;
/// Size of the queue, in descriptors, where a case does not want another.
pub const QUEUE_SIZE: u16 = 16;
/// Most descriptors in an indirect table: a few more than a chain may have.
const TABLE_LEN: usize = QUEUE_SIZE as usize + 2;
/// Room for the data of a request, in bytes.
const DATA_SIZE: usize = 4 * SECTOR;

/// The disk, as it must be.
#[derive(Clone, Copy)]
pub struct Disk<'m> {
    /// The features that the device offers.
    pub offered: Features,
    /// The largest size that queue 0 may have, in descriptors.
    pub queue_num_max: u32,
    /// How many queues there are.
    pub queues: u16,
    /// Size, in sectors.
    pub capacity: u64,
    /// What the first sectors hold; cases write nothing else to them.
    pub contents: Region<'m>,
}

impl Disk<'_> {
    /// Whether the disk cannot be written.
    pub const fn is_read_only(&self) -> bool {
        self.offered.contains(Features::VIRTIO_BLK_F_RO)
    }
}

/// A device that lives, and buffers for it. Each is as untouched as its guards are, where nothing
/// is said of it.
pub struct Scene<'s> {
    /// The device, and its queue.
    pub driver: RawDriver<'s, 's>,
    /// Where there is more memory.
    pub yard: Yard<'s>,
    /// The last page of the RAM below the hole for devices; empty where the guest has not got it.
    pub tail: Region<'s>,
    /// Where the device is.
    pub window: Window,
    /// The disk behind it.
    pub disk: Disk<'s>,
    /// How chains are made.
    pub mode: Mode,
    /// The features that have been accepted.
    pub features: Features,
    /// For a header.
    pub header: Region<'s>,
    /// For data: four sectors.
    pub data: Region<'s>,
    /// For a status byte.
    pub status: Region<'s>,
    /// An indirect table for each descriptor that can refer to it.
    pub tables: Region<'s>,
    /// For what is on the disk.
    room: Region<'s>,
    /// How often the device has been brought up.
    pub brought_up: u32,
    checks: &'s mut Checks,
}

impl<'s> Scene<'s> {
    /// The device of `stage`, brought up.
    ///
    /// # Errors
    /// It cannot be.
    pub fn begin(stage: &'s mut Stage<'_, '_>) -> Result<Self, Error> {
        let transport = stage.machine.device(stage.window)?;
        transport.check(DEVICE_ID_BLOCK)?;
        let (disk, mode) = (stage.disk, stage.mode);
        let mut yard = Yard::new(stage.arena.scope());
        let queue = RawQueue::new(QUEUE_SIZE, areas(&mut yard, QUEUE_SIZE)?);
        let tables = usize::from(QUEUE_SIZE) * TABLE_LEN * DESC_SIZE as usize;
        let mut scene = Self {
            driver: RawDriver { transport, queue },
            tail: stage.tail,
            window: stage.window,
            disk,
            mode,
            features: mode.features(disk.offered),
            header: yard.alloc(HEADER_SIZE)?,
            data: yard.alloc(DATA_SIZE)?,
            status: yard.alloc(1)?,
            tables: yard.alloc(tables)?,
            room: yard.alloc(disk.contents.len())?,
            yard,
            brought_up: 0,
            checks: &mut stage.checks,
        };
        scene.bring_up()?;
        Ok(scene)
    }

    /// Resets the device and brings it up, with nothing in its rings.
    ///
    /// # Errors
    /// It does not go along.
    pub fn bring_up(&mut self) -> Result<(), Error> {
        self.brought_up += 1;
        self.revive()
    }

    /// The same to a device that the case has seen reset, where it was to be.
    ///
    /// # Errors
    /// As for [`bring_up`](Self::bring_up).
    pub fn revive(&mut self) -> Result<(), Error> {
        self.driver.transport.reset()?;
        self.driver.queue.device.fill(UNTOUCHED);
        self.driver.bring_up(self.features)
    }

    /// Has a queue of `size` descriptors in place of the usual one, and brings the device up anew.
    ///
    /// # Errors
    /// There is no memory for it, or the device does not go along.
    pub fn resize(&mut self, size: u16) -> Result<(), Error> {
        self.driver.queue = RawQueue::new(size, areas(&mut self.yard, size)?);
        self.bring_up()
    }

    // Chains

    /// Writes the header.
    pub fn set_header(&self, request_type: u32, sector: u64) {
        let header = RequestHeader {
            request_type,
            sector,
        };
        self.header.write(0, &header.to_bytes());
    }

    /// Index of the descriptor number `i` of the chain from `head`, in the table that it is in.
    pub const fn index(&self, head: u16, i: u16) -> u16 {
        if self.mode.indirect { i } else { head + i }
    }

    /// Writes the descriptor number `i` of the chain from `head`, as it is.
    pub fn set_desc(&self, head: u16, i: u16, descriptor: Descriptor) {
        if self.mode.indirect {
            let offset = usize::from(i) * DESC_SIZE as usize;
            self.table(head).write(offset, &descriptor.to_bytes());
        } else {
            self.driver.queue.set_desc(head + i, descriptor);
        }
    }

    /// Writes a chain of `descriptors`, each with NEXT to the one after it: to the queue's table
    /// from `head` on, or to the indirect table that the descriptor `head` refers to.
    pub fn set_chain(&self, head: u16, descriptors: &[Descriptor]) {
        let (queue, count) = (self.driver.queue, descriptors.len());
        if self.mode.indirect {
            let table = self.table(head);
            set_table(table, descriptors);
            let len = count as u32 * DESC_SIZE as u32;
            return queue.set_desc(head, indirect(table.addr(), len));
        }
        for (i, descriptor) in descriptors.iter().enumerate() {
            let index = head + i as u16;
            let more = i + 1 < count;
            queue.set_desc(index, linked(*descriptor, more.then_some(index + 1)));
        }
    }

    /// The indirect table that belongs to the descriptor `head`.
    pub fn table(&self, head: u16) -> Region<'s> {
        let size = TABLE_LEN * DESC_SIZE as usize;
        self.tables.part(usize::from(head) * size, size)
    }

    /// A read of one sector into the data buffer, which the header must be for.
    pub fn read_chain(&self) -> [Descriptor; 3] {
        [
            readable(self.header),
            writable(self.data.part(0, SECTOR)),
            writable(self.status),
        ]
    }

    // Requests

    /// Makes the chain from `head` available, notifies, and waits until it comes back. The status
    /// byte is untouched before.
    ///
    /// # Errors
    /// It does not come back, or another does.
    pub fn submit_head(&mut self, head: u16) -> Result<Seen, Broken> {
        self.status.fill(UNTOUCHED);
        self.driver.queue.offer(head);
        self.driver.kick(0);
        self.answer(head)
    }

    /// Waits for the chain from `head`, which is the next to come back.
    ///
    /// # Errors
    /// As for [`submit_head`](Self::submit_head).
    pub fn answer(&mut self, head: u16) -> Result<Seen, Broken> {
        let used = self.driver.wait_used()?;
        let (id, head) = (Seen::Value(used.id.into()), Seen::Value(head.into()));
        if id != head {
            self.check("the id in the used ring", 0, id, head)?;
        }
        let mut status = [0];
        self.status.read(0, &mut status);
        Ok(Seen::Answer {
            len: used.len,
            status: status[0],
        })
    }

    /// Has the device answer a chain of these descriptors.
    ///
    /// # Errors
    /// As for [`submit_head`](Self::submit_head).
    pub fn submit(&mut self, descriptors: &[Descriptor]) -> Result<Seen, Broken> {
        self.set_chain(0, descriptors);
        self.submit_head(0)
    }

    /// Has the device answer a request with this data, at most six buffers of it.
    ///
    /// # Errors
    /// As for [`submit_head`](Self::submit_head).
    pub fn request(
        &mut self,
        request_type: u32,
        sector: u64,
        data: &[Descriptor],
    ) -> Result<Seen, Broken> {
        self.set_header(request_type, sector);
        let mut chain = [Descriptor::default(); 8];
        let end = data.len() + 1;
        chain[0] = readable(self.header);
        chain[1..end].copy_from_slice(data);
        chain[end] = writable(self.status);
        self.submit(&chain[..=end])
    }

    // What is seen

    /// Sees that `what`, of those that are tried the one named `of`, is as `expected`.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&mut self, what: &'static str, of: u64, seen: Seen, expected: Seen) -> Outcome {
        self.checks.check(what, of, seen, expected)
    }

    /// The same for what is so on any device, and need not be told of.
    ///
    /// # Errors
    /// It is not.
    pub fn check_also(
        &mut self,
        what: &'static str,
        of: u64,
        seen: Seen,
        expected: Seen,
    ) -> Outcome {
        let last = self.checks.last;
        self.check(what, of, seen, expected)?;
        self.checks.last = last;
        Ok(())
    }

    /// Sees what the device status is, after the one of those that are tried named `of`.
    ///
    /// # Errors
    /// It is another.
    pub fn check_status(&mut self, of: u64, expected: DeviceStatus) -> Outcome {
        let status = Seen::Value(self.driver.transport.status().bits().into());
        self.check("status", of, status, Seen::Value(expected.bits().into()))
    }

    /// Sees that the data buffer is untouched.
    ///
    /// # Errors
    /// It is not.
    pub fn check_data_untouched(&mut self, of: u64) -> Outcome {
        let untouched = is_filled(self.data, UNTOUCHED);
        self.check_words("the data", of, untouched, "untouched", "written")
    }

    /// Sees that `what` is so, in words.
    ///
    /// # Errors
    /// It is not.
    pub fn check_words(
        &mut self,
        what: &'static str,
        of: u64,
        is_so: bool,
        so: &'static str,
        not_so: &'static str,
    ) -> Outcome {
        let seen = if is_so { so } else { not_so };
        // What is so need not be told of, where something else was seen.
        let last = self.checks.last;
        self.check(what, of, Seen::Words(seen), Seen::Words(so))?;
        if last != Seen::Nothing {
            self.checks.last = last;
        }
        Ok(())
    }

    /// Sees that the device goes on as if nothing had been: it answers the next request, which is
    /// to read what is known of the disk, with what must be there; nothing else has come back; and
    /// no guard has been touched. Only a case that is about a reset may have made one.
    ///
    /// # Errors
    /// It does not.
    pub fn finish(&mut self, resets: bool) -> Outcome {
        self.room.fill(!UNTOUCHED);
        let answer = self.request(request_type::IN, 0, &[writable(self.room)])?;
        self.check_also("the next read", 0, answer, read_of(self.room.len()))?;
        let same = is_same(self.room, self.disk.contents);
        self.check_words("the disk", 0, same, "unchanged", "changed")?;

        let queue = self.driver.queue;
        let (used, seen) = (queue.used_idx().into(), queue.used_seen.into());
        self.check_also("used.idx", 0, Seen::Value(used), Seen::Value(seen))?;
        let size = queue.size;
        let none = u32::from_ne_bytes([UNTOUCHED; 4]);
        let rest = queue.used_seen.min(size)..size;
        let clean = rest
            .map(|i| queue.used_entry(i))
            .all(|e| (e.id, e.len) == (none, none));
        self.check_words("the used ring", 0, clean, "no more entries", "more entries")?;
        let intact = self.yard.is_intact();
        self.check_words("the guards", 0, intact, "untouched", "written")?;
        let once = resets || self.brought_up == 1;
        self.check_words("the device", 0, once, "goes on", "was reset")?;
        Ok(())
    }

    /// Puts what must be there on the disk, whatever the case has made of it.
    ///
    /// # Errors
    /// The device does not answer.
    pub fn restore(&mut self) -> Outcome {
        copy(self.disk.contents, self.room);
        let answer = self.request(request_type::OUT, 0, &[readable(self.room)])?;
        self.check_also("a write", 0, answer, OK)
    }

    /// Makes it known what is on the disk: what is to be there, or what a read-only disk has.
    ///
    /// # Errors
    /// The device does not answer.
    pub fn prepare(&mut self) -> Outcome {
        if self.disk.is_read_only() {
            self.learn()
        } else {
            self.restore()
        }
    }

    /// Takes what is on the disk for what must be there.
    fn learn(&mut self) -> Outcome {
        let contents = self.disk.contents;
        let answer = self.request(request_type::IN, 0, &[writable(contents)])?;
        self.check("a read", 0, answer, read_of(contents.len()))
    }
}

/// The three areas of a queue of `size` descriptors. The entries of the rings are untouched.
///
/// # Errors
/// There is no memory for them.
pub fn areas<'m>(yard: &mut Yard<'m>, size: u16) -> Result<[Region<'m>; 3], Error> {
    Ok([
        yard.alloc(queue::desc_table_size(size) as usize)?,
        yard.alloc(queue::avail_ring_size(size) as usize)?,
        yard.alloc(queue::used_ring_size(size) as usize)?,
    ])
}
