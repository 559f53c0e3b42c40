//! What a chain of descriptors asks of a disk (section 5.2.6), and how it is refused.

use spec::block::{request_type, status};
use spec::queue::{DescFlags, Descriptor};

use super::ram::Ram;

/// The most data in a request, in bytes.
const DATA_MAX: u64 = 510 * (128 << 10);
const SECTOR: u64 = 512;
/// The most segments of a request that clears, and the most sectors of a segment.
const SEGMENTS_MAX: u64 = 4;
const SEGMENT_SECTORS_MAX: u32 = 32768;
/// The flag of a segment that lets a write-zeroes request deallocate.
const UNMAP: u32 = 1;

/// Stretches of guest RAM, one after the other: address and length.
pub type Stretches = Vec<(u64, u64)>;

/// What is asked for, at this position in bytes where there is one.
#[derive(Debug, PartialEq, Eq)]
pub enum Operation {
    In(u64, Stretches),
    Out(u64, Stretches),
    Flush,
    GetId(Stretches),
    Discard(Vec<Extent>),
    WriteZeroes(Vec<Extent>),
}

/// A stretch of the disk, in bytes: its position and its length.
pub type Extent = (u64, u64);

/// What a request is to get.
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is done; its status goes there.
    Done(Operation, u64),
    /// It is refused; this status goes there.
    Refused(u8, u64),
    /// It has no status byte.
    NoStatus,
}

/// The disk as a request finds it.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Size, in sectors.
    pub capacity: u64,
    pub read_only: bool,
    /// Whether discard requests have been negotiated.
    pub discard: bool,
    /// Whether write-zeroes requests have been negotiated.
    pub write_zeroes: bool,
}

/// What the request in `chain` is to get.
pub fn expected(ram: &mut Ram, chain: &[Descriptor], geometry: Geometry) -> Expected {
    let is_writable = |descriptor: &Descriptor| descriptor.flags.contains(DescFlags::WRITE);
    let Some(last) = chain.last() else {
        return Expected::NoStatus;
    };
    let status = last
        .addr
        .checked_add(u64::from(last.len))
        .map(|end| end.wrapping_sub(1));
    let status = match status {
        Some(status) if is_writable(last) && last.len > 0 && Ram::holds(status, 1) => status,
        _ => return Expected::NoStatus,
    };
    match operation(ram, chain, geometry) {
        Ok(operation) => Expected::Done(operation, status),
        Err(code) => Expected::Refused(code, status),
    }
}

fn operation(ram: &mut Ram, chain: &[Descriptor], geometry: Geometry) -> Result<Operation, u8> {
    let is_writable = |descriptor: &Descriptor| descriptor.flags.contains(DescFlags::WRITE);
    if chain
        .windows(2)
        .any(|pair| is_writable(&pair[0]) && !is_writable(&pair[1]))
    {
        return Err(status::IOERR);
    }
    if chain
        .iter()
        .any(|d| d.len == 0 || !Ram::holds(d.addr, d.len.into()))
    {
        return Err(status::IOERR);
    }
    let stretches = |writable: bool| -> Stretches {
        let buffers = chain.iter().filter(|d| is_writable(d) == writable);
        buffers.map(|d| (d.addr, d.len.into())).collect()
    };
    let (header, out) = split(stretches(false), 16);
    if len(&header) < 16 {
        return Err(status::IOERR);
    }
    let writable = stretches(true);
    let data_len = len(&writable) - 1;
    let (inward, _) = split(writable, data_len);

    let header: Vec<u8> = header
        .iter()
        .flat_map(|&(addr, len)| ram.read(addr, len))
        .collect();
    let kind = u32::from_le_bytes(header[..4].try_into().unwrap());
    let sector = u64::from_le_bytes(header[8..].try_into().unwrap());

    let position = |data: &Stretches| {
        let len = len(data);
        let end = u128::from(sector) * u128::from(SECTOR) + u128::from(len);
        let fits = end <= u128::from(geometry.capacity) * u128::from(SECTOR);
        if len.is_multiple_of(SECTOR) && len <= DATA_MAX && fits && end <= u128::from(u64::MAX) {
            Ok(sector * SECTOR)
        } else {
            Err(status::IOERR)
        }
    };
    let none = |data: &Stretches| {
        if data.is_empty() {
            Ok(())
        } else {
            Err(status::IOERR)
        }
    };
    match kind {
        request_type::IN => {
            none(&out)?;
            Ok(Operation::In(position(&inward)?, inward))
        }
        request_type::OUT if geometry.read_only => Err(status::IOERR),
        request_type::OUT => {
            none(&inward)?;
            Ok(Operation::Out(position(&out)?, out))
        }
        request_type::FLUSH => Ok(Operation::Flush),
        request_type::GET_ID => {
            none(&out)?;
            Ok(Operation::GetId(inward))
        }
        request_type::DISCARD if geometry.discard && !geometry.read_only => {
            none(&inward)?;
            Ok(Operation::Discard(extents(ram, &out, 0, geometry)?))
        }
        request_type::WRITE_ZEROES if geometry.write_zeroes && !geometry.read_only => {
            none(&inward)?;
            Ok(Operation::WriteZeroes(extents(ram, &out, UNMAP, geometry)?))
        }
        // These would change a disk, negotiated or not.
        request_type::DISCARD | request_type::WRITE_ZEROES | request_type::SECURE_ERASE
            if geometry.read_only =>
        {
            Err(status::IOERR)
        }
        _ => Err(status::UNSUPP),
    }
}

/// The stretches of the disk that the segments in `data` name, which may have `flags`.
fn extents(
    ram: &mut Ram,
    data: &Stretches,
    flags: u32,
    geometry: Geometry,
) -> Result<Vec<Extent>, u8> {
    let len = len(data);
    if len == 0 || !len.is_multiple_of(16) || len / 16 > SEGMENTS_MAX {
        return Err(status::IOERR);
    }
    let bytes: Vec<u8> = data
        .iter()
        .flat_map(|&(addr, len)| ram.read(addr, len))
        .collect();
    let segments = bytes.as_chunks::<16>().0.iter().map(|bytes| {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let sector = u64::from(word(0)) | u64::from(word(4)) << 32;
        (sector, word(8), word(12))
    });
    // Of a flag that is not known the driver learns, whatever else is wrong.
    if segments.clone().any(|(_, _, found)| found & !flags != 0) {
        return Err(status::UNSUPP);
    }
    let extents = segments.map(|(sector, count, _)| {
        let end = u128::from(sector) + u128::from(count);
        if count > SEGMENT_SECTORS_MAX || end > geometry.capacity.into() {
            return Err(status::IOERR);
        }
        let position = sector.checked_mul(SECTOR).ok_or(status::IOERR)?;
        Ok((position, u64::from(count) * SECTOR))
    });
    extents.collect()
}

/// How many bytes `stretches` are.
pub fn len(stretches: &Stretches) -> u64 {
    stretches.iter().map(|&(_, len)| len).sum()
}

/// The first `at` bytes, or as many as there are, and the others.
fn split(stretches: Stretches, at: u64) -> (Stretches, Stretches) {
    let (mut first, mut others, mut left) = (Vec::new(), Vec::new(), at);
    for (addr, len) in stretches {
        let taken = left.min(len);
        left -= taken;
        if taken > 0 {
            first.push((addr, taken));
        }
        if taken < len {
            others.push((addr + taken, len - taken));
        }
    }
    (first, others)
}
