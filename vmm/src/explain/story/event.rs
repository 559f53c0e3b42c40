//! What can happen in a step of the story, each with its values.

use serde::{Deserialize, Serialize};

use super::{Access, Code, Descriptor, Direction, IndirectTable, TableEntry};

/// What happens in a step. In JSON, `kind` says which of these it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The driver has written the request's header, status byte and descriptors.
    DescriptorsWritten {
        /// The first descriptor of the chain.
        head: u16,
        /// The chain in the Descriptor Area, in its order.
        chain: Vec<TableEntry>,
        /// The table that it points to, where it is one descriptor with INDIRECT.
        indirect: Option<IndirectTable>,
    },
    /// The driver has put the head into the available ring.
    AvailableEntry {
        /// Which entry of the ring.
        slot: u16,
        /// The head that it holds.
        head: u16,
    },
    /// The driver has moved `avail.idx`: what is below it is the device's.
    AvailableIndex {
        /// What it was.
        before: u16,
        /// What it is.
        after: u16,
    },
    /// The driver sees that the device wants to be notified, or that it does not.
    NotificationWanted {
        /// `avail_event`, with VIRTIO_F_EVENT_IDX.
        avail_event: Option<u16>,
        /// `used.flags`, without.
        used_flags: Option<u16>,
        /// Whether the driver notifies.
        wanted: bool,
    },
    /// The driver writes to QueueNotify.
    Notify {
        /// The register's address.
        address: u64,
        /// What is written: the queue's index.
        value: u32,
        /// The instruction.
        by: Code,
    },
    /// The CPU leaves the guest, and KVM_RUN returns to the VMM.
    Exit {
        /// Such as `KVM_EXIT_MMIO`.
        reason: String,
        /// The address that is accessed.
        address: u64,
        /// Width, in bytes.
        width: u8,
        /// The direction.
        direction: Direction,
        /// Which vCPU.
        vcpu: u32,
    },
    /// KVM tells the device's worker by an eventfd, and the guest goes on.
    Signalled {
        /// The address that is accessed.
        address: u64,
        /// The queue's index.
        value: u32,
    },
    /// The device looks into the available ring.
    Taken {
        /// Where it stopped the last time.
        last_avail_idx: u16,
        /// `avail.idx` as it sees it.
        avail_idx: u16,
        /// The heads between the two.
        heads: Vec<u16>,
        /// How many of them it refuses.
        refused: u16,
    },
    /// The device follows a chain.
    Walked {
        /// The first descriptor of the chain.
        head: u16,
        /// The buffers in the order of the chain, from the indirect table if there is one.
        chain: Vec<Descriptor>,
        /// Why the chain was refused, if it was.
        error: Option<String>,
    },
    /// The device has read the header, and knows what is asked for, or why it cannot be done.
    Parsed {
        /// `virtio_blk_req.type`, if there is a header.
        request_type: Option<u32>,
        /// Such as `VIRTIO_BLK_T_IN`; none for a type without a name.
        name: Option<String>,
        /// First sector, if there is a header.
        sector: Option<u64>,
        /// How much data, in bytes.
        data_len: u64,
        /// Where the status byte goes, if there is one.
        status_address: Option<u64>,
        /// Why the request is refused, if it is.
        refusal: Option<String>,
    },
    /// The device has read from or written to the disk's file.
    FileIo {
        /// From the guest: a read fills its memory.
        direction: Direction,
        /// First byte in the file.
        offset: u64,
        /// How much was asked for, in bytes.
        len: u64,
        /// How much was moved, in bytes.
        moved: u64,
        /// Whether the host failed it.
        failed: bool,
    },
    /// The device has written the status byte.
    StatusWritten {
        /// Where.
        address: u64,
        /// The byte.
        value: u8,
        /// Such as `VIRTIO_BLK_S_OK`; none for a value without a name.
        name: Option<String>,
    },
    /// The device has put the chain into the used ring and moved `used.idx`: it is the driver's
    /// again.
    UsedAdded {
        /// Which entry of the ring.
        slot: u16,
        /// `id` of the entry: the head of the chain.
        id: u32,
        /// `len` of the entry: how many bytes the device wrote.
        len: u32,
        /// What `used.idx` was.
        before: u16,
        /// What it is.
        after: u16,
    },
    /// The device sees that the driver wants no interrupt.
    InterruptUnwanted {
        /// `used_event`, with VIRTIO_F_EVENT_IDX.
        used_event: Option<u16>,
        /// `avail.flags`, without.
        avail_flags: Option<u16>,
    },
    /// The device raises its interrupt: InterruptStatus, and an edge on its line.
    Interrupt {
        /// The GSI of the line.
        gsi: u32,
        /// InterruptStatus as the driver will read it.
        interrupt_status: u32,
        /// The names of its bits.
        meaning: Vec<String>,
    },
    /// The VMM calls KVM_RUN again, and the guest goes on.
    Resumed {
        /// Which vCPU.
        vcpu: u32,
        /// Where it goes on, where that is known.
        at: Option<Code>,
    },
    /// The driver has nothing to do but to wait.
    Waiting {
        /// The HLT, or what it does instead.
        at: Code,
    },
    /// KVM has injected the interrupt, and the CPU has entered the guest's handler.
    HandlerEntered {
        /// The vector, an index of the IDT.
        vector: u8,
        /// The handler.
        handler: Code,
        /// Where the guest was, and will go on; where that is known.
        interrupted: Option<Code>,
    },
    /// The driver accesses a register: in a handler, InterruptStatus and InterruptACK.
    Register {
        /// The access.
        access: Access,
    },
    /// The driver has found the chain in the used ring.
    UsedSeen {
        /// `used.idx` as it sees it.
        used_idx: u16,
        /// `id` of the entry.
        id: u32,
        /// `len` of the entry.
        len: u32,
        /// The status byte.
        status: u8,
        /// Such as `VIRTIO_BLK_S_OK`; none for a value without a name.
        name: Option<String>,
    },
    /// Whoever waited for the request goes on.
    Woken {
        /// Where.
        at: Code,
    },
}
