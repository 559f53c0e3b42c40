//! The story that `vmm explain` tells, as data: one negotiation, and requests step by step, with
//! the values of one run. It is collected elsewhere, and shown elsewhere: nothing is done here.
//!
//! In JSON the fields have the names that they have here. Addresses are guest-physical, and numbers
//! like all others; times are in nanoseconds.

mod event;
mod snapshot;

use serde::{Deserialize, Serialize};

pub use event::Event;
pub use snapshot::{
    AvailableEntry, AvailableRing, BYTES_SHOWN, Buffer, Descriptor, IndirectTable, Role, Snapshot,
    TableEntry, UsedEntry, UsedRing,
};

/// Version of the format: another one where a field goes or has another meaning; more may come.
pub const FORMAT: u32 = 1;

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
    /// What its registers are to the guest: `trap`, where each access is an exit, or `mapped`, where
    /// they are read as memory, and acknowledgements written there: neither is seen then.
    pub registers: String,
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

#[cfg(test)]
#[path = "story_tests.rs"]
mod tests;
