//! What can go wrong between the driver and the device.

use core::fmt;

use spec::Features;
use spec::block::status;

use crate::dma::OutOfMemory;

/// Why the driver cannot do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The device is said to be where on this machine no device can be.
    NoWindow,
    /// Where the device should be there is no virtio-mmio transport.
    NoTransport {
        /// What MagicValue reads.
        magic: u32,
    },
    /// The transport is a legacy one, or newer than this driver.
    Version {
        /// What Version reads.
        version: u32,
    },
    /// The device is of another type, or there is none.
    DeviceId {
        /// What DeviceID reads: 0 where there is no device.
        id: u32,
    },
    /// The device does not come to rest after a reset.
    Reset,
    /// The device lacks a feature that this driver cannot do without.
    MissingFeatures(Features),
    /// The device does not agree to the features that the driver accepted.
    FeaturesRefused(Features),
    /// The device has no queue of this index, or has it in use already.
    NoQueue(u16),
    /// The size asked for is no power of two, too small for a request, or more than driver or
    /// device can do.
    QueueSize {
        /// The size asked for.
        size: u16,
        /// The smallest that is of use.
        min: u16,
        /// The largest that there can be.
        max: u16,
    },
    /// The device did not accept the queue.
    QueueRefused(u16),
    /// There is no memory left for the driver.
    OutOfMemory(OutOfMemory),
    /// The queue has no room for the chain now; it will have when others complete.
    QueueFull,
    /// The chain has no buffer, or more than the queue or a request may ever have.
    ChainLength(usize),
    /// A buffer has no bytes, or more than a segment may have.
    SegmentLength(usize),
    /// A request to clear sectors has no segments, or more than it may have.
    Segments(usize),
    /// A segment has more sectors than it may have.
    SegmentSectors(u32),
    /// Nothing is in flight that could be waited for.
    NothingInFlight,
    /// Other requests are in flight where there must be none.
    Busy,
    /// The device moved `used.idx` further than there are chains in flight.
    UsedIndex {
        /// What it reads.
        idx: u16,
        /// What the driver has seen of the used ring.
        seen: u16,
    },
    /// The device returned a chain that is not in flight.
    UsedId(u32),
    /// The device set DEVICE_NEEDS_RESET.
    NeedsReset,
    /// The device does not come to use what has been made available.
    NotUsed,
    /// The device completed a request with this status, which is not OK.
    Status(u8),
    /// It is known that the interrupt which is waited for will not come.
    NoInterrupt,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoWindow => f.write_str("no device can be there on this machine"),
            Self::NoTransport { magic } => {
                write!(f, "no virtio-mmio transport: MagicValue is {magic:#010x}")
            }
            Self::Version { version: 1 } => {
                f.write_str("a legacy device (virtio-mmio version 1); this driver needs version 2")
            }
            Self::Version { version } => {
                write!(
                    f,
                    "virtio-mmio version {version}; this driver needs version 2"
                )
            }
            Self::DeviceId { id: 0 } => f.write_str("no device at this transport"),
            Self::DeviceId { id } => write!(f, "not a block device: device ID {id}"),
            Self::Reset => f.write_str("the device does not complete its reset"),
            Self::MissingFeatures(missing) => {
                f.write_str("the device does not offer")?;
                missing
                    .iter_names()
                    .try_for_each(|(name, _)| write!(f, " {name}"))
            }
            Self::FeaturesRefused(accepted) => {
                f.write_str("the device cleared FEATURES_OK for")?;
                accepted
                    .iter_names()
                    .try_for_each(|(name, _)| write!(f, " {name}"))
            }
            Self::NoQueue(index) => write!(f, "the device has no queue {index} to set up"),
            Self::QueueSize { size, min, max } => write!(
                f,
                "queue size {size} is not a power of two from {min} to {max}"
            ),
            Self::QueueRefused(index) => write!(f, "the device did not accept queue {index}"),
            Self::OutOfMemory(error) => error.fmt(f),
            Self::QueueFull => f.write_str("the queue is full"),
            Self::ChainLength(len) => {
                write!(f, "a chain of {len} buffers cannot be made available")
            }
            Self::SegmentLength(len) => write!(f, "a segment of {len} bytes is not allowed"),
            Self::Segments(count) => write!(f, "a request of {count} segments is not allowed"),
            Self::SegmentSectors(count) => {
                write!(f, "a segment of {count} sectors is not allowed")
            }
            Self::NothingInFlight => f.write_str("no request is in flight"),
            Self::Busy => f.write_str("other requests are in flight"),
            Self::UsedIndex { idx, seen } => {
                write!(
                    f,
                    "the device moved used.idx from {seen} to {idx}, past what is in flight"
                )
            }
            Self::UsedId(id) => write!(f, "the device returned chain {id}, which is not in flight"),
            Self::NotUsed => f.write_str("the device does not use what has been made available"),
            Self::NeedsReset => f.write_str("the device has set DEVICE_NEEDS_RESET"),
            Self::Status(status::IOERR) => f.write_str("status IOERR"),
            Self::Status(status::UNSUPP) => f.write_str("status UNSUPP"),
            Self::Status(status) => write!(f, "the device wrote no valid status: {status:#04x}"),
            Self::NoInterrupt => f.write_str("the interrupt that is waited for cannot come"),
        }
    }
}

impl core::error::Error for Error {}

impl From<OutOfMemory> for Error {
    fn from(error: OutOfMemory) -> Self {
        Self::OutOfMemory(error)
    }
}
