//! The three areas of a queue as they are in guest RAM at one moment, and what a reader sees of them.
//! Only reads, from addresses that the driver chose.

use spec::queue::{
    AVAIL_ELEM_SIZE, DESC_SIZE, DescFlags, Descriptor, RING_ENTRIES, RING_FLAGS, RING_IDX,
    USED_ELEM_SIZE, avail_event, avail_ring_size, desc_table_size, used_event, used_ring_size,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::story::{
    self, AvailableEntry, AvailableRing, BYTES_SHOWN, Buffer, IndirectTable, Queue, Role, Snapshot,
    TableEntry, UsedEntry, UsedRing,
};

/// A queue of at most as many descriptors is shown whole.
const WHOLE: u16 = 16;
/// How many entries of a longer ring are shown: half of them before its index.
const AROUND: u16 = 8;

/// The bytes of the three areas.
#[derive(Clone, Debug, Default)]
pub struct Areas {
    size: u16,
    desc: Vec<u8>,
    avail: Vec<u8>,
    used: Vec<u8>,
}

/// Where the parts of a request are.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The chain in the Descriptor Area.
    pub table: Vec<u16>,
    /// Address and length of the indirect table, if there is one.
    pub indirect: Option<(u64, u32)>,
    /// The buffers: what each is for, its address and its length.
    pub buffers: Vec<(Role, u64, u64)>,
}

impl Areas {
    /// The areas of `queue` at this moment; what is not RAM reads as 0.
    #[must_use]
    pub fn read(memory: &GuestMemoryMmap, queue: &Queue) -> Self {
        let area = |address, len: u64| {
            let mut bytes = vec![0; len as usize];
            // Partly at least: the device has put the queue into use, so that all of it is RAM.
            let _ = memory.read_slice(&mut bytes, GuestAddress(address));
            bytes
        };
        Self {
            size: queue.size,
            desc: area(queue.descriptor_area, desc_table_size(queue.size)),
            avail: area(queue.driver_area, avail_ring_size(queue.size)),
            used: area(queue.device_area, used_ring_size(queue.size)),
        }
    }

    /// `avail.idx`.
    #[must_use]
    pub fn avail_idx(&self) -> u16 {
        number(&self.avail, RING_IDX)
    }

    /// `avail.flags`.
    #[must_use]
    pub fn avail_flags(&self) -> u16 {
        number(&self.avail, RING_FLAGS)
    }

    /// `used_event`.
    #[must_use]
    pub fn used_event(&self) -> u16 {
        number(&self.avail, used_event(self.size))
    }

    /// `used.idx`.
    #[must_use]
    pub fn used_idx(&self) -> u16 {
        number(&self.used, RING_IDX)
    }

    /// `used.flags`.
    #[must_use]
    pub fn used_flags(&self) -> u16 {
        number(&self.used, RING_FLAGS)
    }

    /// `avail_event`.
    #[must_use]
    pub fn avail_event(&self) -> u16 {
        number(&self.used, avail_event(self.size))
    }

    /// The entry of the available ring in this slot.
    #[must_use]
    pub fn available(&self, slot: u16) -> u16 {
        number(
            &self.avail,
            RING_ENTRIES + AVAIL_ELEM_SIZE * u64::from(slot),
        )
    }

    /// Head and length in this slot of the used ring.
    #[must_use]
    pub fn used(&self, slot: u16) -> (u32, u32) {
        let at = RING_ENTRIES + USED_ELEM_SIZE * u64::from(slot);
        (wide_number(&self.used, at), wide_number(&self.used, at + 4))
    }

    /// These areas with what `other` has of the available ring.
    #[must_use]
    pub fn with_available_of(&self, other: &Self) -> Self {
        Self {
            avail: other.avail.clone(),
            ..self.clone()
        }
    }

    /// These areas with `idx` in `avail.idx`.
    #[must_use]
    pub fn with_available_index(&self, idx: u16) -> Self {
        let mut areas = self.clone();
        let place = areas.avail.get_mut(RING_IDX as usize..);
        if let Some(place) = place.and_then(|rest| rest.first_chunk_mut()) {
            *place = idx.to_le_bytes();
        }
        areas
    }

    /// The slot of a running index.
    #[must_use]
    pub fn slot(&self, index: u16) -> u16 {
        index % self.size.max(1)
    }

    /// The descriptor of this index.
    #[must_use]
    pub fn descriptor(&self, index: u16) -> Descriptor {
        descriptor(&self.desc, index)
    }

    /// The chain from `head` in the Descriptor Area, as far as it is one, in its order.
    #[must_use]
    pub fn chain(&self, head: u16) -> Vec<u16> {
        let mut chain = Vec::new();
        let mut index = head;
        while index < self.size && chain.len() < usize::from(self.size) {
            chain.push(index);
            let descriptor = self.descriptor(index);
            if !descriptor.flags.contains(DescFlags::NEXT) {
                break;
            }
            index = descriptor.next;
        }
        chain
    }

