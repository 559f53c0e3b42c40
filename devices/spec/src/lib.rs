//! The contract that the device and the driver are both compiled against: the virtio-mmio
//! registers, the split virtqueue, the virtio-blk requests and the board. Layouts, numbers and
//! arithmetic only: nothing here touches memory or hardware.
//!
//! Section numbers are those of the VIRTIO specification, version 1.2 and later.

#![no_std]

/// An enum of numbers, and the list of all its values: each is written once.
macro_rules! listed {
    (
        $(#[$of_all:meta])*
        pub enum $name:ident {
            $($(#[$of_one:meta])* $value:ident = $number:literal,)+
        }
    ) => {
        $(#[$of_all])*
        pub enum $name {
            $($(#[$of_one])* $value = $number,)+
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: [Self; [$($number),+].len()] = [$(Self::$value),+];
        }
    };
}

pub mod bench;
pub mod block;
pub mod board;
pub mod explain;
pub mod features;
pub mod journal;
pub mod mmio;
pub mod queue;
pub mod rng;

pub use features::Features;
