//! The contract of `vmm bench` and the guest's `run=bench`: the ports and addresses that are timed,
//! and the page by which the VMM hands out work and the guest reports. Numbers and layouts only.
//!
//! The guest writes the address of a page to [`CONTROL_PORT`], then reads that port for every
//! command: the read is answered, with [`GO`], when the command is in the page. The next read says
//! that the result is there. It is answered with [`END`] when there is no more to do. From a read
//! on the guest holds interrupts off until it is ready for those that the command is about, so that
//! they may follow the answer at once.

use crate::block::SECTOR_SIZE;
use crate::board::VIRTIO_MMIO_BASE;
use crate::rng::Rng;

/// Port of four bytes. Written: the guest-physical address of the page. Read: the next command.
pub const CONTROL_PORT: u16 = 0x700;
/// What [`CONTROL_PORT`] reads as when there is a command in the page. Neither this nor [`END`] is
/// what a port reads as that nobody answers at: all ones or, of some VMMs, 0.
pub const GO: u32 = 1;
/// What [`CONTROL_PORT`] reads as when the guest is to end.
pub const END: u32 = 2;

/// Port of four bytes that the VMM handles by doing nothing.
pub const NOP_PORT: u16 = 0x704;
/// Port of four bytes whose writes KVM turns into an event, whatever their width and value.
pub const EVENT_PORT: u16 = 0x708;
/// Port of four bytes whose writes of [`MATCH`] KVM turns into an event.
pub const MATCH_PORT: u16 = 0x70c;
/// Port of four bytes that the guest writes for [`Kind::IrqHalted`] and [`Kind::IrqRunning`]: once
/// when [`GSI`] may come, and then in each of its handlers.
pub const HANDLED_PORT: u16 = 0x710;
/// How many ports there are from [`CONTROL_PORT`].
pub const PORTS: u64 = 0x14;

/// First address of a page of registers, each of four bytes.
pub const MMIO_BASE: u64 = VIRTIO_MMIO_BASE + 0x10_0000;
/// Size of that page, in bytes.
pub const MMIO_SIZE: u64 = 0x1000;
/// A register that the VMM handles by doing nothing.
pub const NOP_ADDR: u64 = MMIO_BASE;
/// A register whose writes KVM turns into an event, whatever their width and value.
pub const EVENT_ADDR: u64 = MMIO_BASE + 0x10;
/// A register whose writes of [`MATCH`] KVM turns into an event.
pub const MATCH_ADDR: u64 = MMIO_BASE + 0x20;
/// A register at whose writes the VMM raises [`GSI`], on the vCPU's own thread.
pub const DOORBELL_ADDR: u64 = MMIO_BASE + 0x30;

/// The value that a datamatch is for.
pub const MATCH: u32 = 1;
/// The interrupt that the VMM raises: the last pin of the IOAPIC.
pub const GSI: u32 = 23;

/// Size of the page, in bytes.
pub const PAGE_SIZE: usize = 4096;
/// Where the [`Outcome`] is in the page; the [`Command`] is at its start.
pub const OUTCOME_OFFSET: usize = 256;
/// Size of what is behind the page, in bytes, which is that of the largest request: the data that
/// requests write. Of those in flight each writes the next block of it, and after the last whole
/// block comes the first again.
pub const DATA_SIZE: usize = 1 << 20;
/// The most latencies of a command, 4 bytes each, little endian, in ticks of the TSC.
pub const LATENCIES_MAX: u64 = 1 << 18;

/// Fills `data` with what is written: bytes that no file system can leave out or compress.
pub fn fill_data(data: &mut [u8]) {
    Rng::new(0).fill(data);
}

