//! The guest: a virtio-blk driver and the workloads that put it to use. This is the part that
//! needs no machine: it runs on bare metal, where `main.rs` boots it, and on the host, where its
//! driver and our device are tested against each other. Nothing here may touch hardware.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod cmdline;
pub mod dma;
pub mod hexdump;
pub mod rng;
pub mod virtio;
pub mod workloads;
