use std::fs::{self, OpenOptions};

use super::super::file::tests::image;
use super::*;

/// Whether the file may be read and written past the cache.
fn is_direct(file: &File) -> bool {
    // SAFETY: a system call on an open file, without pointers.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    flags & libc::O_DIRECT != 0
}

/// A disk of two units on a file system that has direct I/O; `None` where it has none.
fn disk() -> Option<(
    tempfile::TempDir,
    std::path::PathBuf,
    AlignedBackend<FileBackend>,
)> {
    let (dir, path) = image(&[7; 2 * UNIT_UNTOLD as usize]);
    match FileBackend::open_direct(&path, false) {
        Ok(disk) => Some((dir, path, disk)),
        Err(error) => {
            eprintln!("not tested: {error}");
            None
        }
    }
}

#[test]
fn sectors_at_any_place_in_memory_are_read_and_written_past_the_cache() {
    let Some((_dir, path, disk)) = disk() else {
        return;
    };
    let mut memory = [0; 1536];
    for offset in [0, 1, 513] {
        let buffer = &mut memory[offset..offset + 512];
        buffer.fill(offset as u8);
        disk.write_at(&[VolatileSlice::from(&mut *buffer)], 1024)
            .unwrap();
        let mut expected = [7; 2 * UNIT_UNTOLD as usize];
        expected[1024..1536].fill(offset as u8);
        assert!(fs::read(&path).unwrap() == expected);
        buffer.fill(0xee);
        disk.read_at(&[VolatileSlice::from(&mut *buffer)], 1024)
            .unwrap();
        assert!(buffer.iter().all(|byte| *byte == offset as u8));
    }
    disk.flush().unwrap();
}

#[test]
fn holes_read_as_zeros_and_zeros_are_made_at_any_sector() {
    let Some((_dir, path, disk)) = disk() else {
        return;
    };
    disk.write_zeroes(512, 1024, true).unwrap();
    disk.write_zeroes(3072, 512, false).unwrap();
    let mut expected = [7; 2 * UNIT_UNTOLD as usize];
    expected[512..1536].fill(0);
    expected[3072..3584].fill(0);
    let mut found = expected.map(|_| 1);
    disk.read_at(&[VolatileSlice::from(&mut found[..])], 0)
        .unwrap();
    assert!(found == expected);
    assert!(fs::read(&path).unwrap() == expected);
}

#[test]
fn an_image_that_is_cut_short_is_not_made_longer_again() {
    let Some((_dir, path, disk)) = disk() else {
        return;
    };
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(u64::from(UNIT_UNTOLD)).unwrap();
    let mut sector = [1; 512];
    let position = u64::from(UNIT_UNTOLD);
    let slices = [VolatileSlice::from(&mut sector[..])];
    disk.write_at(&slices, position).unwrap_err();
    let error = disk.read_at(&slices, position).unwrap_err();
    assert_eq!(error.transferred, 0);
    assert_eq!(fs::metadata(&path).unwrap().len(), position);
}

#[test]
fn only_a_disk_that_asks_for_it_passes_the_cache_by() {
    let (_dir, path) = image(&[7; UNIT_UNTOLD as usize]);
    let file = File::open(&path).unwrap();
    assert!(!is_direct(&file));
    let through_cache = FileBackend::open(&path, true).unwrap();
    assert!(!is_direct(through_cache.file().unwrap()));
    if set_direct(&file).is_ok() {
        assert!(is_direct(&file));
        let unit = unit(&file).unwrap();
        assert!(unit.is_power_of_two() && (512..=UNIT_UNTOLD).contains(&unit));
    }
}

#[test]
fn a_file_system_without_direct_io_is_told_of() {
    // Files of sysfs are of the size of a page, whatever is in them.
    let path = Path::new("/sys/kernel/uevent_seqnum");
    let error = FileBackend::open_direct(path, true).unwrap_err();
    let expected = "cannot use /sys/kernel/uevent_seqnum as a disk image by direct I/O: its file \
                    system has no direct I/O (O_DIRECT) for it";
    assert_eq!(error.to_string(), expected);
}
