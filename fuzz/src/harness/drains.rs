//! What a device makes of its queues: after each drain all that a guest can see of it is what the model
//! says, and so is the disk; and it goes on.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use devices::Response;
use spec::Features;
use spec::block::{RequestHeader, request_type, status};
use spec::mmio::Register;
use spec::queue::{DescFlags, Descriptor, RING_IDX, avail_event};
use vm_memory::{Bytes, GuestAddress};

use super::{Harness, Lane};
use crate::model::ram::Ram;
use crate::parts::SECTORS;
use crate::ram;

/// More drains than it takes to serve a full queue, in shares of 16 flushes.
const DRAINS_MAX: u32 = 100;
/// The longest that a thread is waited for.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a thread is left alone before it is looked after.
const TURN: Duration = Duration::from_micros(20);

impl Harness {
    /// Notifies the device of the queue that is used, and goes on until all that is in it has been
    /// served.
    pub fn notify(&mut self) {
        self.drain(Register::QueueNotify, self.chosen as u32);
    }

    /// Writes `value` to a register that leads to drains: of the queue that is used, or of all.
    pub(super) fn drain(&mut self, register: Register, value: u32) {
        if self.has_thread() {
            match register {
                Register::QueueNotify => self.kicks[self.chosen].write(1).unwrap(),
                _ => self.write(register, value),
            }
            return self.wait_for_threads();
        }
        for _ in 0..DRAINS_MAX {
            let response = self.try_write(register, value);
            let more = match register {
                Register::QueueNotify => self.drain_model(self.chosen),
                _ => self.drain_models(),
            };
            match response {
                Response::Done => assert!(!more, "a drain ended too early"),
                Response::Again => assert!(more, "a drain has no end"),
                other => panic!("{other:?}"),
            }
            self.assert_as_modelled();
            if !more {
                return;
            }
        }
        // A buffer over the available ring can make it look ever new.
        self.reset();
    }

    /// One drain of a queue of the model; whether there is more to do.
    fn drain_model(&mut self, index: usize) -> bool {
        let Some(queue) = &mut self.lanes[index].queue else {
            return false;
        };
        let before = queue.interrupts;
        let more = queue.drain(&mut self.ram, &mut self.disk);
        self.interrupts += queue.interrupts - before;
        self.pending |= std::mem::take(&mut queue.interrupt_status);
        self.needs_reset |= queue.needs_reset;
        more
    }

    /// One drain of each, one after the other; whether there is more to do in any.
    fn drain_models(&mut self) -> bool {
        let queues = 0..self.lanes.len();
        queues.fold(false, |more, index| self.drain_model(index) | more)
    }

    /// Has the model serve all that is in the queues, and waits until the device has.
    fn wait_for_threads(&mut self) {
        let mut drains = 0;
        while self.drain_models() {
            drains += 1;
            if drains == DRAINS_MAX {
                return self.reset_thread();
            }
        }
        let start = Instant::now();
        while !self.has_caught_up() {
            assert!(start.elapsed() < LIMIT, "the device serves no more");
            thread::sleep(TURN);
        }
        self.assert_as_modelled();
    }

    /// Whether the device has served what the model has.
    fn has_caught_up(&mut self) -> bool {
        let mut lanes = self.lanes.iter().filter_map(|lane| lane.queue.as_ref());
        let all_used = lanes.all(|queue| self.used_idx(queue.used) == queue.next_used);
        all_used && (self.read(Register::Status) & 64 != 0) == self.needs_reset
    }

    /// Resets the device where it does not matter what it has come to, and goes on from there.
    fn reset_thread(&mut self) {
        self.write(Register::Status, 0);
        self.forget_queues();
        self.ram = Ram::of(&self.memory);
        self.disk.bytes = self.backend.bytes().clone();
    }

