//! The device's end of a split virtqueue (section 2.7), and the drains that serve it: at most as
//! many chains as the queue is long, and little more than 64 MiB, before the guest goes on.

use std::collections::{HashSet, VecDeque};

use spec::Features;
use spec::queue::{DescFlags, Descriptor};

use super::disk::{Answer, Disk};
use super::ram::Ram;

/// After how many bytes a drain ends.
const SHARE: u64 = 64 << 20;
const HALF_TURN: u16 = 0x8000;

/// A live queue.
#[derive(Clone, Debug)]
pub struct Queue {
    pub size: u16,
    pub desc: u64,
    pub avail: u64,
    pub used: u64,
    pub features: Features,
    pub next_avail: u16,
    pub next_used: u16,
    /// `next_used` when the driver was last told, or did not want to be.
    told: u16,
    /// What has been taken from the available ring and not been served.
    taken: VecDeque<u16>,
    in_flight: HashSet<u16>,
    /// Whether DEVICE_NEEDS_RESET is set.
    pub needs_reset: bool,
    /// InterruptStatus.
    pub interrupt_status: u32,
    /// How many interrupts there have been.
    pub interrupts: u64,
}

impl Queue {
    /// A queue with its areas there.
    pub fn new(size: u16, [desc, avail, used]: [u64; 3], features: Features) -> Self {
        Self {
            size,
            desc,
            avail,
            used,
            features,
            next_avail: 0,
            next_used: 0,
            told: 0,
            taken: VecDeque::new(),
            in_flight: HashSet::new(),
            needs_reset: false,
            interrupt_status: 0,
            interrupts: 0,
        }
    }

    /// One drain by whoever notifies; whether there is more to do.
    pub fn drain(&mut self, ram: &mut Ram, disk: &mut Disk) -> bool {
        if self.needs_reset {
            return false;
        }
        self.ask_not_to_notify(ram);
        let more = self.serve(ram, disk);
        if self.wants_interrupt(ram) {
            self.interrupt(1);
        }
        let Some(more) = more else {
            self.needs_reset = true;
            self.interrupt(2);
            return false;
        };
        if more {
            return true;
        }
        self.ask_to_notify(ram);
        ram.field(self.avail + 2) != self.next_avail
    }

    /// Serves what is in the queue, and returns whether the share is spent; `None` where the
    /// available ring makes no sense.
    fn serve(&mut self, ram: &mut Ram, disk: &mut Disk) -> Option<bool> {
        let (mut chains, mut share) = (self.size, 0);
        while chains > 0 && share < SHARE {
            let Some(head) = self.taken.pop_front() else {
                let ahead = ram.field(self.avail + 2).wrapping_sub(self.next_avail);
                if ahead > self.size {
                    return None;
                }
                if ahead == 0 {
                    return Some(false);
                }
                for _ in 0..ahead.min(chains) {
                    chains -= self.take(ram);
                }
                continue;
            };
            chains -= 1;
            let answer = match self.chain(ram, head) {
                Some(chain) => disk.answer(ram, &chain),
                None => Answer::default(),
            };
            share += answer.share;
            self.add_used(ram, head, answer.written);
        }
        Some(true)
    }

    /// Takes an entry from the available ring; returns 1 if it is refused.
    fn take(&mut self, ram: &mut Ram) -> u16 {
        let entry = u64::from(self.next_avail % self.size);
        let head = ram.field(self.avail + 4 + 2 * entry);
        self.next_avail = self.next_avail.wrapping_add(1);
        if head < self.size && self.in_flight.insert(head) {
            self.taken.push_back(head);
            0
        } else {
            1
        }
    }

    /// The descriptors of the chain from `head`, if it is one.
    fn chain(&self, ram: &mut Ram, head: u16) -> Option<Vec<Descriptor>> {
        let indirect = self.features.contains(Features::VIRTIO_F_INDIRECT_DESC);
        let mut chain = Vec::new();
        let (mut table, mut entries, mut nested) = (self.desc, self.size, false);
        let mut index = head;
        loop {
            if index >= entries {
                return None;
            }
            let descriptor = ram.descriptor(table + 16 * u64::from(index));
            let Descriptor {
                addr,
                len,
                flags,
                next,
            } = descriptor;
            if flags.contains(DescFlags::INDIRECT) {
                let sound = indirect
                    && !nested
                    && !flags.contains(DescFlags::NEXT)
                    && len > 0
                    && len % 16 == 0
                    && len / 16 <= u32::from(self.size)
                    && Ram::holds_in_one_region(addr, len.into());
                if !sound {
                    return None;
                }
                (table, entries, nested, index) = (addr, (len / 16) as u16, true, 0);
                continue;
            }
            if chain.len() == usize::from(self.size) {
                return None;
            }
            chain.push(descriptor);
            if !flags.contains(DescFlags::NEXT) {
                return Some(chain);
            }
            index = next;
        }
    }

    fn add_used(&mut self, ram: &mut Ram, head: u16, len: u32) {
        let entry = self.used + 4 + 8 * u64::from(self.next_used % self.size);
        ram.write(entry, &u32::from(head).to_le_bytes());
        ram.write(entry + 4, &len.to_le_bytes());
        self.next_used = self.next_used.wrapping_add(1);
        ram.write(self.used + 2, &self.next_used.to_le_bytes());
        self.in_flight.remove(&head);
    }

    fn has_event_idx(&self) -> bool {
        self.features.contains(Features::VIRTIO_F_EVENT_IDX)
    }

    /// By half a turn of the index, or a flag.
    fn ask_not_to_notify(&self, ram: &mut Ram) {
        if self.has_event_idx() {
            self.write_avail_event(ram, self.next_avail.wrapping_add(HALF_TURN));
        } else {
            ram.write(self.used, &1_u16.to_le_bytes());
        }
    }

    fn ask_to_notify(&self, ram: &mut Ram) {
        if self.has_event_idx() {
            self.write_avail_event(ram, self.next_avail);
        } else {
            ram.write(self.used, &0_u16.to_le_bytes());
        }
    }

    fn write_avail_event(&self, ram: &mut Ram, event: u16) {
        ram.write(
            self.used + 4 + 8 * u64::from(self.size),
            &event.to_le_bytes(),
        );
    }

    fn wants_interrupt(&mut self, ram: &mut Ram) -> bool {
        let (new, old) = (self.next_used, self.told);
        self.told = new;
        if new == old {
            return false;
        }
        if self.has_event_idx() {
            let event = ram.field(self.avail + 4 + 2 * u64::from(self.size));
            // Whether the index passed from `event` to the one after it, as it went up by ones.
            let mut passed = (0..new.wrapping_sub(old)).map(|n| old.wrapping_add(n));
            passed.any(|index| index == event)
        } else {
            ram.field(self.avail) & 1 == 0
        }
    }

    fn interrupt(&mut self, event: u32) {
        self.interrupt_status |= event;
        self.interrupts += 1;
    }
}
