//! The whole device on a disk in memory: bring-up, requests of any shape and validity, hostile
//! rings and resets, in each notify mode, and for a guest that writes to registers in memory. The
//! model says what each request gets, what the disk holds, and when the device interrupts.

use spec::Features;
use spec::block::{RequestHeader, Segment};
use spec::mmio::Register;
use spec::queue::{DescFlags, Descriptor};

use crate::harness::{Harness, QUEUES_MAX};
use crate::input::{Record, records};
use crate::parts::{Mode, SECTORS};

/// Where the driver puts headers, status bytes, segments and indirect tables, in turns.
const HEADERS: u64 = 0x5100;
const STATUSES: u64 = 0x5500;
const SEGMENTS: u64 = 0x5600;
const TABLES: u64 = 0x6000;
const TURNS: u64 = 16;
/// The most descriptors of a table: so many have room.
const TABLE_MAX: usize = 16;
/// Where data may go that nothing else shares.
const DATA: u64 = 0x7000;

/// What a driver has by default, and may do without.
const FEATURES: [Features; 6] = [
    Features::VIRTIO_BLK_F_FLUSH,
    Features::VIRTIO_F_INDIRECT_DESC,
    Features::VIRTIO_F_EVENT_IDX,
    Features::VIRTIO_BLK_F_DISCARD,
    Features::VIRTIO_BLK_F_WRITE_ZEROES,
    Features::VIRTIO_BLK_F_CONFIG_WCE,
];

/// Drives a device as the records of `data` say: the first byte chooses the notify mode, the disk and
/// the number of queues, and each record is a step of the driver, with one of them.
pub fn device(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else {
        return;
    };
    let mode = match kind >> 1 & 15 {
        8..14 => Mode::Mapped,
        14 => Mode::IoEventFd,
        15 => Mode::Poll,
        _ => Mode::Trap,
    };
    let queues = 1 + usize::from(kind >> 5) % QUEUES_MAX;
    let mut driver = Driver {
        harness: Harness::new((mode, queues), kind & 1 != 0),
        data: Vec::new(),
        next_desc: [0; QUEUES_MAX],
        turn: 0,
    };
    driver.bring_up(0, 3);
    for record in records(data) {
        driver.step(record);
    }
    driver.harness.assert_serves();
}

struct Driver {
    harness: Harness,
    /// The data buffers of the next request.
    data: Vec<Descriptor>,
    /// Where in the table of each queue the next chain begins.
    next_desc: [u16; QUEUES_MAX],
    turn: u64,
}

impl Driver {
    fn step(&mut self, record: Record) {
        let Record { code, a, b, .. } = record;
        self.harness.choose(usize::from(code >> 4));
        let hostile = !self.harness.has_thread();
        match code % 16 {
            0..2 => self.add_data(record),
            2 => self.add_segment(record),
            3..6 => {
                self.request(record);
                if self.harness.has_thread() {
                    self.harness.notify();
                }
            }
            6 => self.harness.notify(),
            7 => self.bring_up(a, b),
            8 => {
                self.request(record);
                self.harness.notify_and_reset();
                self.bring_up(a >> 4, 3);
            }
            9 => self.harness.stop_queue(),
            10 if a & 0x80 != 0 => self.meddle(record),
            10 if a & 0x40 != 0 => self.harness.set_writeback(a & 1),
            10 if a & 0x20 != 0 => self.harness.store_status(record.value),
            10 if a & 0x10 != 0 => {
                let bytes = record.value.to_le_bytes();
                self.harness
                    .scribble(b.into(), &bytes[usize::from(a & 3)..]);
            }
            10 => self.harness.acknowledge(a.into()),
            11 => self.wish(record),
            // What a thread that looks at the queue at any time would see at any time.
            12 if hostile => self.harness.offer(b),
            13 if hostile => self.jump(b),
            14 if hostile => self.harness.poke(b.into(), &record.value.to_le_bytes()),
            15 if hostile => self.descriptor(record),
            _ => {}
        }
    }

    /// Brings the device up without the features that `without` has bits for.
    fn bring_up(&mut self, without: u8, size: u16) {
        let mut features = Features::VIRTIO_F_VERSION_1;
        for (bit, feature) in FEATURES.into_iter().enumerate() {
            features.set(feature, without >> bit & 1 == 0);
        }
        let size = 1 << (size % 10);
        self.harness.reset();
        self.harness.clear_rings(size);
        self.harness.bring_up(features, size);
        self.next_desc = [0; QUEUES_MAX];
    }

    /// Adds a data buffer to the next request: `b` whole sectors in RAM of its own, or anything.
    fn add_data(&mut self, record: Record) {
        let Record { code, a, b, .. } = record;
        let descriptor = if code % 16 == 0 || self.harness.has_thread() {
            let sector = u64::from(b % 16);
            (
                DATA + 512 * sector + u64::from(b >> 12),
                512 * (u32::from(a >> 4) + 1),
            )
        } else {
            let far = if a & 4 != 0 { 0x2_0000 } else { 0 };
            (u64::from(record.high()) + far, record.low().into())
        };
        let (addr, len) = descriptor;
        self.data.push(Descriptor {
            addr,
            len,
            flags: if a & 1 != 0 {
                DescFlags::WRITE
            } else {
                DescFlags::empty()
            },
            next: 0,
        });
    }

    /// Adds a segment to the next request, which is to discard or write zeroes.
    fn add_segment(&mut self, record: Record) {
        let Record { a, b, value, .. } = record;
        let addr = SEGMENTS + 64 * (self.turn % TURNS) + 16 * (self.data.len() as u64 % 4);
        let segment = Segment {
            sector: u64::from(b % 80),
            num_sectors: if a & 8 == 0 { value % 32 } else { value },
            flags: u32::from(a & 7),
        };
        self.harness.poke(addr, &segment.to_bytes());
        self.data.push(buffer(addr, 16, a & 16 != 0));
    }

