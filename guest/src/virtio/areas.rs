//! The three areas of a queue as types, for who looks at them with a debugger. The driver goes by
//! the offsets of `spec::queue`: the device may write there at any time, so nothing refers to them.

use core::mem::offset_of;

use spec::queue::{AVAIL_ELEM_SIZE, DESC_SIZE, Descriptor, RING_ENTRIES, RING_IDX, USED_ELEM_SIZE};

use super::queue::MAX_QUEUE_SIZE;

const ENTRIES: usize = MAX_QUEUE_SIZE as usize;

/// The Descriptor Area: the descriptor table.
#[repr(C)]
pub struct DescriptorArea {
    /// The descriptors; the queue may have fewer.
    pub table: [Descriptor; ENTRIES],
}

/// The Driver Area: the available ring. `used_event` follows its last entry.
#[repr(C)]
pub struct DriverArea {
    /// [`AVAIL_F_NO_INTERRUPT`](spec::queue::AVAIL_F_NO_INTERRUPT) or 0.
    pub flags: u16,
    /// Where the driver puts the next head: runs freely, wraps at 65536.
    pub idx: u16,
    /// The heads of chains; the queue may have fewer.
    pub ring: [u16; ENTRIES],
}

/// The Device Area: the used ring. `avail_event` follows its last entry.
#[repr(C)]
pub struct DeviceArea {
    /// [`USED_F_NO_NOTIFY`](spec::queue::USED_F_NO_NOTIFY) or 0.
    pub flags: u16,
    /// Where the device puts the next element: runs freely, wraps at 65536.
    pub idx: u16,
    /// The chains that have been used; the queue may have fewer.
    pub ring: [UsedElement; ENTRIES],
}

/// An entry of the used ring.
#[repr(C)]
pub struct UsedElement {
    /// The head of the chain.
    pub id: u32,
    /// How many bytes the device wrote to the chain's device-writable buffers.
    pub len: u32,
}

const _: () = {
    assert!(size_of::<DescriptorArea>() == ENTRIES * DESC_SIZE as usize);
    assert!(offset_of!(DriverArea, idx) == RING_IDX as usize);
    assert!(offset_of!(DriverArea, ring) == RING_ENTRIES as usize);
    assert!(size_of::<[u16; 2]>() == 2 * AVAIL_ELEM_SIZE as usize);
    assert!(offset_of!(DeviceArea, idx) == RING_IDX as usize);
    assert!(offset_of!(DeviceArea, ring) == RING_ENTRIES as usize);
    assert!(size_of::<UsedElement>() == USED_ELEM_SIZE as usize);
};
