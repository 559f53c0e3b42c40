//! virtio-blk (section 5.2): the configuration space and the request format. All fields are
//! little endian.

/// Size of a sector, in bytes: the unit of `sector` and `capacity`, whatever `blk_size` says.
pub const SECTOR_SIZE: u64 = 512;
/// Size of the request header, in bytes: type (u32), reserved (u32), sector (u64).
pub const HEADER_SIZE: usize = 16;
/// Size of the identity that GET_ID returns, in bytes; shorter ones are padded with zeros.
pub const ID_SIZE: usize = 20;
/// Size of a segment of a discard or write-zeroes request, in bytes.
pub const SEGMENT_SIZE: usize = 16;
/// Index of the first request queue, which is the only one without VIRTIO_BLK_F_MQ.
pub const REQUEST_QUEUE: u16 = 0;

/// `virtio_blk_req.type`: what a request asks for.
pub mod request_type {
    /// Reads sectors.
    pub const IN: u32 = 0;
    /// Writes sectors.
    pub const OUT: u32 = 1;
    /// Commits what has been written to stable storage.
    pub const FLUSH: u32 = 4;
    /// Reads the identity of the device.
    pub const GET_ID: u32 = 8;
    /// Reads lifetime information.
    pub const GET_LIFETIME: u32 = 10;
    /// Declares sectors to be unused.
    pub const DISCARD: u32 = 11;
    /// Writes zeros to sectors.
    pub const WRITE_ZEROES: u32 = 13;
    /// Erases sectors beyond recovery.
    pub const SECURE_ERASE: u32 = 14;
}

/// `virtio_blk_req.status`: how a request ended.
pub mod status {
    /// Success.
    pub const OK: u8 = 0;
    /// An error of the device or of the request.
    pub const IOERR: u8 = 1;
    /// The request is not one that this device knows, or has a flag that it does not know.
    pub const UNSUPP: u8 = 2;
}

/// The header that begins every request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// One of [`request_type`].
    pub request_type: u32,
    /// First sector, for the types that read or write sectors; 0 otherwise.
    pub sector: u64,
}

impl RequestHeader {
    /// The header whose 16 bytes in memory these are. The reserved field is not looked at.
    #[must_use]
    pub const fn from_bytes(b: [u8; HEADER_SIZE]) -> Self {
        Self {
            request_type: u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            sector: u64::from_le_bytes([b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]]),
        }
    }

    /// The 16 bytes that this header is in memory, the reserved field 0.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; HEADER_SIZE] {
        let (t, s) = (self.request_type.to_le_bytes(), self.sector.to_le_bytes());
        [
            t[0], t[1], t[2], t[3], 0, 0, 0, 0, s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7],
        ]
    }
}

/// `virtio_blk_discard_write_zeroes.flags`: the bits that have a meaning.
pub mod segment_flags {
    /// The sectors may be deallocated as well; for write-zeroes alone.
    pub const UNMAP: u32 = 1 << 0;
}

/// `virtio_blk_discard_write_zeroes`: the data of a discard or write-zeroes request is one or more
/// of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// First sector.
    pub sector: u64,
    /// How many sectors.
    pub num_sectors: u32,
    /// [`segment_flags`].
    pub flags: u32,
}

impl Segment {
    /// The segment whose 16 bytes in memory these are.
    #[must_use]
    pub const fn from_bytes(b: [u8; SEGMENT_SIZE]) -> Self {
        Self {
            sector: u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
            num_sectors: u32::from_le_bytes([b[8], b[9], b[10], b[11]]),
            flags: u32::from_le_bytes([b[12], b[13], b[14], b[15]]),
        }
    }

    /// The 16 bytes that this segment is in memory.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; SEGMENT_SIZE] {
        let (s, n) = (self.sector.to_le_bytes(), self.num_sectors.to_le_bytes());
        let f = self.flags.to_le_bytes();
        [
            s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], n[0], n[1], n[2], n[3], f[0], f[1],
            f[2], f[3],
        ]
    }
}

/// Offsets in `virtio_blk_config`, in bytes from the start of the configuration space.
pub mod config {
    /// u64: size of the disk, in sectors.
    pub const CAPACITY: u64 = 0;
    /// u32: largest segment, in bytes (VIRTIO_BLK_F_SIZE_MAX).
    pub const SIZE_MAX: u64 = 8;
    /// u32: most data segments in a request (VIRTIO_BLK_F_SEG_MAX).
    pub const SEG_MAX: u64 = 12;
    /// u16: how many cylinders a disk of such a size had (VIRTIO_BLK_F_GEOMETRY).
    pub const CYLINDERS: u64 = 16;
    /// u8: how many heads (VIRTIO_BLK_F_GEOMETRY).
    pub const HEADS: u64 = 18;
    /// u8: how many sectors a track (VIRTIO_BLK_F_GEOMETRY).
    pub const SECTORS: u64 = 19;
    /// u32: size of a logical block, in bytes, which positions and lengths are best multiples of
    /// (VIRTIO_BLK_F_BLK_SIZE).
    pub const BLK_SIZE: u64 = 20;
    /// u8: how many logical blocks, as a power of two, are a physical one (VIRTIO_BLK_F_TOPOLOGY).
    pub const PHYSICAL_BLOCK_EXP: u64 = 24;
    /// u8: which logical block is the first that begins a physical one (VIRTIO_BLK_F_TOPOLOGY).
    pub const ALIGNMENT_OFFSET: u64 = 25;
    /// u16: the least that is best asked for at once, in logical blocks (VIRTIO_BLK_F_TOPOLOGY).
    pub const MIN_IO_SIZE: u64 = 26;
    /// u32: how much is best asked for at once, in logical blocks; 0 if there is no such limit
    /// (VIRTIO_BLK_F_TOPOLOGY).
    pub const OPT_IO_SIZE: u64 = 28;
    /// u8: 1 while writes are volatile until a flush, 0 while each is stable when it completes
    /// (VIRTIO_BLK_F_CONFIG_WCE). The driver may write it.
    pub const WRITEBACK: u64 = 32;
    /// u16: how many request queues there are (VIRTIO_BLK_F_MQ).
    pub const NUM_QUEUES: u64 = 34;
    /// u32: most sectors in a segment of a discard request (VIRTIO_BLK_F_DISCARD).
    pub const MAX_DISCARD_SECTORS: u64 = 36;
    /// u32: most segments in a discard request (VIRTIO_BLK_F_DISCARD).
    pub const MAX_DISCARD_SEG: u64 = 40;
    /// u32: to what discards are best aligned, in sectors (VIRTIO_BLK_F_DISCARD).
    pub const DISCARD_SECTOR_ALIGNMENT: u64 = 44;
    /// u32: most sectors in a segment of a write-zeroes request (VIRTIO_BLK_F_WRITE_ZEROES).
    pub const MAX_WRITE_ZEROES_SECTORS: u64 = 48;
    /// u32: most segments in a write-zeroes request (VIRTIO_BLK_F_WRITE_ZEROES).
    pub const MAX_WRITE_ZEROES_SEG: u64 = 52;
    /// u8: whether a write-zeroes request can deallocate sectors (VIRTIO_BLK_F_WRITE_ZEROES).
    pub const WRITE_ZEROES_MAY_UNMAP: u64 = 56;
    /// Size of the part of the configuration space that ends with `write_zeroes_may_unmap` and its
    /// padding.
    pub const SIZE: usize = 60;
}
