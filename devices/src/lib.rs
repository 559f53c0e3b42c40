//! Everything the guest can see, and nothing of KVM: the bus, the serial port, the ports that end
//! a run, and virtio devices over MMIO. What the guest writes is never trusted here.

pub mod bus;
pub mod distribution;
pub mod error;
pub mod exit;
pub mod interrupt;
pub mod locks;
pub mod serial;
pub mod virtio;
mod warn_once;

pub use bus::{Bus, BusDevice, Response};
pub use distribution::Distribution;
pub use error::DeviceError;
