//! The sectors that a workload is about, cut into requests of a size that the device takes.

use spec::block::SECTOR_SIZE;

use super::Failure;
use crate::virtio::Info;

/// The largest request that workloads make, in bytes.
const MAX_TRANSFER: usize = 64 << 10;

/// Sectors that are known to be on the disk, as an iterator over requests for them: the first
/// sector of each, and its length in bytes.
#[derive(Clone)]
pub(super) struct Extent {
    lba: u64,
    count: u64,
    sectors_per_request: u64,
}

impl Extent {
    /// The `count` sectors from `lba` on, in requests of one segment of up to `max` bytes.
    pub(super) fn new<'e>(
        info: &Info,
        lba: u64,
        count: u64,
        max: usize,
    ) -> Result<Self, Failure<'e>> {
        let size_max = info.size_max.map_or(max, |size| max.min(size as usize));
        Self::cut(info, lba, count, size_max as u64 / SECTOR_SIZE)
    }

    /// As `new`, in requests of up to `max` sectors; of one, where that is none.
    pub(super) fn cut<'e>(
        info: &Info,
        lba: u64,
        count: u64,
        max: u64,
    ) -> Result<Self, Failure<'e>> {
        let capacity = info.capacity;
        if lba.checked_add(count).is_none_or(|end| end > capacity) {
            return Err(Failure::PastEnd {
                lba,
                count,
                capacity,
            });
        }
        Ok(Self {
            lba,
            count,
            sectors_per_request: max.max(1),
        })
    }

    /// As `new`, in requests as large as workloads make them.
    pub(super) fn large<'e>(info: &Info, lba: u64, count: u64) -> Result<Self, Failure<'e>> {
        Self::new(info, lba, count, MAX_TRANSFER)
    }

    /// The share of CPU number `cpu` of `cpus`: whole requests, that of all as nearly the same as
    /// can be, and none at all where there are too few.
    pub(super) fn share(&self, cpu: usize, cpus: usize) -> Self {
        let requests = self.count.div_ceil(self.sectors_per_request);
        // As wide as it takes for any number of requests.
        let first = |cpu: usize| {
            let requests = u128::from(requests) * cpu as u128 / cpus as u128;
            (requests as u64 * self.sectors_per_request).min(self.count)
        };
        Self {
            lba: self.lba + first(cpu),
            count: first(cpu + 1) - first(cpu),
            ..*self
        }
    }

    /// Takes the first `requests` of them, or all where there are no more.
    pub(super) fn split_off(&mut self, requests: u64) -> Self {
        let count = (self.sectors_per_request.saturating_mul(requests)).min(self.count);
        let first = Self { count, ..*self };
        self.lba += count;
        self.count -= count;
        first
    }

    /// The first sector.
    pub(super) const fn lba(&self) -> u64 {
        self.lba
    }

    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Length of the largest request, in bytes.
    pub(super) fn largest(&self) -> usize {
        (self.sectors_per_request.min(self.count) * SECTOR_SIZE) as usize
    }
}

impl Iterator for Extent {
    type Item = (u64, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let sectors = self.sectors_per_request.min(self.count);
        if sectors == 0 {
            return None;
        }
        let lba = self.lba;
        self.lba += sectors;
        self.count -= sectors;
        Some((lba, (sectors * SECTOR_SIZE) as usize))
    }
}
