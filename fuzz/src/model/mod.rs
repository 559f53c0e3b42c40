//! What a virtio-blk device must do, written from the specification and from what the project
//! promises on top, on plain bytes: the device is compared with it, bit by bit.

pub mod disk;
pub mod queue;
pub mod ram;
pub mod registers;
pub mod request;
