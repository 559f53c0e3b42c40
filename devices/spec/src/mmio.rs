//! The virtio-mmio register file, version 2 (section 4.2.2), and the device status field
//! (section 2.1).

use bitflags::bitflags;

/// What `MagicValue` reads: "virt" in ASCII, little endian.
pub const MAGIC: u32 = u32::from_le_bytes(*b"virt");
/// What `Version` reads on a device that is not a legacy one.
pub const VERSION: u32 = 2;
/// Offset of the device's configuration space in the register window.
pub const CONFIG_OFFSET: u64 = 0x100;
/// Device type of a block device (section 5).
pub const DEVICE_ID_BLOCK: u32 = 2;

listed! {
    /// A register, by its offset from the start of the window. Each is 32 bits wide.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[repr(u16)]
    pub enum Register {
        /// R: [`MAGIC`].
        MagicValue = 0x000,
        /// R: [`VERSION`].
        Version = 0x004,
        /// R: the device type, 0 where there is no device.
        DeviceID = 0x008,
        /// R: the vendor.
        VendorID = 0x00c,
        /// R: the 32 offered feature bits that `DeviceFeaturesSel` selects.
        DeviceFeatures = 0x010,
        /// W: which 32 bits `DeviceFeatures` shows.
        DeviceFeaturesSel = 0x014,
        /// W: the 32 accepted feature bits that `DriverFeaturesSel` selects.
        DriverFeatures = 0x020,
        /// W: which 32 bits `DriverFeatures` sets.
        DriverFeaturesSel = 0x024,
        /// W: which queue the `Queue` registers speak of.
        QueueSel = 0x030,
        /// R: the largest size that the queue may have, 0 where there is no such queue.
        QueueNumMax = 0x034,
        /// W: the queue's size, in descriptors.
        QueueNum = 0x038,
        /// RW: whether the queue is in use.
        QueueReady = 0x044,
        /// W: the index of the queue that has new available buffers.
        QueueNotify = 0x050,
        /// R: why the device interrupts, see [`InterruptStatus`].
        InterruptStatus = 0x060,
        /// W: the bits of `InterruptStatus` that have been handled.
        InterruptACK = 0x064,
        /// RW: the device status, see [`DeviceStatus`]; writing 0 resets the device.
        Status = 0x070,
        /// W: guest-physical address of the Descriptor Area, bits 0 to 31.
        QueueDescLow = 0x080,
        /// W: guest-physical address of the Descriptor Area, bits 32 to 63.
        QueueDescHigh = 0x084,
        /// W: guest-physical address of the Driver Area, bits 0 to 31.
        QueueDriverLow = 0x090,
        /// W: guest-physical address of the Driver Area, bits 32 to 63.
        QueueDriverHigh = 0x094,
        /// W: guest-physical address of the Device Area, bits 0 to 31.
        QueueDeviceLow = 0x0a0,
        /// W: guest-physical address of the Device Area, bits 32 to 63.
        QueueDeviceHigh = 0x0a4,
        /// W: which shared memory region the `SHM` registers speak of.
        SHMSel = 0x0ac,
        /// R: length of the shared memory region, bits 0 to 31; all ones where there is none.
        SHMLenLow = 0x0b0,
        /// R: length of the shared memory region, bits 32 to 63.
        SHMLenHigh = 0x0b4,
        /// R: address of the shared memory region, bits 0 to 31.
        SHMBaseLow = 0x0b8,
        /// R: address of the shared memory region, bits 32 to 63.
        SHMBaseHigh = 0x0bc,
        /// RW: resets one queue, where VIRTIO_F_RING_RESET was negotiated.
        QueueReset = 0x0c0,
        /// R: changes whenever the configuration space may have changed.
        ConfigGeneration = 0x0fc,
    }
}

impl Register {
    /// The register at `offset` from the start of the window, if there is one.
    #[must_use]
    pub fn at(offset: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.offset() == offset)
    }

    /// Whether a driver may read it. The others are only to be written.
    #[must_use]
    pub const fn is_readable(self) -> bool {
        !matches!(
            self,
            Self::DeviceFeaturesSel
                | Self::DriverFeatures
                | Self::DriverFeaturesSel
                | Self::QueueSel
                | Self::QueueNum
                | Self::QueueNotify
                | Self::InterruptACK
                | Self::QueueDescLow
                | Self::QueueDescHigh
                | Self::QueueDriverLow
                | Self::QueueDriverHigh
                | Self::QueueDeviceLow
                | Self::QueueDeviceHigh
                | Self::SHMSel
        )
    }

    /// Offset from the start of the window, in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self as u64
    }
}

bitflags! {
    /// How far the driver has come in setting up the device (section 2.1).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct DeviceStatus: u32 {
        /// The guest has noticed the device.
        const ACKNOWLEDGE = 1;
        /// The guest knows how to drive the device.
        const DRIVER = 2;
        /// The driver is ready.
        const DRIVER_OK = 4;
        /// Feature negotiation is complete.
        const FEATURES_OK = 8;
        /// The device has met an error from which only a reset recovers.
        const DEVICE_NEEDS_RESET = 64;
        /// The driver has given up on the device.
        const FAILED = 128;
    }

    /// Why the device interrupts (section 4.2.2.1).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct InterruptStatus: u32 {
        /// The device has used a buffer in at least one virtqueue.
        const USED_BUFFER = 1;
        /// The configuration of the device has changed.
        const CONFIG_CHANGE = 2;
    }
}