    /// What a reader sees of the areas, and of the buffers as they are now.
    #[must_use]
    pub fn show(&self, memory: &GuestMemoryMmap, parts: &Parts) -> Snapshot {
        let all: Vec<u16> = (0..self.size).collect();
        let around = |index: u16| -> Vec<u16> {
            if self.size <= WHOLE {
                return all.clone();
            }
            let start = index.wrapping_sub(AROUND / 2);
            let mut slots: Vec<u16> = (0..AROUND)
                .map(|i| self.slot(start.wrapping_add(i)))
                .collect();
            slots.sort_unstable();
            slots
        };
        let mut indices = parts.table.clone();
        if self.size <= WHOLE {
            indices = all.clone();
        }
        let used = |slot: u16| {
            let (id, len) = self.used(slot);
            UsedEntry { slot, id, len }
        };
        Snapshot {
            descriptors: indices
                .into_iter()
                .map(|index| entry(&self.desc, index))
                .collect(),
            indirect: parts
                .indirect
                .map(|(address, len)| indirect_table(memory, address, len)),
            available: AvailableRing {
                flags: self.avail_flags(),
                idx: self.avail_idx(),
                entries: around(self.avail_idx())
                    .into_iter()
                    .map(|slot| AvailableEntry {
                        slot,
                        head: self.available(slot),
                    })
                    .collect(),
                used_event: self.used_event(),
            },
            used: UsedRing {
                flags: self.used_flags(),
                idx: self.used_idx(),
                entries: around(self.used_idx()).into_iter().map(used).collect(),
                avail_event: self.avail_event(),
            },
            buffers: parts
                .buffers
                .iter()
                .map(|&(role, address, len)| buffer(memory, role, address, len))
                .collect(),
        }
    }

    /// The chain from `head` as a reader sees it.
    #[must_use]
    pub fn table_entries(&self, chain: &[u16]) -> Vec<TableEntry> {
        chain
            .iter()
            .map(|&index| entry(&self.desc, index))
            .collect()
    }
}

/// The indirect table of `len` bytes at `address`, or the beginning of one that is long.
#[must_use]
pub fn indirect_table(memory: &GuestMemoryMmap, address: u64, len: u32) -> IndirectTable {
    let count = u16::try_from(u64::from(len) / DESC_SIZE).unwrap_or(u16::MAX);
    let shown = count.min(WHOLE);
    let mut bytes = vec![0; usize::from(shown) * DESC_SIZE as usize];
    let read = memory.read_slice(&mut bytes, GuestAddress(address));
    IndirectTable {
        address,
        entries: match read {
            Ok(()) => (0..shown).map(|index| entry(&bytes, index)).collect(),
            Err(_) => Vec::new(),
        },
        len: count.into(),
    }
}

/// A descriptor as a reader sees it.
#[must_use]
pub fn show_descriptor(descriptor: &Descriptor) -> story::Descriptor {
    let Descriptor {
        addr,
        len,
        flags,
        next,
    } = *descriptor;
    story::Descriptor {
        addr,
        len,
        flags: flags.bits(),
        flag_names: flags
            .iter_names()
            .map(|(name, _)| name.to_owned())
            .collect(),
        next,
    }
}

fn entry(table: &[u8], index: u16) -> TableEntry {
    TableEntry {
        index,
        descriptor: show_descriptor(&descriptor(table, index)),
    }
}

fn buffer(memory: &GuestMemoryMmap, role: Role, address: u64, len: u64) -> Buffer {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX).min(BYTES_SHOWN)];
    if memory
        .read_slice(&mut bytes, GuestAddress(address))
        .is_err()
    {
        bytes.clear();
    }
    Buffer {
        role,
        address,
        len,
        bytes,
    }
}

fn descriptor(table: &[u8], index: u16) -> Descriptor {
    let at = usize::from(index) * DESC_SIZE as usize;
    let bytes = table.get(at..).and_then(|rest| rest.first_chunk());
    bytes
        .copied()
        .map(Descriptor::from_bytes)
        .unwrap_or_default()
}

fn number(area: &[u8], offset: u64) -> u16 {
    let bytes = area
        .get(offset as usize..)
        .and_then(|rest| rest.first_chunk());
    bytes.copied().map(u16::from_le_bytes).unwrap_or_default()
}

fn wide_number(area: &[u8], offset: u64) -> u32 {
    let bytes = area
        .get(offset as usize..)
        .and_then(|rest| rest.first_chunk());
    bytes.copied().map(u32::from_le_bytes).unwrap_or_default()
}

#[cfg(test)]
#[path = "areas_tests.rs"]
mod tests;
