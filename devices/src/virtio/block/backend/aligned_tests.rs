use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use proptest::prelude::*;
use spec::block::SECTOR_SIZE;

use super::super::MemoryBackend;
use super::*;

const UNIT: u32 = 4096;
/// Size of the disk, in bytes: more than goes through the room at once.
const SIZE: usize = 2 * ROOM;
/// Size of the memory that the buffers of a request are in, in bytes: room for the gaps as well.
const MEMORY: usize = SIZE + (32 << 10);

/// A disk that takes whole aligned units alone, and fails once it has moved as much as it may.
#[derive(Debug)]
struct Picky {
    disk: MemoryBackend,
    /// How many bytes it moves before it fails.
    left: AtomicU64,
}

impl Picky {
    /// How many bytes a transfer of `slices` may move.
    #[track_caller]
    fn check(&self, slices: &[VolatileSlice<'_>], position: u64) -> usize {
        let unit = UNIT as usize;
        assert_eq!(position % u64::from(UNIT), 0);
        for slice in slices {
            assert_eq!(slice.ptr_guard().as_ptr().addr() % unit, 0);
            assert_eq!(slice.len() % unit, 0);
        }
        let most = byte_count(slices).min(self.left.load(Relaxed) as usize) / unit * unit;
        self.left.fetch_sub(most as u64, Relaxed);
        most
    }

    fn transfer(
        &self,
        slices: &[VolatileSlice<'_>],
        position: u64,
        transfer: impl Fn(&MemoryBackend, &[VolatileSlice<'_>]) -> Result<(), TransferError>,
    ) -> Result<(), TransferError> {
        let most = self.check(slices, position);
        let first: Vec<_> = parts(slices, 0, most).collect();
        transfer(&self.disk, &first)?;
        if most == byte_count(slices) {
            return Ok(());
        }
        self.left.store(0, Relaxed);
        Err(TransferError {
            transferred: most as u64,
            source: io::ErrorKind::StorageFull.into(),
        })
    }
}

impl BlockBackend for Picky {
    fn capacity(&self) -> u64 {
        self.disk.capacity()
    }

    fn read_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.transfer(slices, position, |disk, slices| {
            disk.read_at(slices, position)
        })
    }

    fn write_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.transfer(slices, position, |disk, slices| {
            disk.write_at(slices, position)
        })
    }

    fn flush(&self) -> io::Result<()> {
        self.disk.flush()
    }
}

/// What is on the disk at first.
fn content() -> Vec<u8> {
    (0..SIZE).map(|at| (at % 251) as u8).collect()
}

/// A disk of sectors on a picky one that moves `left` bytes, and the memory that it is in.
fn disk(left: u64) -> (AlignedBackend<Picky>, MemoryBackend) {
    let disk = MemoryBackend::new(content());
    let picky = Picky {
        disk: disk.clone(),
        left: left.into(),
    };
    (AlignedBackend::new(picky, UNIT).unwrap(), disk)
}

/// Where buffers of `lengths` sectors lie in `memory`, each after a gap that the lengths tell.
fn buffers<'a>(memory: &'a MmapRegion, lengths: &[(usize, usize)]) -> Vec<VolatileSlice<'a>> {
    let mut start = 0;
    let mut buffers = Vec::new();
    for &(gap, sectors) in lengths {
        let len = sectors * SECTOR_SIZE as usize;
        buffers.push(memory.get_slice(start + gap, len).unwrap());
        start += gap + len;
    }
    buffers
}

