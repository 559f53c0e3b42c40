//! The driver's side of VIRTIO, from the bottom: the transport carries registers and interrupts,
//! the virtqueue carries buffers, the block driver makes requests of them: one CPU by one queue.

mod areas;
pub mod block;
mod bring_up;
mod buffer;
mod completion;
pub mod error;
mod execute;
mod frames;
pub mod queue;
mod queues;
pub mod raw;
mod requests;
pub mod transport;

pub use block::Block;
pub use bring_up::{ClearLimits, Info, Options};
pub(crate) use buffer::descriptor;
pub use error::Error;
pub use execute::put_segments;
pub use queue::VirtQueue;
pub use queues::{MAX_QUEUES, Queues};
pub use transport::{Transport, Width};
