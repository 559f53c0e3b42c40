//! What the CPUs do to requests that another has submitted, one step at a time: the time of check
//! against the time of use. Nothing here waits for the device.

use core::sync::atomic::Ordering;

use spec::block::request_type;
use spec::board::HOLE_START;
use spec::mmio::Register;
use spec::queue::{self, DescFlags, Descriptor, RING_FLAGS, RING_IDX};

use super::smp::{FIRST, SECTORS};
use super::smp_ground::{FIRST_INDIRECT, Ground, PLACE, QUEUE_SIZE, REQUESTS};
use crate::rng::Rng;
use crate::virtio::Transport;

/// What a header may ask for; the last are what no device knows.
const TYPES: [u32; 8] = [
    request_type::IN,
    request_type::OUT,
    request_type::OUT,
    request_type::GET_ID,
    request_type::DISCARD,
    request_type::WRITE_ZEROES,
    0x100,
    u32::MAX,
];

/// Lengths of buffers: none that there is goes beyond a place, all others are beyond all requests.
const LENGTHS: [u32; 8] = [
    PLACE as u32,
    PLACE as u32 / 2,
    1,
    16,
    0,
    PLACE as u32,
    0x8000_0200,
    u32::MAX,
];

/// Lengths of indirect tables, in bytes.
const TABLE_LENGTHS: [u32; 8] = [48, 32, 16, 47, 0, 256, PLACE as u32, u32::MAX - 15];

/// Changes half of a descriptor: its address, or all else.
pub fn descriptor(ground: &Ground<'_>, rng: &mut Rng) {
    let [a, b, c, d] = dice(rng);
    let request = a % REQUESTS;
    let in_table = b & 1 != 0;
    let (table, index) = if in_table {
        (ground.table(request), c % 4)
    } else {
        (ground.queue.desc, c % QUEUE_SIZE)
    };
    let refers = !in_table && index >= FIRST_INDIRECT;
    let offset = usize::from(index) * queue::DESC_SIZE as usize;
    if b & 2 != 0 {
        let addr = match d % 8 {
            _ if refers && d & 8 == 0 => ground.table(request).addr(),
            0 | 1 => ground.data(request).addr(),
            2 => ground.data(request).addr() + PLACE as u64 / 2,
            3 => ground.header(request).addr(),
            4 => ground.status(request).addr(),
            5 => HOLE_START + PLACE as u64,
            6 => u64::MAX - 511,
            _ => 1 << 52,
        };
        return table.store64(offset, addr, Ordering::Relaxed);
    }
    let pick = usize::from(d % 8);
    // What refers to a table does so whatever else becomes of it: a table is no data, whose bytes
    // could come to the disk.
    let descriptor = if refers {
        Descriptor {
            addr: 0,
            len: TABLE_LENGTHS[pick],
            flags: DescFlags::INDIRECT | DescFlags::from_bits_truncate(d >> 3 & 3),
            next: d >> 5 & 3,
        }
    } else {
        let mut flags = DescFlags::from_bits_truncate(d >> 3 & 3);
        flags.set(DescFlags::INDIRECT, d >> 8 & 7 == 0);
        Descriptor {
            addr: 0,
            len: LENGTHS[pick],
            flags,
            next: (d >> 11) % (QUEUE_SIZE + 2),
        }
    };
    let all_but_the_address = (u128::from_le_bytes(descriptor.to_bytes()) >> 64) as u64;
    table.store64(offset + 8, all_but_the_address, Ordering::Relaxed);
}

/// Changes half of a header: what it asks for, or where.
pub fn header(ground: &Ground<'_>, rng: &mut Rng, capacity: u64) {
    let [a, b, c, _] = dice(rng);
    let header = ground.header(a % REQUESTS);
    if b & 1 == 0 {
        // A flush takes long.
        let request_type = match c {
            0..64 => request_type::FLUSH,
            _ => TYPES[usize::from(c % 8)],
        };
        return header.store64(0, request_type.into(), Ordering::Relaxed);
    }
    let sector = match c % 16 {
        // The data fits in by half, or not at all.
        0..4 => capacity - 1,
        4..8 => capacity,
        // In bytes, these are where they should be, modulo 2^64.
        8 => FIRST + (1 << 55),
        9 => FIRST + (u64::MAX << 55),
        10 => u64::MAX,
        _ => FIRST + u64::from(c >> 4) % (SECTORS - 1),
    };
    header.store64(8, sector, Ordering::Relaxed);
}

/// Changes a field of the rings, be it the driver's or the device's.
pub fn index(ground: &Ground<'_>, rng: &mut Rng) {
    let [a, b, c, d] = dice(rng);
    let queue = &ground.queue;
    let (ring, offset) = match a % 8 {
        0 => (queue.driver, RING_FLAGS),
        1 => (queue.driver, queue::used_event(QUEUE_SIZE)),
        2 => (queue.device, RING_FLAGS + u64::from(b % 67) * 2),
        3 if b % 64 == 0 => (queue.driver, RING_IDX),
        3 => {
            let idx = queue.driver.load16(RING_IDX as usize, Ordering::Relaxed);
            return queue.set_avail_idx(idx.wrapping_add(c % 3));
        }
        _ => {
            let head = if d & 15 == 0 { c } else { c % (QUEUE_SIZE + 2) };
            return queue.set_avail_entry(b, head);
        }
    };
    ring.store16(offset as usize, c, Ordering::Relaxed);
}

/// Uses registers as one does who drives a device, without regard for another who resets it.
pub fn register(transport: &mut dyn Transport, rng: &mut Rng) {
    let [a, b, ..] = dice(rng);
    match a % 4 {
        0 => transport.write(Register::InterruptACK, b.into()),
        1 => _ = transport.read(Register::InterruptStatus),
        2 => _ = transport.read_config(0),
        _ => transport.notify(b % 4),
    }
}

/// Four throws.
fn dice(rng: &mut Rng) -> [u16; 4] {
    let throws = rng.next();
    [0, 16, 32, 48].map(|shift| (throws >> shift) as u16)
}