fn bytes(slices: &[VolatileSlice<'_>]) -> Vec<u8> {
    let mut all = Vec::new();
    for slice in slices {
        let mut bytes = vec![0_u8; slice.len()];
        slice.copy_to(&mut bytes[..]);
        all.extend(bytes);
    }
    all
}

fn memory(byte: u8) -> MmapRegion {
    let memory = MmapRegion::new(MEMORY).unwrap();
    let all = memory.get_slice(0, MEMORY).unwrap();
    all.copy_from(&vec![byte; MEMORY][..]);
    memory
}

/// Buffers of a request, each with a gap before it, and the sector that it begins at.
fn requests() -> impl Strategy<Value = (Vec<(usize, usize)>, usize)> {
    let gap = prop_oneof![Just(0), Just(1), Just(512), Just(4096), 0..5000_usize];
    let sectors = prop_oneof![3 => Just(8), 3 => 0..20_usize, 1 => 500..700_usize];
    let buffers = prop::collection::vec((gap, sectors), 0..5);
    let capacity = SIZE / SECTOR_SIZE as usize;
    (buffers, 0..capacity).prop_filter("past the end", move |(buffers, first)| {
        let count: usize = buffers.iter().map(|(_, sectors)| sectors).sum();
        first + count <= capacity
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reads_are_those_of_a_disk_of_sectors_and_failures_tell_how_far_they_came(
        (lengths, first) in requests(),
        left in prop_oneof![Just(u64::MAX), 0..SIZE as u64],
    ) {
        let (disk, _) = disk(left);
        let memory = memory(0xee);
        let slices = buffers(&memory, &lengths);
        let start = first * SECTOR_SIZE as usize;
        let result = disk.read_at(&slices, start as u64);
        let total = byte_count(&slices);
        let read = result.as_ref().map_or_else(|error| error.transferred as usize, |()| total);
        prop_assert!(result.is_ok() || read < total);
        prop_assert!(result.is_ok() || left < u64::MAX);
        let found = bytes(&slices);
        prop_assert_eq!(&found[..read], &content()[start..start + read]);
        prop_assert!(found[read..].iter().all(|byte| *byte == 0xee));
        // No byte outside of the buffers has changed.
        let all = bytes(&[memory.get_slice(0, MEMORY).unwrap()]);
        let changed = all.iter().filter(|byte| **byte != 0xee).count();
        let expected = found.iter().filter(|byte| **byte != 0xee).count();
        prop_assert_eq!(changed, expected);
    }

    #[test]
    fn writes_are_those_of_a_disk_of_sectors_and_change_nothing_else(
        (lengths, first) in requests(),
        left in prop_oneof![Just(u64::MAX), 0..SIZE as u64],
    ) {
        let (disk, bytes_of) = disk(left);
        let memory = memory(0xee);
        let slices = buffers(&memory, &lengths);
        let start = first * SECTOR_SIZE as usize;
        let total = byte_count(&slices);
        match disk.write_at(&slices, start as u64) {
            Ok(()) => {
                let mut expected = content();
                expected[start..start + total].fill(0xee);
                prop_assert!(*bytes_of.bytes() == expected);
            }
            Err(error) => {
                prop_assert!(left < u64::MAX);
                let written = error.transferred as usize;
                prop_assert!(written <= total);
                let (found, old) = (bytes_of.bytes(), content());
                prop_assert!(found[start..start + written].iter().all(|byte| *byte == 0xee));
                prop_assert!(found[..start] == old[..start]);
                prop_assert!(found[start + written..] == old[start + written..]);
            }
        }
    }
}

#[test]
fn a_disk_that_is_not_whole_units_is_refused_and_so_is_a_unit_that_is_none() {
    let picky = || Picky {
        disk: MemoryBackend::new(vec![0; 4096 + 512]),
        left: 0.into(),
    };
    let error = AlignedBackend::new(picky(), UNIT).unwrap_err();
    assert_eq!(
        error.to_string(),
        "its size, 4608 bytes, is not a multiple of 4096, the unit in which it is read and written"
    );
    for unit in [0, 1, 256, 768, 8192, u32::MAX] {
        let error = AlignedBackend::new(picky(), unit).unwrap_err();
        let expected = format!("it is to be read and written in units of {unit} bytes");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn zeros_that_have_to_be_written_go_by_whole_units() {
    let (disk, bytes) = disk(u64::MAX);
    disk.write_zeroes(512, ROOM as u64, false).unwrap();
    let mut expected = content();
    expected[512..512 + ROOM].fill(0);
    assert!(*bytes.bytes() == expected);
}
