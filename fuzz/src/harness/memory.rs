//! What a guest that has registers for memory writes there: done to the device at its next exit, if it
//! means anything, and else gone.

use std::ops::Range;

use spec::block::config::WRITEBACK;
use spec::mmio::{CONFIG_OFFSET, InterruptStatus, Register};

use super::Harness;
use crate::window::REACHED;

/// What of the second page means something when it is written.
const MEANINGFUL: [Range<u64>; 3] = [
    0x60..0x68,
    0x70..0x74,
    CONFIG_OFFSET + WRITEBACK..CONFIG_OFFSET + WRITEBACK + 1,
];

impl Harness {
    /// Whether the guest writes to the second page in memory.
    pub(super) fn is_open(&self) -> bool {
        self.window.as_ref().is_some_and(|window| window.is_open())
    }

    /// Writes at `offset`, if that is a store to memory, and returns whether it is.
    pub(super) fn store(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let Some(window) = &self.window else {
            return false;
        };
        let is_store = window.write(offset, bytes);
        if is_store && let Ok(bytes) = bytes.try_into() {
            let value = u32::from_le_bytes(bytes);
            match Register::at(offset) {
                Some(Register::InterruptACK) => self.stored_ack = value,
                // What it says of a used buffer is believed.
                Some(Register::InterruptStatus) => {
                    self.pending = value & InterruptStatus::USED_BUFFER.bits();
                }
                _ => {}
            }
        }
        is_store
    }

    /// The device learns of what has been acknowledged.
    pub(super) fn exit(&mut self) {
        self.pending &= !std::mem::take(&mut self.stored_ack);
    }

    /// Has the device learn of all that is in memory: a write that exits, and would have it serve the queue
    /// that is used if the device were not as new.
    pub(super) fn catch_up(&mut self) {
        self.write(Register::QueueNotify, self.chosen as u32);
    }

    /// Writes to Status in memory, where the guest can: bits that are taken away are a reset.
    pub fn store_status(&mut self, value: u32) {
        if !self.is_open() {
            return;
        }
        // What there is of another may not be known yet.
        self.write(Register::DeviceFeaturesSel, 0);
        let before = self.read(Register::Status);
        self.write(Register::Status, value);
        if before & !value == 0 {
            return self.notify();
        }
        self.forget_queues();
        self.catch_up();
        let left = match value & 131 {
            left @ (0 | 1 | 3 | 128 | 129 | 131) => left,
            _ => 0,
        };
        assert_eq!(self.read(Register::Status), left, "after {value:#x}");
        self.assert_as_modelled();
    }

    /// Writes to what means nothing in memory, where the guest can: it is gone at the next exit.
    pub fn scribble(&mut self, offset: u64, bytes: &[u8]) {
        let second = Register::InterruptStatus.offset();
        let offset = second + offset % (REACHED - 8 - second);
        let means_something = (offset..).zip(bytes).any(|(offset, _)| {
            let mut meaningful = MEANINGFUL.iter();
            meaningful.any(|range| range.contains(&offset))
        });
        if !self.is_open() || means_something {
            return;
        }
        self.write(Register::DeviceFeaturesSel, 0);
        let before = self.contents();
        self.store(offset, bytes);
        self.write(Register::DeviceFeaturesSel, 0);
        assert_eq!(self.contents(), before, "{bytes:?} at {offset:#x} are left");
        assert!(self.is_open());
    }

    /// What the device has in the window.
    fn contents(&self) -> Vec<u8> {
        let mut contents = vec![0; CONFIG_OFFSET as usize + spec::block::config::SIZE];
        self.page.read(0, &mut contents);
        contents
    }
}
