//! The split virtqueue (section 2.7): descriptor and ring layouts, and the arithmetic of
//! VIRTIO_F_EVENT_IDX. All fields are little endian.

use bitflags::bitflags;

/// The largest size that a queue may have, in descriptors (section 2.7).
pub const MAX_SIZE: u16 = 32768;

/// Size of one descriptor, in bytes.
pub const DESC_SIZE: u64 = 16;
/// Size of one entry of the available ring, in bytes: the head of a descriptor chain.
pub const AVAIL_ELEM_SIZE: u64 = 2;
/// Size of one entry of the used ring, in bytes: head (u32) and length (u32).
pub const USED_ELEM_SIZE: u64 = 8;

/// Alignment of the Descriptor Area, in bytes.
pub const DESC_ALIGN: u64 = 16;
/// Alignment of the Driver Area, in bytes.
pub const AVAIL_ALIGN: u64 = 2;
/// Alignment of the Device Area, in bytes.
pub const USED_ALIGN: u64 = 4;

/// Offset of `flags` in either ring.
pub const RING_FLAGS: u64 = 0;
/// Offset of `idx` in either ring.
pub const RING_IDX: u64 = 2;
/// Offset of the first entry in either ring.
pub const RING_ENTRIES: u64 = 4;

/// In `avail.flags`: the driver does not want used buffer notifications.
pub const AVAIL_F_NO_INTERRUPT: u16 = 1;
/// In `used.flags`: the device does not want available buffer notifications.
pub const USED_F_NO_NOTIFY: u16 = 1;

bitflags! {
    /// What a descriptor's `flags` say of its buffer (section 2.7.5).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct DescFlags: u16 {
        /// The chain goes on with the descriptor `next`.
        const NEXT = 1;
        /// The buffer is device-writable; otherwise it is device-readable.
        const WRITE = 2;
        /// The buffer holds a table of descriptors.
        const INDIRECT = 4;
    }
}

/// `virtq_desc`: one buffer, or the address of a table of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Descriptor {
    /// Guest-physical address of the buffer.
    pub addr: u64,
    /// Length of the buffer, in bytes.
    pub len: u32,
    /// What kind of buffer it is, and whether the chain goes on.
    pub flags: DescFlags,
    /// Index of the next descriptor of the chain, where `flags` has NEXT.
    pub next: u16,
}

impl Descriptor {
    /// The descriptor whose 16 bytes in memory these are. Flag bits that the specification does
    /// not define are kept.
    #[must_use]
    pub const fn from_bytes(b: [u8; DESC_SIZE as usize]) -> Self {
        Self {
            addr: u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            len: u32::from_le_bytes([b[8], b[9], b[10], b[11]]),
            flags: DescFlags::from_bits_retain(u16::from_le_bytes([b[12], b[13]])),
            next: u16::from_le_bytes([b[14], b[15]]),
        }
    }

    /// The 16 bytes that this descriptor is in memory.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; DESC_SIZE as usize] {
        let (a, l) = (self.addr.to_le_bytes(), self.len.to_le_bytes());
        let (f, n) = (self.flags.bits().to_le_bytes(), self.next.to_le_bytes());
        [
            a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], l[0], l[1], l[2], l[3], f[0], f[1],
            n[0], n[1],
        ]
    }
}

/// Size of the Descriptor Area of a queue of `size` descriptors, in bytes.
#[must_use]
pub const fn desc_table_size(size: u16) -> u64 {
    DESC_SIZE * size as u64
}

/// Size of the Driver Area of a queue of `size` descriptors, in bytes: `flags`, `idx`, the ring
/// and `used_event`.
#[must_use]
pub const fn avail_ring_size(size: u16) -> u64 {
    RING_ENTRIES + AVAIL_ELEM_SIZE * size as u64 + 2
}

/// Size of the Device Area of a queue of `size` descriptors, in bytes: `flags`, `idx`, the ring
/// and `avail_event`.
#[must_use]
pub const fn used_ring_size(size: u16) -> u64 {
    RING_ENTRIES + USED_ELEM_SIZE * size as u64 + 2
}

/// Offset in the Driver Area of the available ring's entry for the running index `idx`; `size` is a
/// power of two.
#[must_use]
pub const fn avail_entry(idx: u16, size: u16) -> u64 {
    RING_ENTRIES + AVAIL_ELEM_SIZE * (idx & (size - 1)) as u64
}

/// Offset in the Device Area of the used ring's entry for the running index `idx`; `size` is a
/// power of two.
#[must_use]
pub const fn used_entry(idx: u16, size: u16) -> u64 {
    RING_ENTRIES + USED_ELEM_SIZE * (idx & (size - 1)) as u64
}

/// Offset of `used_event` in the Driver Area of a queue of `size` descriptors.
#[must_use]
pub const fn used_event(size: u16) -> u64 {
    RING_ENTRIES + AVAIL_ELEM_SIZE * size as u64
}

/// Offset of `avail_event` in the Device Area of a queue of `size` descriptors.
#[must_use]
pub const fn avail_event(size: u16) -> u64 {
    RING_ENTRIES + USED_ELEM_SIZE * size as u64
}

/// Whether moving a ring's index from `old` to `new` passes `event`, the index at which the other
/// side asked to be notified (section 2.7.10: `vring_need_event`). All three wrap at 65536.
#[must_use]
pub const fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
