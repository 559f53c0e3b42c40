use std::sync::Mutex;
use std::thread::sleep;

use super::*;
use crate::virtio::block::backend::{MemoryBackend, TransferError};

/// A disk that is as slow as one likes, and remembers what was read.
struct Slow {
    disk: MemoryBackend,
    time: Duration,
    positions: Mutex<Vec<u64>>,
}

impl Slow {
    fn new(size: usize, time: Duration) -> Self {
        let disk = MemoryBackend::new(vec![0; size]);
        let positions = Mutex::default();
        Self {
            disk,
            time,
            positions,
        }
    }
}

impl BlockBackend for Slow {
    fn capacity(&self) -> u64 {
        self.disk.capacity()
    }

    fn read_at(&self, slices: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        sleep(self.time);
        self.positions.lock().unwrap().push(position);
        self.disk.read_at(slices, position)
    }

    fn write_at(&self, _: &[VolatileSlice<'_>], _: u64) -> Result<(), TransferError> {
        panic!("a trial writes nothing")
    }

    fn flush(&self) -> io::Result<()> {
        panic!("a trial flushes nothing")
    }
}

#[test]
fn a_disk_in_memory_answers_at_once() {
    let disk = MemoryBackend::new(vec![0; 1 << 20]);
    // Somebody else may have the CPU.
    let prompt = (0..100).find(|_| Trial::new(&disk).unwrap().is_prompt());
    assert!(prompt.is_some());
}

#[test]
fn a_disk_that_takes_its_time_is_read_for_a_millisecond_and_not_found_prompt() {
    let disk = Slow::new(1 << 20, Duration::from_micros(100));
    let trial = Trial::new(&disk).unwrap();
    assert!(!trial.is_prompt());
    assert!((1..=10).contains(&trial.reads), "{trial:?}");
    let one = Trial::new(&Slow::new(1 << 20, Duration::from_millis(5))).unwrap();
    assert_eq!(one.reads, 1);
    assert!(!one.is_prompt());
}

#[test]
fn the_first_reads_are_all_over_the_disk_as_all_of_them_are() {
    let disk = Slow::new(1 << 20, Duration::ZERO);
    while disk.positions.lock().unwrap().len() < READS as usize {
        disk.positions.lock().unwrap().clear();
        Trial::new(&disk).unwrap();
    }
    let mut positions = disk.positions.into_inner().unwrap();
    assert!(positions[1].abs_diff(positions[0]) > 400 << 10);
    assert!(positions[2].abs_diff(positions[1]) > 200 << 10);
    positions.sort_unstable();
    positions.dedup();
    assert_eq!(positions.len(), READS as usize);
    assert_eq!(positions[0], 0);
    assert!(positions[READS as usize - 1] > 900 << 10);
}

#[test]
fn a_disk_of_a_sector_is_read_as_well_and_one_that_fails_is_told_of() {
    let trial = Trial::new(&MemoryBackend::new(vec![0; 512])).unwrap();
    assert!(trial.reads > 0);
    struct Broken;
    impl BlockBackend for Broken {
        fn capacity(&self) -> u64 {
            8
        }
        fn read_at(&self, _: &[VolatileSlice<'_>], _: u64) -> Result<(), TransferError> {
            Err(io::Error::from_raw_os_error(libc::EIO).into())
        }
        fn write_at(&self, _: &[VolatileSlice<'_>], _: u64) -> Result<(), TransferError> {
            panic!("a trial writes nothing")
        }
        fn flush(&self) -> io::Result<()> {
            panic!("a trial flushes nothing")
        }
    }
    let error = Trial::new(&Broken).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
}
