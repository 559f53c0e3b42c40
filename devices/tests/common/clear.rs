//! Discard and write-zeroes requests, as tests make them.

use devices::virtio::block::backend::MemoryBackend;
use spec::Features;
use spec::block::request_type::DISCARD;
use spec::block::{Segment, status};

use super::{DATA, Driver, PLAIN, readable};

/// The features of a driver that clears.
pub const CLEARING: Features = PLAIN
    .union(Features::VIRTIO_BLK_F_DISCARD)
    .union(Features::VIRTIO_BLK_F_WRITE_ZEROES);
/// What such a request comes back with: `used.len` and the status.
pub const IOERR: (u32, u8) = (1, status::IOERR);
pub const UNSUPP: (u32, u8) = (1, status::UNSUPP);
pub const OK: (u32, u8) = (1, status::OK);

pub fn segment(sector: u64, num_sectors: u32, flags: u32) -> Segment {
    Segment {
        sector,
        num_sectors,
        flags,
    }
}

pub fn bytes_of(segments: &[Segment]) -> Vec<u8> {
    segments.iter().flat_map(|s| s.to_bytes()).collect()
}

/// A request with these segments.
pub fn clear(driver: &mut Driver, kind: u32, segments: &[Segment]) -> (u32, u8) {
    let bytes = bytes_of(segments);
    driver.put(DATA, &bytes);
    let data = [readable(DATA, bytes.len() as u32)];
    driver.request(kind, 0, if bytes.is_empty() { &[] } else { &data })
}

pub fn disk_of(driver: &Driver) -> Vec<u8> {
    driver.disk.bytes().clone()
}

/// What a request of this kind leaves of a byte of the default disk.
pub fn cleared(kind: u32) -> u8 {
    match kind {
        DISCARD => MemoryBackend::DISCARDED,
        _ => 0,
    }
}
