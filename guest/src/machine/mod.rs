//! The bare machine: how the image is entered, what the CPU and the board need to be told, and
//! how it ends. Nothing of VIRTIO: that is the library's.

pub mod boot;
pub mod exit;
mod mem;
mod port;
pub mod serial;
