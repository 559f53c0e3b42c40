//! What a chain of descriptors asks of the disk (section 5.2.6). Parsing is a pure function: the
//! header is copied once, nothing is read twice, nothing is written and no I/O is done.

use spec::block::{
    HEADER_SIZE, RequestHeader, SECTOR_SIZE, SEGMENT_SIZE, request_type, segment_flags, status,
};
use spec::queue::{DescFlags, Descriptor};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use super::extents::Extents;
use super::{CLEAR_SEG_MAX, SEG_MAX, SIZE_MAX};
use crate::virtio::chain::{BufferError, Run};

/// The most data in one request, in bytes: as much as fits the limits in the configuration space.
/// It bounds how long a request can take, whatever the driver has negotiated.
pub const DATA_MAX: u64 = SEG_MAX as u64 * SIZE_MAX as u64;

/// What of the disk decides which requests are sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Geometry {
    /// Size of the disk, in sectors.
    pub capacity: u64,
    /// Whether the disk cannot be written.
    pub read_only: bool,
    /// Whether the driver has accepted VIRTIO_BLK_F_DISCARD.
    pub discard: bool,
    /// Whether the driver has accepted VIRTIO_BLK_F_WRITE_ZEROES.
    pub write_zeroes: bool,
}

/// The buffers of a chain: its descriptors, and the memory that they speak of.
#[derive(Clone, Copy, Debug)]
pub struct Buffers<'m, 'a> {
    /// The RAM of the guest.
    pub memory: &'m GuestMemoryMmap,
    /// Descriptors in the order of the chain, without NEXT and INDIRECT having a meaning.
    pub descriptors: &'a [Descriptor],
}

/// A sound request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What is asked for.
    pub operation: Operation<'a>,
    /// Where the status byte goes: the last device-writable byte.
    pub status: GuestAddress,
}

/// What a request asks for. Positions are in bytes from the start of the disk.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// VIRTIO_BLK_T_IN: read into `data`.
    In {
        /// First byte on the disk.
        position: u64,
        /// Whole sectors, device-writable.
        data: Run<'a>,
    },
    /// VIRTIO_BLK_T_OUT: write `data`.
    Out {
        /// First byte on the disk.
        position: u64,
        /// Whole sectors, device-readable.
        data: Run<'a>,
    },
    /// VIRTIO_BLK_T_FLUSH: commit what has been written.
    Flush,
    /// VIRTIO_BLK_T_GET_ID: read the identity of the disk into `data`.
    GetId {
        /// As many bytes as the driver has room for, device-writable.
        data: Run<'a>,
    },
    /// VIRTIO_BLK_T_DISCARD: the driver has no use for what is there.
    Discard(Extents),
    /// VIRTIO_BLK_T_WRITE_ZEROES: write zeros.
    WriteZeroes(Extents),
}

/// A request that is refused: why, and how it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ParseError {
    /// What is wrong.
    pub reason: Refusal,
    /// Where the status byte is; `None` if there is none that may be written.
    pub status: Option<GuestAddress>,
}

impl ParseError {
    /// The status that the driver is to find.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self.reason {
            Refusal::Unknown(_) | Refusal::Flags(_) => status::UNSUPP,
            _ => status::IOERR,
        }
    }
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The chain does not end with a device-writable byte in RAM.
    #[error("the chain does not end with a status byte")]
    NoStatus,
    /// A device-readable descriptor follows a device-writable one.
    #[error("a device-readable descriptor follows a device-writable one")]
    Order,
    /// A buffer that cannot be used.
    #[error(transparent)]
    Buffer(#[from] BufferError),
    /// Fewer device-readable bytes than a header has.
    #[error("a header of {0} bytes")]
    ShortHeader(u64),
    /// Data in the direction that the request type has no use for.
    #[error("{0} bytes of data in the wrong direction")]
    Direction(u64),
    /// Data that is not whole sectors.
    #[error("{0} bytes of data are not whole sectors")]
    PartialSector(u64),
    /// More data than a request may have.
    #[error("{0} bytes of data are more than a request may have")]
    TooLong(u64),
    /// Sectors that do not exist.
    #[error("{count} sectors from {sector} are not all on the disk")]
    BeyondEnd {
        /// First sector.
        sector: u64,
        /// How many.
        count: u64,
    },
    /// A request that changes a disk that cannot be changed.
    #[error("a request of type {0} on a read-only disk")]
    ReadOnly(u32),
    /// A request type that this device does not know, or that has not been negotiated.
    #[error("unknown request type {0}")]
    Unknown(u32),
    /// Data of a discard or write-zeroes request that is no segment, not whole segments, or more
    /// of them than a request may have.
    #[error(
        "{0} bytes of data are not from 1 to {max} segments of {SEGMENT_SIZE}",
        max = CLEAR_SEG_MAX
    )]
    Segments(u64),
    /// A segment of more sectors than it may have.
    #[error("a segment of {0} sectors is longer than a segment may be")]
    SegmentTooLong(u32),
    /// Flags that a segment cannot have.
    #[error("a segment with the flags {0:#x}")]
    Flags(u32),
}

impl<'a> Request<'a> {
    /// What a chain of these `buffers` asks of a disk of this `geometry`.
    ///
    /// # Errors
    /// The request is refused; the error says how it is to be answered.
    pub fn parse(buffers: &Buffers<'_, 'a>, geometry: &Geometry) -> Result<Self, ParseError> {
        let status = buffers.status_byte();
        let address = status.ok_or(ParseError {
            reason: Refusal::NoStatus,
            status,
        })?;
        match Operation::parse(buffers, geometry) {
            Ok(operation) => Ok(Self {
                operation,
                status: address,
            }),
            Err(reason) => Err(ParseError { reason, status }),
        }
    }
}

