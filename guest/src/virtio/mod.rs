//! The driver's side of VIRTIO, from the bottom: the transport carries registers and interrupts,
//! the virtqueue carries buffers, the block driver makes requests of them.

mod areas;
pub mod block;
mod bring_up;
mod buffer;
pub mod error;
mod execute;
mod frames;
pub mod queue;
pub mod raw;
pub mod transport;

pub use block::Block;
pub use bring_up::{ClearLimits, Info, Options};
pub(crate) use buffer::descriptor;
pub use error::Error;
pub use execute::put_segments;
pub use queue::VirtQueue;
pub use transport::{Transport, Width};
