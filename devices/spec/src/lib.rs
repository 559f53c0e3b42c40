//! The contract that the device and the driver are both compiled against: the virtio-mmio
//! registers, the split virtqueue, the virtio-blk requests and the board. Layouts, numbers and
//! arithmetic only: nothing here touches memory or hardware.
//!
//! Section numbers are those of the VIRTIO specification, version 1.2 and later.

#![no_std]

pub mod bench;
pub mod block;
pub mod board;
pub mod features;
pub mod mmio;
pub mod queue;
pub mod rng;

pub use features::Features;
