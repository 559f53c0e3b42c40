//! The queue: guest RAM that holds anything, as rings, descriptors and buffers. The model says
//! which bytes of RAM and disk each drain changes, and to what.

use spec::Features;

use crate::harness::{AREAS, Harness};
use crate::parts::Mode;

/// What the driver may accept or not.
const OPTIONAL: [Features; 6] = [
    Features::VIRTIO_BLK_F_FLUSH,
    Features::VIRTIO_F_INDIRECT_DESC,
    Features::VIRTIO_F_EVENT_IDX,
    Features::VIRTIO_BLK_F_DISCARD,
    Features::VIRTIO_BLK_F_WRITE_ZEROES,
    Features::VIRTIO_BLK_F_CONFIG_WCE,
];
/// The most of the input that goes into RAM between two notifications.
const ROUND: usize = 0x400;
/// Where headers and tables may be: the rest of the input goes there.
const BUFFERS: u64 = 0x6000;

/// Lets a device drain a queue in RAM that holds `data`: after a byte that chooses features and one
/// that chooses a size, the descriptor table, the available ring, and what they lead to at 0x6000;
/// and again for each KiB.
pub fn queue(data: &[u8]) {
    let [features, size, data @ ..] = data else {
        return;
    };
    let mut accepted = Features::VIRTIO_F_VERSION_1;
    for (bit, feature) in OPTIONAL.into_iter().enumerate() {
        accepted.set(feature, features >> bit & 1 != 0);
    }
    let size = 1 << (size % 10);
    let mut harness = Harness::new((Mode::Trap, 1), features & 0x80 != 0);
    for (round, bytes) in data.chunks(ROUND).enumerate() {
        fill(&mut harness, bytes, size);
        if round == 0 {
            harness.bring_up(accepted, size);
        } else {
            harness.notify();
        }
    }
    harness.assert_serves();
}

/// Puts `bytes` into the descriptor table, the available ring, and buffers, one after the other.
fn fill(harness: &mut Harness, bytes: &[u8], size: u16) {
    let [desc, avail, _] = AREAS;
    let size = usize::from(size);
    let (table, rest) = bytes.split_at(bytes.len().min(16 * size).min(ROUND / 2));
    let (ring, buffers) = rest.split_at(rest.len().min(6 + 2 * size).min(ROUND / 4));
    for (addr, bytes) in [(desc, table), (avail, ring), (BUFFERS, buffers)] {
        harness.poke(addr, bytes);
    }
}