    /// Makes a request available, with the data buffers that have been added. Its type is the low
    /// half of the number, and its sector the high half; `b` chooses header and status byte, and `a`
    /// how the chain is linked.
    fn request(&mut self, record: Record) {
        let Record { a, b, .. } = record;
        let turn = self.turn % TURNS;
        self.turn += 1;
        let (header, status) = (HEADERS + 64 * turn, STATUSES + turn);
        let request_type = u32::from(record.low());
        let sector = match b >> 14 {
            0 | 1 => u64::from(record.high()) % SECTORS,
            2 => SECTORS - u64::from(record.high() % 4),
            _ => u64::MAX / 512 - 2 + u64::from(record.high()),
        };
        let bytes = RequestHeader {
            request_type,
            sector,
        }
        .to_bytes();
        self.harness.poke(header, &bytes);
        self.harness.poke(status, &[0xaa]);

        let mut chain = match b & 3 {
            0 | 1 => vec![buffer(header, 16, false)],
            2 => vec![buffer(header, 5, false), buffer(header + 5, 11, false)],
            _ => vec![buffer(header, u32::from(b >> 2 & 31), b & 0x80 != 0)],
        };
        chain.append(&mut self.data);
        match b >> 8 & 7 {
            0..5 => chain.push(buffer(status, 1, true)),
            5 => chain.push(buffer(status, 0, true)),
            6 => chain.push(buffer(status, 1, false)),
            _ => {}
        }
        self.submit(chain, a);
    }

    /// Links `chain`, in the table or in one of its own, and makes it available.
    fn submit(&mut self, mut chain: Vec<Descriptor>, how: u8) {
        let Some(size) = self.harness.queue().map(|queue| queue.size) else {
            return;
        };
        let next_desc = &mut self.next_desc[self.harness.chosen()];
        let (indirect, room) = if how & 1 != 0 {
            (true, TABLE_MAX)
        } else {
            (false, size.into())
        };
        chain.truncate(room);
        let (first, mask) = if indirect {
            (0, u16::MAX)
        } else {
            (*next_desc, size - 1)
        };
        let count = chain.len();
        for (index, descriptor) in (first..).zip(&mut chain) {
            if usize::from(index - first) + 1 < count {
                descriptor.flags |= DescFlags::NEXT;
                descriptor.next = (index + 1) & mask;
            }
        }
        if how & 0xe == 0xe
            && let Some(last) = chain.last_mut()
        {
            // A loop.
            last.flags |= DescFlags::NEXT;
            last.next = first & mask;
        }
        let head = *next_desc & (size - 1);
        if indirect {
            let table = TABLES + 16 * TABLE_MAX as u64 * (self.turn % TURNS);
            let bytes: Vec<u8> = chain.iter().flat_map(|d| d.to_bytes()).collect();
            self.harness.poke(table, &bytes);
            let flags = DescFlags::INDIRECT;
            let (addr, len) = (table, bytes.len() as u32);
            self.harness.descriptor(
                head,
                Descriptor {
                    addr,
                    len,
                    flags,
                    next: 0,
                },
            );
            *next_desc += 1;
        } else {
            for (index, descriptor) in (first..).zip(&chain) {
                self.harness.descriptor(index & (size - 1), *descriptor);
            }
            *next_desc += count as u16;
        }
        *next_desc &= size - 1;
        self.harness.offer(head);
    }

    /// Says when the driver wants to be interrupted.
    fn wish(&mut self, record: Record) {
        let Some(size) = self.harness.queue().map(|queue| u64::from(queue.size)) else {
            return;
        };
        let [_, avail, used] = self.harness.areas();
        self.harness.poke(avail, &[record.a & 1]);
        let idx = self.harness.ram.field(used + 2);
        let event = idx.wrapping_add(record.b);
        self.harness
            .poke(avail + 4 + 2 * size, &event.to_le_bytes());
    }

    /// Writes to what cannot be changed while the device is live.
    fn meddle(&mut self, record: Record) {
        const FIXED: [Register; 10] = [
            Register::QueueNum,
            Register::QueueDescLow,
            Register::QueueDescHigh,
            Register::QueueDriverLow,
            Register::QueueDriverHigh,
            Register::QueueDeviceLow,
            Register::QueueDeviceHigh,
            Register::DriverFeatures,
            Register::InterruptStatus,
            Register::QueueReset,
        ];
        let register = FIXED[usize::from(record.b) % FIXED.len()];
        self.harness.write(register, record.value);
    }

    /// Moves `avail.idx` on.
    fn jump(&mut self, by: u16) {
        let avail = self.harness.areas()[1];
        let idx = self.harness.ram.field(avail + 2);
        self.harness.set_avail_idx(idx.wrapping_add(by));
    }

    /// Puts any descriptor into the table.
    fn descriptor(&mut self, record: Record) {
        let Record { a, b, .. } = record;
        let descriptor = Descriptor {
            addr: record.high().into(),
            len: record.low().into(),
            flags: DescFlags::from_bits_retain(u16::from(a) & 7),
            next: b >> 9,
        };
        self.harness.descriptor(b & 511, descriptor);
    }
}

fn buffer(addr: u64, len: u32, writable: bool) -> Descriptor {
    let flags = if writable {
        DescFlags::WRITE
    } else {
        DescFlags::empty()
    };
    Descriptor {
        addr,
        len,
        flags,
        next: 0,
    }
}
