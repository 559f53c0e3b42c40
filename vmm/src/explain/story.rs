//! The story that `vmm explain` tells, as data: one negotiation, and requests step by step, with
//! the values of one run. It is collected elsewhere, and shown elsewhere: nothing is done here.
//!
//! In JSON the fields have the names that they have here. Addresses are guest-physical, and numbers
//! like all others; times are in nanoseconds.

use serde::{Deserialize, Serialize};

/// Version of the format.
pub const FORMAT: u32 = 1;
/// How many of the first bytes of a buffer a [`Buffer`] has at most.
pub const BYTES_SHOWN: usize = 128;

/// All that one run of `vmm explain` tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// [`FORMAT`].
    pub format: u32,
    /// The machine, and what it ran.
    pub machine: Machine,
    /// The device that the story is about.
    pub device: Device,
    /// The queue as the driver set it up.
    pub queue: Queue,
    /// How driver and device came to terms: each access to a register, in order, up to DRIVER_OK.
    pub negotiation: Vec<Access>,
    /// The requests, in order: a read and a write, where the guest makes both.
    pub acts: Vec<Act>,
    /// What the reader has to know of what is missing or different here, a sentence each.
    pub notes: Vec<String>,
}

/// The machine, and what it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Version of this program.
    pub vmm: String,
    /// The kernel's file; none for the built-in guest.
    pub kernel: Option<String>,
    /// The initial RAM disk's file, if there is one.
    pub initrd: Option<String>,
    /// The kernel command line.
    pub cmdline: String,
    /// How many vCPUs there are.
    pub vcpus: u32,
    /// What is at which addresses, in ascending order: RAM, and windows of devices.
    pub ranges: Vec<Range>,
}

/// A named range of guest-physical addresses. It may lie in another, as a kernel in RAM does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Such as `RAM`, `guest`, `virtio-mmio 0`.
    pub name: String,
    /// First address.
    pub address: u64,
    /// Length, in bytes.
    pub len: u64,
}

/// The device that the story is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Address of its virtio-mmio register window.
    pub base: u64,
    /// The interrupt that it raises.
    pub gsi: u32,
    /// How it learns of notifications: `trap`, `ioeventfd` or `poll`.
    pub notify: String,
    /// The disk's file; none for the built-in disk.
    pub disk: Option<String>,
    /// What GET_ID returns.
    pub id: String,
    /// Size of the disk, in sectors of 512 bytes.
    pub capacity: u64,
    /// Whether the disk cannot be written.
    pub read_only: bool,
    /// The features that it offers.
    pub offered: Features,
    /// Those that the driver accepted.
    pub accepted: Features,
}

/// Feature bits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// The bits.
    pub bits: u64,
    /// The name of each bit that is set, from bit 0 on: such as `VIRTIO_F_EVENT_IDX`, or `bit 38`
    /// for one without a name.
    pub names: Vec<String>,
}

/// A split virtqueue. Of size 0 where the driver has set up none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Its index: what is written to QueueNotify.
    pub index: u16,
    /// Its size, in descriptors.
    pub size: u16,
    /// Address of the Descriptor Area: the descriptor table.
    pub descriptor_area: u64,
    /// Address of the Driver Area: the available ring.
    pub driver_area: u64,
    /// Address of the Device Area: the used ring.
    pub device_area: u64,
    /// Whether VIRTIO_F_EVENT_IDX was negotiated.
    pub event_idx: bool,
    /// Whether VIRTIO_F_INDIRECT_DESC was negotiated.
    pub indirect: bool,
}

/// An access to the device's registers or configuration space, which KVM handed to the VMM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// When, since the first access of the negotiation or since the act began.
    pub at_ns: Option<u64>,
    /// The direction.
    pub direction: Direction,
    /// Offset from the start of the window.
    pub offset: u64,
    /// The register's name, such as `QueueNum`, or the field's in the configuration space, such as
    /// `config.capacity`; none where there is neither.
    pub register: Option<String>,
    /// Width, in bytes.
    pub width: u8,
    /// What was read or written.
    pub value: u64,
    /// What the value says: the names of the bits that are set, such as `DRIVER_OK` or
    /// `VIRTIO_F_VERSION_1`, or else what it stands for, if it does for anything.
    pub meaning: Vec<String>,
    /// The instruction that did it.
    pub by: Code,
}

/// Which way an access goes, from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The guest reads.
    Read,
    /// The guest writes.
    Write,
}

/// A place in the guest's program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Its address: RIP, as a linear address.
    pub rip: u64,
    /// The function that it is in, where the guest's symbols are known.
    pub symbol: Option<String>,
    /// How far into the function, in bytes; 0 where that is not known.
    pub offset: u64,
    /// The instruction there, as an assembler writes it, where that is known.
    pub instruction: Option<String>,
}

/// One request, from the driver's first write to the waiter that is woken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// What is asked for.
    pub operation: Operation,
    /// First sector.
    pub sector: u64,
    /// How much data, in bytes.
    pub len: u64,
    /// The queue and the buffers before the first step.
    pub before: Snapshot,
    /// What happens, in the order in which it happens.
    pub steps: Vec<Step>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// VIRTIO_BLK_T_IN.
    Read,
    /// VIRTIO_BLK_T_OUT.
    Write,
}

/// One step of an act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Who takes it.
    pub side: Side,
    /// When, since the act began; none where it could not be timed.
    pub at_ns: Option<u64>,
    /// How long after the last step before it that has a time, or after the act began; none where it
    /// has none itself.
    pub since_ns: Option<u64>,
    /// What happens.
    pub event: Event,
    /// The queue and the buffers after it.
    pub after: Snapshot,
}

/// Who takes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The driver, in the guest.
    Driver,
    /// KVM, between the two.
    Kvm,
    /// The device, in the VMM.
    Device,
}

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
    /// The device raises its interrupt: InterruptStatus, and a write to the irqfd.
    Interrupt {
        /// The GSI that the irqfd stands for.
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

#[cfg(test)]
#[path = "story_tests.rs"]
mod tests;
