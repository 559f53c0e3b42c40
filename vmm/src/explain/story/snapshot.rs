//! What is in guest memory at one moment of the story: the three areas, and the buffers of a request.

use serde::{Deserialize, Serialize};

/// How many of the first bytes of a buffer a [`Buffer`] has at most.
pub const BYTES_SHOWN: usize = 128;

/// The queue and the buffers of one request, at one moment. The rings are long: only entries that
/// matter to the act need be here, each with its index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Of the descriptor table.
    pub descriptors: Vec<TableEntry>,
    /// The table that the request's descriptor points to, with INDIRECT.
    pub indirect: Option<IndirectTable>,
    /// The available ring.
    pub available: AvailableRing,
    /// The used ring.
    pub used: UsedRing,
    /// The buffers of the request, in the order of the chain; none before there is a chain.
    pub buffers: Vec<Buffer>,
}

/// An entry of the descriptor table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    /// Which one.
    pub index: u16,
    /// What it holds.
    #[serde(flatten)]
    pub descriptor: Descriptor,
}

/// A `virtq_desc`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Address of the buffer.
    pub addr: u64,
    /// Its length, in bytes.
    pub len: u32,
    /// The flags.
    pub flags: u16,
    /// Their names: `NEXT`, `WRITE`, `INDIRECT`.
    pub flag_names: Vec<String>,
    /// The next descriptor, with NEXT.
    pub next: u16,
}

/// A table of descriptors that a descriptor with INDIRECT points to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndirectTable {
    /// Where it is.
    pub address: u64,
    /// Its descriptors, or the first of them.
    pub entries: Vec<TableEntry>,
    /// How many it has.
    pub len: u32,
}

/// The Driver Area: `virtq_avail`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailableRing {
    /// `flags`.
    pub flags: u16,
    /// `idx`: runs freely, wraps at 65536.
    pub idx: u16,
    /// Of the ring: heads.
    pub entries: Vec<AvailableEntry>,
    /// `used_event`: with VIRTIO_F_EVENT_IDX, the used entry that the driver wants an interrupt for.
    pub used_event: u16,
}

/// An entry of the available ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AvailableEntry {
    /// Which one.
    pub slot: u16,
    /// The head of a chain.
    pub head: u16,
}

/// The Device Area: `virtq_used`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedRing {
    /// `flags`.
    pub flags: u16,
    /// `idx`: runs freely, wraps at 65536.
    pub idx: u16,
    /// Of the ring: chains that have been used.
    pub entries: Vec<UsedEntry>,
    /// `avail_event`: with VIRTIO_F_EVENT_IDX, the available entry that the device wants a
    /// notification for.
    pub avail_event: u16,
}

/// An entry of the used ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedEntry {
    /// Which one.
    pub slot: u16,
    /// The head of a chain.
    pub id: u32,
    /// How many bytes the device wrote to it.
    pub len: u32,
}

/// A buffer of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer {
    /// What it is for.
    pub role: Role,
    /// Where it is.
    pub address: u64,
    /// Its length, in bytes.
    pub len: u64,
    /// Its first bytes, at most [`BYTES_SHOWN`].
    pub bytes: Vec<u8>,
}

/// What a buffer of a block request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What to do, and where: 16 device-readable bytes.
    Header,
    /// What is read or written.
    Data,
    /// How it ended: one device-writable byte.
    Status,
}
