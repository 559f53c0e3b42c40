//! The configuration space (section 5.2.4): what the device tells of the disk and of its own limits,
//! and the generation of that. It decides nothing: the features that are offered say which fields
//! there are.

use std::sync::{Arc, Mutex, MutexGuard};

use spec::Features;
use spec::block::{SECTOR_SIZE, config};

use super::backend::{BlockBackend, Topology};
use super::{CLEAR_SECTORS_MAX, CLEAR_SEG_MAX, SEG_MAX, SIZE_MAX};
use crate::locks::lock;

/// The geometry of an IDE disk, which no disk has had for decades, for who asks: partitions were once
/// made by it. Its size in cylinders is all that differs from one disk to another.
const HEADS: u8 = 16;
const TRACK_SECTORS: u8 = 63;
const CYLINDERS_MAX: u16 = 16383;

/// The configuration space of a device, which one thread reads while another may change it. Clones
/// are the same.
#[derive(Clone)]
pub(super) struct SharedConfig(Arc<Mutex<ConfigSpace>>);

impl SharedConfig {
    /// What is told of `backend` by a device that has as many `queues`, and offers these `features`.
    pub(super) fn new(backend: &dyn BlockBackend, features: Features, queues: u16) -> Self {
        let space = ConfigSpace::new(backend, features, queues);
        Self(Arc::new(Mutex::new(space)))
    }

    /// Fills `space` with as much as there is, while the cache is in write-back mode or not, and
    /// returns the generation of that.
    pub(super) fn read(&self, writeback: bool, space: &mut [u8]) -> u32 {
        let current = self.lock();
        let mut bytes = current.bytes;
        put(&mut bytes, config::WRITEBACK, &[writeback.into()]);
        for (to, from) in space.iter_mut().zip(bytes) {
            *to = from;
        }
        current.generation
    }

    /// The configuration space, as it is for as long as the caller has this.
    pub(super) fn lock(&self) -> MutexGuard<'_, ConfigSpace> {
        lock(&self.0)
    }
}

/// The configuration space. Fields of features that are not offered are 0.
pub(super) struct ConfigSpace {
    bytes: [u8; config::SIZE],
    /// ConfigGeneration: another after each change but those that the driver makes.
    generation: u32,
    /// Size of the disk, in sectors.
    capacity: u64,
    /// Size of a logical block, in bytes.
    block: u32,
}

impl ConfigSpace {
    fn new(backend: &dyn BlockBackend, features: Features, queues: u16) -> Self {
        let mut space = Self {
            bytes: [0; config::SIZE],
            generation: 0,
            capacity: 0,
            block: 0,
        };
        space.put_capacity(backend.capacity());
        space.put(config::SIZE_MAX, &SIZE_MAX.to_le_bytes());
        space.put(config::SEG_MAX, &SEG_MAX.to_le_bytes());
        space.set_blocks(SECTOR_SIZE as u32, &backend.topology());

        if features.contains(Features::VIRTIO_BLK_F_MQ) {
            space.put(config::NUM_QUEUES, &queues.to_le_bytes());
        }
        let discards = features.contains(Features::VIRTIO_BLK_F_DISCARD);
        let (sectors, segments) = (CLEAR_SECTORS_MAX.to_le_bytes(), CLEAR_SEG_MAX.to_le_bytes());
        if discards {
            let granularity = backend.discard_granularity().unwrap_or_default();
            let alignment = granularity.div_ceil(SECTOR_SIZE as u32).max(1);
            space.put(config::MAX_DISCARD_SECTORS, &sectors);
            space.put(config::MAX_DISCARD_SEG, &segments);
            space.put(config::DISCARD_SECTOR_ALIGNMENT, &alignment.to_le_bytes());
        }
        if features.contains(Features::VIRTIO_BLK_F_WRITE_ZEROES) {
            space.put(config::MAX_WRITE_ZEROES_SECTORS, &sectors);
            space.put(config::MAX_WRITE_ZEROES_SEG, &segments);
            space.put(config::WRITE_ZEROES_MAY_UNMAP, &[discards.into()]);
        }
        space
    }

    /// Size of the disk, in sectors.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Size of a logical block, in bytes.
    pub(super) fn block(&self) -> u32 {
        self.block
    }

    /// Tells of a disk of `capacity` sectors from now on.
    pub(super) fn change_capacity(&mut self, capacity: u64) {
        self.put_capacity(capacity);
        // Together with what it is the generation of: a driver that reads the capacity in two
        // halves has both of one generation, or sees another after them (section 4.2.2.1).
        self.generation = self.generation.wrapping_add(1);
    }

    /// Tells of blocks of `logical` bytes, a power of two, in which the guest is to ask, and of how it
    /// had better. What cannot be told in such blocks is not.
    pub(super) fn set_blocks(&mut self, logical: u32, topology: &Topology) {
        let physical = topology.physical_block.max(logical);
        let exponent = physical.ilog2().saturating_sub(logical.ilog2());
        let exponent = u8::try_from(exponent).unwrap_or_default();
        let blocks = |bytes: u32| match bytes.is_multiple_of(logical) {
            true => bytes / logical,
            false => 0,
        };
        let offset = u8::try_from(blocks(topology.alignment_offset)).unwrap_or_default();
        let min_io = u16::try_from(blocks(topology.min_io.max(physical))).unwrap_or_default();
        self.block = logical;
        self.put(config::BLK_SIZE, &logical.to_le_bytes());
        self.put(config::PHYSICAL_BLOCK_EXP, &[exponent]);
        self.put(config::ALIGNMENT_OFFSET, &[offset]);
        self.put(config::MIN_IO_SIZE, &min_io.to_le_bytes());
        self.put(config::OPT_IO_SIZE, &blocks(topology.opt_io).to_le_bytes());
    }

    fn put_capacity(&mut self, capacity: u64) {
        self.capacity = capacity;
        self.put(config::CAPACITY, &capacity.to_le_bytes());
        self.put(config::CYLINDERS, &cylinders(capacity).to_le_bytes());
        self.put(config::HEADS, &[HEADS]);
        self.put(config::SECTORS, &[TRACK_SECTORS]);
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) {
        put(&mut self.bytes, offset, bytes);
    }
}

/// How many cylinders a disk of `capacity` sectors has: those of an IDE disk, which has at least one,
/// and no more than its registers can say.
fn cylinders(capacity: u64) -> u16 {
    let per_cylinder = u64::from(HEADS) * u64::from(TRACK_SECTORS);
    let cylinders = (capacity / per_cylinder).clamp(1, CYLINDERS_MAX.into());
    u16::try_from(cylinders).unwrap_or(CYLINDERS_MAX)
}

fn put(space: &mut [u8; config::SIZE], offset: u64, bytes: &[u8]) {
    for (to, from) in space.iter_mut().skip(offset as usize).zip(bytes) {
        *to = *from;
    }
}
