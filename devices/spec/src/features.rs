//! Feature bits, by the names that the specification gives them (sections 5.2.3 and 6).

use bitflags::bitflags;

bitflags! {
    /// What a device offers and a driver accepts.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Features: u64 {
        /// Maximum size of any single segment is in `size_max`.
        const VIRTIO_BLK_F_SIZE_MAX = 1 << 1;
        /// Maximum number of segments in a request is in `seg_max`.
        const VIRTIO_BLK_F_SEG_MAX = 1 << 2;
        /// Disk-style geometry is in `geometry`.
        const VIRTIO_BLK_F_GEOMETRY = 1 << 4;
        /// The device is read-only.
        const VIRTIO_BLK_F_RO = 1 << 5;
        /// Block size of the disk is in `blk_size`.
        const VIRTIO_BLK_F_BLK_SIZE = 1 << 6;
        /// The device accepts flush requests.
        const VIRTIO_BLK_F_FLUSH = 1 << 9;
        /// Optimal I/O alignment is in `topology`.
        const VIRTIO_BLK_F_TOPOLOGY = 1 << 10;
        /// The device can switch its cache between writeback and writethrough.
        const VIRTIO_BLK_F_CONFIG_WCE = 1 << 11;
        /// The device has `num_queues` request queues.
        const VIRTIO_BLK_F_MQ = 1 << 12;
        /// The device accepts discard requests.
        const VIRTIO_BLK_F_DISCARD = 1 << 13;
        /// The device accepts write-zeroes requests.
        const VIRTIO_BLK_F_WRITE_ZEROES = 1 << 14;
        /// The device reports its lifetime.
        const VIRTIO_BLK_F_LIFETIME = 1 << 15;
        /// The device accepts secure-erase requests.
        const VIRTIO_BLK_F_SECURE_ERASE = 1 << 16;

        /// A descriptor may point to a table of further descriptors.
        const VIRTIO_F_INDIRECT_DESC = 1 << 28;
        /// `used_event` and `avail_event` tell when the other side wants to be notified.
        const VIRTIO_F_EVENT_IDX = 1 << 29;
        /// The device complies with version 1 of the specification or later.
        const VIRTIO_F_VERSION_1 = 1 << 32;
        /// The device's memory accesses go through an IOMMU or are otherwise limited.
        const VIRTIO_F_ACCESS_PLATFORM = 1 << 33;
        /// The packed virtqueue layout.
        const VIRTIO_F_RING_PACKED = 1 << 34;
        /// Buffers are used in the order in which they were made available.
        const VIRTIO_F_IN_ORDER = 1 << 35;
        /// Memory accesses are ordered as the platform orders those of hardware.
        const VIRTIO_F_ORDER_PLATFORM = 1 << 36;
        /// A single queue can be reset.
        const VIRTIO_F_RING_RESET = 1 << 40;
    }
}

impl Features {
    /// The 32 bits that the registers DeviceFeatures and DriverFeatures show of these features
    /// for the value `sel` of their selector; 0 for a selector beyond the 64 bits there are.
    #[must_use]
    pub const fn word(self, sel: u32) -> u32 {
        match sel {
            0 => self.bits() as u32,
            1 => (self.bits() >> 32) as u32,
            _ => 0,
        }
    }
}