listed! {
    /// What the guest does again and again.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(u64)]
    pub enum Kind {
        /// Nothing: the loop around all others.
        Empty = 0,
        /// Four instructions of integer arithmetic, each of which needs the result of the one before.
        Alu = 1,
        /// RDTSC.
        Rdtsc = 2,
        /// CPUID, leaf 0.
        Cpuid = 3,
        /// RDMSR of IA32_APIC_BASE.
        Rdmsr = 4,
        /// WRMSR of IA32_APIC_BASE, with the value that it has.
        Wrmsr = 5,
        /// OUT of four bytes to [`NOP_PORT`].
        PioOut = 6,
        /// IN of four bytes from [`NOP_PORT`].
        PioIn = 7,
        /// A write to [`NOP_ADDR`].
        MmioWrite = 8,
        /// A read of [`NOP_ADDR`].
        MmioRead = 9,
        /// OUT of [`MATCH`] to [`EVENT_PORT`].
        PioEvent = 10,
        /// OUT of [`MATCH`] to [`MATCH_PORT`].
        PioMatch = 11,
        /// A write of [`MATCH`] to [`EVENT_ADDR`].
        MmioEvent = 12,
        /// A write of [`MATCH`] to [`MATCH_ADDR`].
        MmioMatch = 13,
        /// VMCALL or VMMCALL, as the CPU's vendor has it: KVM_HC_VAPIC_POLL_IRQ, which does nothing.
        Hypercall = 14,
        /// An interrupt of the local APIC to its own CPU, up to and with its EOI.
        SelfIpi = 15,
        /// HLT until the timer of the local APIC fires, about 2^20 ticks. Latencies: from the moment
        /// for which the timer was set to the handler; 0 where that is before it.
        HltTimer = 16,
        /// A write to [`DOORBELL_ADDR`]. Latencies: from before the write to the handler of [`GSI`].
        Doorbell = 17,
        /// Waits, halted, for [`GSI`], `iterations` times, after it has said that it is ready by
        /// [`HANDLED_PORT`]. The VMM takes the times.
        IrqHalted = 18,
        /// The same with a CPU that is busy.
        IrqRunning = 19,
        /// An interrupt of the local APIC to another CPU, halted, and back. Latencies: of both ways
        /// together.
        Ipi = 20,
        /// Block I/O on the first disk, as [`Command::block`] says. Latencies: from before a request is
        /// submitted to when its completion has been seen.
        Block = 21,
        /// The same one request at a time, whatever [`BlockJob::depth`] and [`BlockJob::poll`] say,
        /// each once the device wants to be notified: the interrupt is asked for before the request is
        /// notified, and waited for halted. Latencies: from before the write to QueueNotify to the
        /// handler of the disk's interrupt.
        BlockNotify = 22,
    }
}

impl Kind {
    /// The kind with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u64 == number)
    }
}

/// What the guest is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Number of a [`Kind`].
    pub kind: u64,
    /// How often. For [`Kind::Block`] and [`Kind::BlockNotify`], the most requests, up to
    /// [`LATENCIES_MAX`]; 0 makes the disk ready, and no request.
    pub iterations: u64,
    /// Ticks of the TSC after which no other request is submitted; for [`Kind::Block`] and
    /// [`Kind::BlockNotify`] alone.
    pub ticks: u64,
    /// What [`Kind::Block`] and [`Kind::BlockNotify`] do.
    pub block: BlockJob,
}

impl Command {
    /// `kind`, which is no block I/O, `iterations` times.
    #[must_use]
    pub fn new(kind: Kind, iterations: u64) -> Self {
        Self {
            kind: kind as u64,
            iterations,
            ..Self::default()
        }
    }
}

/// The I/O of a [`Kind::Block`] or a [`Kind::BlockNotify`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockJob {
    /// 0 reads, 1 writes.
    pub write: u64,
    /// 0 goes through the disk in order, round and round; 1 takes blocks at random, as
    /// [`Positions`] has it.
    pub random: u64,
    /// Size of a request, in bytes: a multiple of 512.
    pub block_size: u64,
    /// How many requests are in flight.
    pub depth: u64,
    /// How many sectors, from the start of the disk, are used.
    pub sectors: u64,
    /// What random numbers begin with.
    pub seed: u64,
    /// 0 waits for completions by interrupt, 1 by looking again and again.
    pub poll: u64,
    /// How many queues are used besides the first, for [`Kind::Block`] alone. Each queue is driven by
    /// a CPU of its own, which has as many requests in flight there as [`depth`](Self::depth) says,
    /// and its share of the iterations.
    pub more_queues: u64,
}

