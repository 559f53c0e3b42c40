//! What can go wrong between the driver and the device.

use core::fmt::{self, Formatter};

use spec::Features;
use spec::block::status;
use thiserror::Error;

use crate::dma::OutOfMemory;

/// Why the driver cannot do what it was asked.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// The device is said to be where on this machine no device can be.
    #[error("no device can be there on this machine")]
    NoWindow,
    /// Where the device should be there is no virtio-mmio transport.
    #[error("no virtio-mmio transport: MagicValue is {magic:#010x}")]
    NoTransport {
        /// What MagicValue reads.
        magic: u32,
    },
    /// The transport is a legacy one, or newer than this driver.
    #[error(fmt = other_version)]
    Version {
        /// What Version reads.
        version: u32,
    },
    /// The device is of another type, or there is none.
    #[error(fmt = other_device)]
    DeviceId {
        /// What DeviceID reads: 0 where there is no device.
        id: u32,
    },
    /// The device does not come to rest after a reset.
    #[error("the device does not complete its reset")]
    Reset,
    /// The device lacks a feature that this driver cannot do without.
    #[error("the device does not offer{}", Names(*.0))]
    MissingFeatures(Features),
    /// The device does not agree to the features that the driver accepted.
    #[error("the device cleared FEATURES_OK for{}", Names(*.0))]
    FeaturesRefused(Features),
    /// The device has no queue of this index, or has it in use already.
    #[error("the device has no queue {0} to set up")]
    NoQueue(u16),
    /// The size asked for is no power of two, too small for a request, or more than driver or
    /// device can do.
    #[error("queue size {size} is not a power of two from {min} to {max}")]
    QueueSize {
        /// The size asked for.
        size: u16,
        /// The smallest that is of use.
        min: u16,
        /// The largest that there can be.
        max: u16,
    },
    /// The device did not accept the queue.
    #[error("the device did not accept queue {0}")]
    QueueRefused(u16),
    /// There is no memory left for the driver.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The queue has no room for the chain now; it will have when others complete.
    #[error("the queue is full")]
    QueueFull,
    /// The chain has no buffer, or more than the queue or a request may ever have.
    #[error("a chain of {0} buffers cannot be made available")]
    ChainLength(usize),
    /// A buffer has no bytes, or more than a segment may have.
    #[error("a segment of {0} bytes is not allowed")]
    SegmentLength(usize),
    /// A request to clear sectors has no segments, or more than it may have.
    #[error("a request of {0} segments is not allowed")]
    Segments(usize),
    /// A segment has more sectors than it may have.
    #[error("a segment of {0} sectors is not allowed")]
    SegmentSectors(u32),
    /// Nothing is in flight that could be waited for.
    #[error("no request is in flight")]
    NothingInFlight,
    /// Other requests are in flight where there must be none.
    #[error("other requests are in flight")]
    Busy,
    /// The device moved `used.idx` further than there are chains in flight.
    #[error("the device moved used.idx from {seen} to {idx}, past what is in flight")]
    UsedIndex {
        /// What it reads.
        idx: u16,
        /// What the driver has seen of the used ring.
        seen: u16,
    },
    /// The device returned a chain that is not in flight.
    #[error("the device returned chain {0}, which is not in flight")]
    UsedId(u32),
    /// The device set DEVICE_NEEDS_RESET.
    #[error("the device has set DEVICE_NEEDS_RESET")]
    NeedsReset,
    /// The device does not come to use what has been made available.
    #[error("the device does not use what has been made available")]
    NotUsed,
    /// The device completed a request with this status, which is not OK.
    #[error(fmt = other_status)]
    Status(u8),
    /// It is known that the interrupt which is waited for will not come.
    #[error("the interrupt that is waited for cannot come")]
    NoInterrupt,
    /// A CPU that the machine says it has does not start.
    #[error("CPU {0} does not start")]
    NoCpu(usize),
}

fn other_version(version: &u32, f: &mut Formatter<'_>) -> fmt::Result {
    match version {
        1 => f.write_str("a legacy device (virtio-mmio version 1); this driver needs version 2"),
        _ => write!(
            f,
            "virtio-mmio version {version}; this driver needs version 2"
        ),
    }
}

fn other_device(id: &u32, f: &mut Formatter<'_>) -> fmt::Result {
    match id {
        0 => f.write_str("no device at this transport"),
        _ => write!(f, "not a block device: device ID {id}"),
    }
}

fn other_status(status: &u8, f: &mut Formatter<'_>) -> fmt::Result {
    match *status {
        status::IOERR => f.write_str("status IOERR"),
        status::UNSUPP => f.write_str("status UNSUPP"),
        status => write!(f, "the device wrote no valid status: {status:#04x}"),
    }
}

/// Features by their names, each after a space.
struct Names(Features);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut names = self.0.iter_names();
        names.try_for_each(|(name, _)| write!(f, " {name}"))
    }
}