impl<'a> Operation<'a> {
    /// The first byte on the disk that is read, written or cleared, if any is.
    #[must_use]
    pub fn position(&self) -> Option<u64> {
        match self {
            Self::In { position, .. } | Self::Out { position, .. } => Some(*position),
            Self::Discard(extents) | Self::WriteZeroes(extents) => {
                extents.iter().next().map(|extent| extent.position)
            }
            Self::Flush | Self::GetId { .. } => None,
        }
    }

    /// How many bytes of the disk are read, written or cleared.
    #[must_use]
    pub fn byte_count(&self) -> u64 {
        match self {
            Self::In { data, .. } | Self::Out { data, .. } => data.len(),
            Self::Discard(extents) | Self::WriteZeroes(extents) => extents.byte_count(),
            Self::Flush | Self::GetId { .. } => 0,
        }
    }

    /// How many segments of the disk are cleared, by a discard or write-zeroes request.
    #[must_use]
    pub fn segment_count(&self) -> u64 {
        match self {
            Self::Discard(extents) | Self::WriteZeroes(extents) => extents.iter().count() as u64,
            Self::In { .. } | Self::Out { .. } | Self::Flush | Self::GetId { .. } => 0,
        }
    }

    fn parse(buffers: &Buffers<'_, 'a>, geometry: &Geometry) -> Result<Self, Refusal> {
        let (readable, writable) = buffers.directions()?;
        let short = Refusal::ShortHeader(readable.len());
        let (header, out) = readable.split_at(HEADER_SIZE as u64).ok_or(short)?;
        // The last device-writable byte is the status.
        let data = writable.len().checked_sub(1);
        let (inward, _) = data
            .and_then(|len| writable.split_at(len))
            .ok_or(Refusal::NoStatus)?;

        let mut bytes = [0; HEADER_SIZE];
        let copied = header.read(buffers.memory, &mut bytes).unwrap_or_default();
        if copied < HEADER_SIZE {
            return Err(short);
        }
        let RequestHeader {
            request_type,
            sector,
        } = RequestHeader::from_bytes(bytes);

        let none = |data: Run<'_>| match data.len() {
            0 => Ok(()),
            len => Err(Refusal::Direction(len)),
        };
        match request_type {
            request_type::IN => {
                none(out)?;
                let position = geometry.data_position(sector, inward.len())?;
                let data = inward;
                Ok(Self::In { position, data })
            }
            request_type::OUT if !geometry.read_only => {
                none(inward)?;
                let position = geometry.data_position(sector, out.len())?;
                let data = out;
                Ok(Self::Out { position, data })
            }
            // A driver should send no data with a flush, but may; it has no meaning.
            request_type::FLUSH => Ok(Self::Flush),
            request_type::GET_ID => {
                none(out)?;
                Ok(Self::GetId { data: inward })
            }
            // The sector of the header has no meaning.
            request_type::DISCARD if geometry.discard && !geometry.read_only => {
                none(inward)?;
                let extents = Extents::parse(buffers.memory, out, 0, geometry)?;
                Ok(Self::Discard(extents))
            }
            request_type::WRITE_ZEROES if geometry.write_zeroes && !geometry.read_only => {
                none(inward)?;
                let flags = segment_flags::UNMAP;
                let extents = Extents::parse(buffers.memory, out, flags, geometry)?;
                Ok(Self::WriteZeroes(extents))
            }
            request_type::OUT
            | request_type::DISCARD
            | request_type::WRITE_ZEROES
            | request_type::SECURE_ERASE
                if geometry.read_only =>
            {
                Err(Refusal::ReadOnly(request_type))
            }
            unknown => Err(Refusal::Unknown(unknown)),
        }
    }
}

impl Geometry {
    /// The position of `sector`, from which `len` bytes are to be moved.
    fn data_position(&self, sector: u64, len: u64) -> Result<u64, Refusal> {
        if !len.is_multiple_of(SECTOR_SIZE) {
            return Err(Refusal::PartialSector(len));
        }
        if len > DATA_MAX {
            return Err(Refusal::TooLong(len));
        }
        self.position(sector, len / SECTOR_SIZE)
    }

    /// The position of the first of `count` sectors from `sector` on.
    pub(super) fn position(&self, sector: u64, count: u64) -> Result<u64, Refusal> {
        let end = sector.checked_add(count);
        end.filter(|end| *end <= self.capacity && *end <= u64::MAX / SECTOR_SIZE)
            .and_then(|_| sector.checked_mul(SECTOR_SIZE))
            .ok_or(Refusal::BeyondEnd { sector, count })
    }
}

impl<'a> Buffers<'_, 'a> {
    /// The last device-writable byte, if the chain ends with one.
    fn status_byte(&self) -> Option<GuestAddress> {
        let last = self.descriptors.last()?;
        let offset = u64::from(last.len).checked_sub(1)?;
        let addr = GuestAddress(last.addr.checked_add(offset)?);
        (last.flags.contains(DescFlags::WRITE) && self.memory.address_in_range(addr))
            .then_some(addr)
    }

    /// The device-readable bytes and the device-writable ones.
    fn directions(&self) -> Result<(Run<'a>, Run<'a>), Refusal> {
        let writable = |descriptor: &Descriptor| descriptor.flags.contains(DescFlags::WRITE);
        let first_writable = self.descriptors.iter().position(writable);
        let middle = first_writable.unwrap_or(self.descriptors.len());
        let (readable, rest) = self.descriptors.split_at(middle);
        if !rest.iter().all(writable) {
            return Err(Refusal::Order);
        }
        let readable = Run::new(self.memory, readable)?;
        Ok((readable, Run::new(self.memory, rest)?))
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