impl BlockJob {
    /// The part in it of CPU number `cpu`, at positions of its own where they are random.
    #[must_use]
    pub const fn of_cpu(self, cpu: u64) -> Self {
        Self {
            seed: self.seed.wrapping_add(cpu << 56),
            ..self
        }
    }
}

/// Where the requests of a [`BlockJob`] are, one after the other, for the guest and for whoever
/// does the same without one.
#[derive(Clone, Debug)]
pub struct Positions {
    random: Option<Rng>,
    sectors_per_block: u64,
    blocks: u64,
    next: u64,
}

impl Positions {
    /// The positions of `job`; `None` where not even one block fits into its sectors, or a block
    /// is smaller than a sector.
    #[must_use]
    pub const fn new(job: &BlockJob) -> Option<Self> {
        let sectors_per_block = job.block_size / SECTOR_SIZE;
        if sectors_per_block == 0 || job.sectors < sectors_per_block {
            return None;
        }
        Some(Self {
            random: if job.random == 0 {
                None
            } else {
                Some(Rng::new(job.seed))
            },
            sectors_per_block,
            blocks: job.sectors / sectors_per_block,
            next: 0,
        })
    }

    /// First sector of the next request.
    pub const fn next(&mut self) -> u64 {
        let block = match &mut self.random {
            // As far among the blocks as the number is among all numbers.
            Some(rng) => ((rng.next() as u128 * self.blocks as u128) >> u64::BITS) as u64,
            None => {
                let block = self.next;
                self.next = if block + 1 == self.blocks {
                    0
                } else {
                    block + 1
                };
                block
            }
        };
        block * self.sectors_per_block
    }
}

/// How it went, for [`Outcome::status`].
pub mod outcome {
    /// It has been done.
    pub const DONE: u64 = 1;
    /// The machine cannot do it, as the guest sees it: no such instruction, no second CPU.
    pub const UNSUPPORTED: u64 = 2;
    /// It went wrong. The console says why.
    pub const FAILED: u64 = 3;
}

/// What came of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// One of [`outcome`].
    pub status: u64,
    /// How often it has been done.
    pub iterations: u64,
    /// Ticks of the TSC from the first to the last, the loop around it included.
    pub ticks: u64,
    /// Guest-physical address of the latencies, if the kind has them.
    pub latencies: u64,
    /// How many latencies there are.
    pub latency_count: u64,
    /// Interrupts that the guest's handler has seen meanwhile.
    pub interrupts: u64,
    /// Available buffer notifications that the guest has sent meanwhile.
    pub notifications: u64,
}

/// Conversion to and from what is in the page: little-endian numbers of eight bytes, in the order
/// of the fields.
macro_rules! layout {
    ($type:ty, $count:literal, $($field:ident $(. $inner:ident)?),+) => {
        impl $type {
            /// Size in the page, in bytes.
            pub const SIZE: usize = $count * 8;

            /// The bytes of this in the page.
            #[must_use]
            pub fn to_bytes(&self) -> [u8; Self::SIZE] {
                let words = [$(self.$field $(. $inner)?),+];
                let mut bytes = [0; Self::SIZE];
                for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
                    to.copy_from_slice(&word.to_le_bytes());
                }
                bytes
            }

            /// What these bytes of the page stand for.
            #[must_use]
            pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
                let mut words = [0; $count];
                for (word, from) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
                    *word = u64::from_le_bytes(*from);
                }
                let mut this = Self::default();
                [$(this.$field $(. $inner)?),+] = words;
                this
            }
        }
    };
}

layout!(
    Command,
    11,
    kind,
    iterations,
    ticks,
    block.write,
    block.random,
    block.block_size,
    block.depth,
    block.sectors,
    block.seed,
    block.poll,
    block.more_queues
);
layout!(
    Outcome,
    7,
    status,
    iterations,
    ticks,
    latencies,
    latency_count,
    interrupts,
    notifications
);
