//! What driver and device say to each other in registers, up to where the device is live: kept as it
//! was said, and read as the device reads it. Decides nothing.

use spec::Features;
use spec::mmio::{DeviceStatus, Register};

use super::registers::Selectors;
use super::story::{Access, Direction, Queue};

/// How many accesses are kept: a driver needs some sixty.
const MAX: usize = 1024;

/// The accesses so far.
#[derive(Debug, Default)]
pub struct Negotiation {
    /// In their order.
    pub accesses: Vec<Access>,
    /// How many more there were.
    pub left_out: u64,
    /// What the selectors are.
    pub selectors: Selectors,
    /// What the device has shown of the features that it offers.
    pub offered: u64,
    /// What the driver accepts.
    pub accepted: u64,
    /// The queue as the driver sets it up.
    pub queue: Queue,
    queue_sel: u64,
    ready: bool,
    status: DeviceStatus,
    /// When the first access was.
    begun: u64,
}

impl Negotiation {
    /// The driver has made `access`, at the moment `at`.
    pub fn add(&mut self, mut access: Access, at: u64) {
        self.follow(&access);
        if self.accesses.len() >= MAX {
            self.left_out += 1;
            return;
        }
        if self.accesses.is_empty() {
            self.begun = at;
        }
        access.at_ns = Some(at.saturating_sub(self.begun));
        self.accesses.push(access);
    }

    /// The queue, once the device is live.
    #[must_use]
    pub fn live_queue(&self) -> Option<Queue> {
        let live = self.status.contains(DeviceStatus::DRIVER_OK) && self.ready;
        live.then(|| self.queue.clone())
    }

    /// Whether it came to its end: the device was live.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.live_queue().is_some()
    }

    fn follow(&mut self, access: &Access) {
        let value = access.value;
        let word = |sel: u32| match sel {
            0 => value & 0xffff_ffff,
            1 => value << 32,
            _ => 0,
        };
        let queue = &mut self.queue;
        let of_queue = self.queue_sel == u64::from(queue.index);
        let (low, high) = (value & 0xffff_ffff, value << 32);
        match (Register::at(access.offset), access.direction) {
            (Some(Register::DeviceFeatures), Direction::Read) => {
                self.offered |= word(self.selectors.device_features);
            }
            (_, Direction::Read) | (None, _) => {}
            (Some(Register::DeviceFeaturesSel), _) => self.selectors.device_features = value as u32,
            (Some(Register::DriverFeaturesSel), _) => self.selectors.driver_features = value as u32,
            (Some(Register::DriverFeatures), _) => {
                let mask = match self.selectors.driver_features {
                    0 => 0xffff_ffff,
                    1 => 0xffff_ffff << 32,
                    _ => 0,
                };
                self.accepted = self.accepted & !mask | word(self.selectors.driver_features);
                let accepted = Features::from_bits_retain(self.accepted);
                queue.event_idx = accepted.contains(Features::VIRTIO_F_EVENT_IDX);
                queue.indirect = accepted.contains(Features::VIRTIO_F_INDIRECT_DESC);
            }
            (Some(Register::Status), _) => {
                self.status = DeviceStatus::from_bits_truncate(value as u32);
                if value == 0 {
                    (self.accepted, self.ready) = (0, false);
                    (self.queue, self.queue_sel) = (Queue::default(), 0);
                }
            }
            (Some(Register::QueueSel), _) => self.queue_sel = value,
            (Some(Register::QueueNum), _) if of_queue => queue.size = value as u16,
            (Some(Register::QueueReady), _) if of_queue => self.ready = value == 1,
            (Some(Register::QueueDescLow), _) if of_queue => {
                queue.descriptor_area = queue.descriptor_area & !0xffff_ffff | low;
            }
            (Some(Register::QueueDescHigh), _) if of_queue => {
                queue.descriptor_area = queue.descriptor_area & 0xffff_ffff | high;
            }
            (Some(Register::QueueDriverLow), _) if of_queue => {
                queue.driver_area = queue.driver_area & !0xffff_ffff | low;
            }
            (Some(Register::QueueDriverHigh), _) if of_queue => {
                queue.driver_area = queue.driver_area & 0xffff_ffff | high;
            }
            (Some(Register::QueueDeviceLow), _) if of_queue => {
                queue.device_area = queue.device_area & !0xffff_ffff | low;
            }
            (Some(Register::QueueDeviceHigh), _) if of_queue => {
                queue.device_area = queue.device_area & 0xffff_ffff | high;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "negotiation_tests.rs"]
mod tests;