    /// Resets the device while its thread, if it has one, may be serving the one chain that was
    /// made available last: it has been served, or it has not. Without a thread it has not.
    pub fn notify_and_reset(&mut self) {
        let Some(queue) = self.queue() else {
            return;
        };
        // A driver of a device without a thread may have written to `used.idx`.
        let Some(kick) = self.kicks.get(self.chosen) else {
            return self.reset();
        };
        let (used, idx) = (queue.used, queue.next_used);
        kick.write(1).unwrap();
        self.write(Register::Status, 0);
        if self.used_idx(used) != idx {
            while self.drain_model(self.chosen) {}
        }
        self.forget_queues();
        self.assert_as_modelled();
    }

    fn used_idx(&self, used: u64) -> u16 {
        self.memory
            .load(GuestAddress(used + RING_IDX), Ordering::SeqCst)
            .unwrap()
    }

    /// Compares the device with the model.
    pub(super) fn assert_as_modelled(&mut self) {
        ram::read(&self.memory, &mut self.found);
        if self.has_thread() {
            // When a thread asks to be notified, and when it interrupts, is its own business.
            for Lane { areas, size, .. } in &self.lanes {
                for wish in [areas[2], areas[2] + avail_event(*size)] {
                    let wish = wish as usize..wish as usize + 2;
                    self.ram.regions[0][wish.clone()].copy_from_slice(&self.found[0][wish]);
                }
            }
        } else {
            assert_eq!(self.edges.count(), self.interrupts, "interrupts");
            let pending = self.read(Register::InterruptStatus);
            assert_eq!(pending, self.pending, "InterruptStatus");
            let needs_reset = self.read(Register::Status) & 64 != 0;
            assert_eq!(needs_reset, self.needs_reset, "NEEDS_RESET");
        }
        let pairs = self.found.iter().zip(&self.ram.regions);
        for ((base, _), (found, expected)) in ram::REGIONS.into_iter().zip(pairs) {
            if found != expected {
                let at = found.iter().zip(expected).position(|(a, b)| a != b);
                let at = at.unwrap();
                let addr = base + at as u64;
                panic!("{:#x} at {addr:#x}, not {:#x}", found[at], expected[at]);
            }
        }
        assert!(
            *self.backend.bytes() == self.disk.bytes,
            "the disk holds something else"
        );
    }

    // Life

    /// Makes sure that the device serves a read in each queue: without a reset, where that needs none;
    /// and after one.
    pub fn assert_serves(&mut self) {
        // What is still in the queues is not to be overwritten.
        for index in 0..self.lanes.len() {
            self.choose(index);
            self.notify();
        }
        for index in 0..self.lanes.len() {
            self.choose(index);
            let alive = self
                .queue()
                .filter(|queue| !queue.needs_reset && queue.size >= 4);
            if alive.is_some() {
                self.read_a_sector();
            }
        }
        self.reset();
        self.clear_rings(8);
        self.bring_up(
            Features::VIRTIO_F_VERSION_1 | Features::VIRTIO_BLK_F_FLUSH,
            8,
        );
        for index in 0..self.lanes.len() {
            self.choose(index);
            self.read_a_sector();
        }
    }

    fn read_a_sector(&mut self) {
        const HEADER: u64 = 0x2_0000;
        const DATA: u64 = 0x2_0200;
        const STATUS: u64 = 0x2_0400;
        let header = RequestHeader {
            request_type: request_type::IN,
            sector: SECTORS - 1,
        };
        self.poke(HEADER, &header.to_bytes());
        self.poke(STATUS, &[0xaa]);
        let buffers = [
            (HEADER, 16, DescFlags::NEXT),
            (DATA, 512, DescFlags::NEXT | DescFlags::WRITE),
            (STATUS, 1, DescFlags::WRITE),
        ];
        for (index, (addr, len, flags)) in (0..).zip(buffers) {
            let next = index + 1;
            self.descriptor(
                index,
                Descriptor {
                    addr,
                    len,
                    flags,
                    next,
                },
            );
        }
        self.offer(0);
        self.notify();
        let read = self.ram.read(DATA, 512);
        assert_eq!(
            self.ram.read(STATUS, 1),
            [status::OK],
            "the next request is not served"
        );
        assert!(
            read == self.disk.bytes[self.disk.bytes.len() - 512..],
            "not what the disk holds"
        );
    }
}
