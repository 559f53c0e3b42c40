//! What a discard or write-zeroes request asks for: the stretches of the disk that its segments
//! name (section 5.2.6). All segments are copied once and checked before any of them has a meaning.

use spec::block::{SECTOR_SIZE, SEGMENT_SIZE, Segment, segment_flags};
use vm_memory::GuestMemoryMmap;

use super::request::{Geometry, Refusal};
use super::{CLEAR_SECTORS_MAX, CLEAR_SEG_MAX};
use crate::virtio::chain::Run;

const COUNT_MAX: usize = CLEAR_SEG_MAX as usize;

/// A stretch of the disk, in bytes from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// First byte on the disk.
    pub position: u64,
    /// How many bytes: whole sectors, all on the disk; there may be none.
    pub len: u64,
    /// Whether they may be deallocated, where they are to be zeros.
    pub unmap: bool,
}

/// The stretches of one request, in its order.
#[derive(Clone, Copy, Debug)]
pub struct Extents {
    extents: [Extent; COUNT_MAX],
    count: usize,
}

impl Extents {
    /// The stretches of a disk of this `geometry` that the segments in `data` name, which may have
    /// the `flags`.
    ///
    /// # Errors
    /// The segments are not such, or too many, or one of them is not one for this disk.
    pub(super) fn parse(
        memory: &GuestMemoryMmap,
        data: Run<'_>,
        flags: u32,
        geometry: &Geometry,
    ) -> Result<Self, Refusal> {
        let not_segments = Refusal::Segments(data.len());
        let mut bytes = [[0; SEGMENT_SIZE]; COUNT_MAX];
        let len = usize::try_from(data.len()).map_err(|_| not_segments)?;
        let count = len / SEGMENT_SIZE;
        if !len.is_multiple_of(SEGMENT_SIZE) || !(1..=COUNT_MAX).contains(&count) {
            return Err(not_segments);
        }
        let copied = data.read(memory, bytes.as_flattened_mut());
        if copied.unwrap_or_default() < len {
            return Err(not_segments);
        }
        let segments = bytes.map(Segment::from_bytes);
        // An unknown flag is told of whatever else is wrong, in whichever segment.
        let mut unknown = segments.iter().map(|segment| segment.flags & !flags);
        if let Some(unknown) = unknown.find(|flags| *flags != 0) {
            return Err(Refusal::Flags(unknown));
        }
        let mut extents = [Extent::default(); COUNT_MAX];
        for (extent, segment) in extents.iter_mut().zip(segments) {
            *extent = Extent::of(segment, geometry)?;
        }
        Ok(Self { extents, count })
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Extent> {
        self.extents.into_iter().take(self.count)
    }

    /// How many bytes of the disk they are together.
    #[must_use]
    pub fn byte_count(&self) -> u64 {
        self.iter().map(|extent| extent.len).sum()
    }
}

impl Extent {
    fn of(segment: Segment, geometry: &Geometry) -> Result<Self, Refusal> {
        let Segment {
            sector,
            num_sectors,
            flags,
        } = segment;
        if num_sectors > CLEAR_SECTORS_MAX {
            return Err(Refusal::SegmentTooLong(num_sectors));
        }
        let count = u64::from(num_sectors);
        Ok(Self {
            position: geometry.position(sector, count)?,
            len: count.saturating_mul(SECTOR_SIZE),
            unmap: flags & segment_flags::UNMAP != 0,
        })
    }
}
