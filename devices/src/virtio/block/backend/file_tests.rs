use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::super::vectored::SEGMENTS_MAX;
use super::super::write_zeros;
use super::*;

pub(in super::super) fn image(content: &[u8]) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("disk.img");
    fs::write(&path, content).unwrap();
    (dir, path)
}

fn refusal(path: &Path) -> String {
    let read_only = FileBackend::open(path, true).unwrap_err().to_string();
    assert_eq!(
        FileBackend::open(path, false).unwrap_err().to_string(),
        read_only
    );
    read_only
}

#[test]
fn an_image_has_as_many_sectors_as_its_size_says() {
    let (_dir, path) = image(&[0; 3 * 512]);
    assert_eq!(FileBackend::open(&path, false).unwrap().capacity(), 3);
}

#[test]
fn an_image_whose_size_is_no_multiple_of_512_is_refused() {
    for size in [1, 511, 513, 1000] {
        let (_dir, path) = image(&vec![0; size]);
        let expected = format!(
            "cannot use {} as a disk image: its size, {size} bytes, is not a multiple of 512",
            path.display()
        );
        assert_eq!(refusal(&path), expected);
    }
}

#[test]
fn an_empty_image_is_refused() {
    let (_dir, path) = image(&[]);
    let expected = format!("cannot use {} as a disk image: it is empty", path.display());
    assert_eq!(refusal(&path), expected);
}

#[test]
fn a_missing_image_is_refused() {
    let (dir, _) = image(&[]);
    let path = dir.path().join("nothing");
    let expected = format!(
        "cannot open the disk image {}: No such file or directory (os error 2)",
        path.display()
    );
    assert_eq!(refusal(&path), expected);
}

#[test]
fn what_is_no_regular_file_is_refused_for_what_it_is_without_waiting() {
    let dir = TempDir::new().unwrap();
    let fifo = dir.path().join("fifo");
    let name = CString::new(fifo.as_os_str().as_bytes()).unwrap();
    // SAFETY: `name` is a string that ends with NUL.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    for (path, kind) in [
        (dir.path(), "a directory"),
        (&fifo, "a FIFO"),
        (&socket, "a socket"),
        (Path::new("/dev/null"), "a character device"),
    ] {
        let expected = format!(
            "cannot use {} as a disk image: it is {kind}, not a regular file or a block device",
            path.display()
        );
        assert_eq!(refusal(path), expected);
    }
}

#[test]
fn an_image_in_use_by_a_writer_is_refused_and_one_in_use_by_readers_to_writers() {
    let (_dir, path) = image(&[0; 512]);
    let in_use = format!(
        "cannot use {} as a disk image: it is in use (locked by flock)",
        path.display()
    );
    let writer = FileBackend::open(&path, false).unwrap();
    assert_eq!(refusal(&path), in_use);
    drop(writer);

    let reader = FileBackend::open(&path, true).unwrap();
    let another = FileBackend::open(&path, true).unwrap();
    let error = FileBackend::open(&path, false).unwrap_err();
    assert_eq!(error.to_string(), in_use);
    drop((reader, another));
    FileBackend::open(&path, false).unwrap();
}

#[test]
fn a_disk_that_looks_like_another_format_is_raw() {
    let mut content = vec![0; 1024];
    content[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    let (_dir, path) = image(&content);
    let disk = FileBackend::open(&path, false).unwrap();
    assert_eq!(disk.capacity(), 2);
    let mut bytes = [0; 8];
    disk.read_at(&[VolatileSlice::from(&mut bytes[..])], 0)
        .unwrap();
    assert_eq!(bytes, content[..8]);
}

#[test]
fn more_segments_than_one_call_takes_are_all_transferred() {
    let count = 2 * SEGMENTS_MAX + 100;
    let size = count.next_multiple_of(512);
    let content: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
    let (_dir, path) = image(&content);
    let disk = FileBackend::open(&path, false).unwrap();

    let mut bytes = vec![0; count];
    let slices: Vec<_> = bytes.chunks_mut(1).map(VolatileSlice::from).collect();
    disk.read_at(&slices, 0).unwrap();
    assert_eq!(bytes, content[..count]);

    bytes.reverse();
    let slices: Vec<_> = bytes.chunks_mut(1).map(VolatileSlice::from).collect();
    disk.write_at(&slices, 0).unwrap();
    disk.flush().unwrap();
    let written = fs::read(&path).unwrap();
    assert_eq!(
        (&written[..count], &written[count..]),
        (&bytes[..], &content[count..])
    );
}

#[test]
fn a_read_past_the_end_of_the_file_says_how_far_it_came() {
    let (_dir, path) = image(&[7; 1024]);
    let disk = FileBackend::open(&path, true).unwrap();
    let (mut a, mut b) = ([0; 300], [0; 500]);
    let slices = [
        VolatileSlice::from(&mut a[..]),
        VolatileSlice::from(&mut b[..]),
    ];
    let error = disk.read_at(&slices, 512).unwrap_err();
    assert_eq!(error.transferred, 512);
    assert_eq!(error.source.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(
        (a, &b[..212], &b[212..]),
        ([7; 300], &[7; 212][..], &[0; 288][..])
    );
}

#[test]
fn a_write_that_the_host_refuses_is_an_error() {
    let (_dir, path) = image(&[0; 512]);
    let disk = FileBackend::open(&path, true).unwrap();
    let mut bytes = [1; 512];
    let error = disk
        .write_at(&[VolatileSlice::from(&mut bytes[..])], 0)
        .unwrap_err();
    assert_eq!(
        (error.transferred, error.source.raw_os_error()),
        (0, Some(libc::EBADF))
    );
    assert_eq!(fs::read(&path).unwrap(), [0; 512]);
}

#[test]
fn a_flush_is_asked_of_the_host_and_its_error_is_that_of_the_flush() {
    // A pipe is a file that no host can flush.
    let (reader, _writer) = io::pipe().unwrap();
    let disk = FileBackend {
        file: OwnedFd::from(reader).into(),
        capacity: 1,
        medium: Medium::File(Regular {
            unit: 512,
            has_holes: false,
        }),
        flush_failed: Mutex::new(false),
    };
    let error = disk.flush().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}

pub(in super::super) fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks()
}

/// Allocates `len` bytes to a file that is shorter; false where its file system cannot.
pub(in super::super) fn preallocate(file: &File, len: libc::off_t) -> bool {
    // SAFETY: a system call on an open file.
    unsafe { libc::fallocate(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, 0, len) == 0 }
}

/// What is done to a part of an image.
type Clear = fn(&FileBackend, u64, u64) -> io::Result<()>;

const CLEARS: [Clear; 3] = [
    |disk, position, len| disk.discard(position, len),
    |disk, position, len| disk.write_zeroes(position, len, true),
    |disk, position, len| disk.write_zeroes(position, len, false),
];

#[test]
fn what_is_cleared_reads_as_zeros_and_nothing_else_changes_whatever_its_alignment() {
    // On disk, and in memory, where the file system can do less.
    for dir in [
        TempDir::new().unwrap(),
        TempDir::new_in("/dev/shm").unwrap(),
    ] {
        let path = dir.path().join("disk.img");
        for clear in CLEARS {
            for (position, len) in [(0, 512), (512, 4096), (4096, 8192), (3 * 512, 40 * 512)] {
                fs::write(&path, [7; 64 * 512]).unwrap();
                let disk = FileBackend::open(&path, false).unwrap();
                clear(&disk, position, len).unwrap();
                let mut expected = [7; 64 * 512];
                expected[position as usize..][..len as usize].fill(0);
                assert!(fs::read(&path).unwrap() == expected, "{position} {len}");
            }
        }
    }
}

#[test]
fn a_clear_of_nothing_succeeds() {
    let (_dir, path) = image(&[7; 4096]);
    let disk = FileBackend::open(&path, false).unwrap();
    for clear in CLEARS {
        clear(&disk, 0, 0).unwrap();
        clear(&disk, 4096, 0).unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), [7; 4096]);
}

#[test]
fn zeros_stay_allocated_unless_they_may_be_deallocated() {
    for dir in [
        TempDir::new().unwrap(),
        TempDir::new_in("/dev/shm").unwrap(),
    ] {
        let path = dir.path().join("disk.img");
        fs::write(&path, [7; 1 << 20]).unwrap();
        fs::File::open(&path).unwrap().sync_all().unwrap();
        let disk = FileBackend::open(&path, false).unwrap();
        if disk.discard_granularity().is_none() {
            continue;
        }
        let before = allocated(&path);
        disk.write_zeroes(0, 512 << 10, false).unwrap();
        assert_eq!(allocated(&path), before);
        disk.write_zeroes(0, 256 << 10, true).unwrap();
        assert_eq!(allocated(&path), before - 512);
        disk.discard(256 << 10, 256 << 10).unwrap();
        assert_eq!(allocated(&path), before - 1024);
    }
}

#[test]
fn opening_an_image_changes_nothing() {
    // One that ends within a block, and one with blocks past its end.
    for (len, more) in [(5 * 512, 0), (8192, 1 << 20)] {
        let (_dir, path) = image(&vec![7; len]);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        if more > 0 && !preallocate(&file, more) {
            continue;
        }
        file.sync_all().unwrap();
        let state = || {
            let metadata = fs::metadata(&path).unwrap();
            (
                metadata.blocks(),
                metadata.len(),
                metadata.modified().unwrap(),
            )
        };
        let before = state();
        FileBackend::open(&path, false).unwrap();
        assert_eq!(state(), before);
        assert_eq!(fs::read(&path).unwrap(), vec![7; len]);
    }
}

#[test]
fn an_image_that_cannot_be_written_cannot_be_cleared() {
    let (_dir, path) = image(&[7; 4096]);
    let disk = FileBackend::open(&path, true).unwrap();
    assert_eq!(disk.discard_granularity(), None);
    for clear in CLEARS {
        let error = clear(&disk, 0, 512).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }
    assert_eq!(fs::read(&path).unwrap(), [7; 4096]);
}

#[test]
fn the_unit_of_holes_is_that_in_which_the_file_system_allocates() {
    let (_dir, path) = image(&[7; 4096]);
    let disk = FileBackend::open(&path, false).unwrap();
    let unit = fs::metadata(&path).unwrap().blksize();
    assert_eq!(u64::from(disk.topology().physical_block), unit);
    if let Some(granularity) = disk.discard_granularity() {
        assert_eq!(u64::from(granularity), unit);
    }
}

#[test]
fn zeros_that_are_written_by_hand_are_as_many_as_asked_for() {
    let len = 2 * super::super::ZEROS_PIECE + 1536;
    let content = vec![7; len + 2 * 512];
    let (_dir, path) = image(&content);
    let disk = FileBackend::open(&path, false).unwrap();
    write_zeros(&disk, 512, len as u64).unwrap();
    let mut expected = content;
    expected[512..512 + len].fill(0);
    assert!(fs::read(&path).unwrap() == expected);
}

/// The host has forgotten by then what it could not write.
#[test]
fn after_a_flush_that_failed_none_succeeds_and_reads_and_writes_do() {
    let (_dir, path) = image(&[0; 512]);
    let mut disk = FileBackend::open(&path, false).unwrap();
    disk.flush().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    let file = std::mem::replace(&mut disk.file, OwnedFd::from(reader).into());
    disk.flush().unwrap_err();
    disk.file = file;
    for _ in 0..2 {
        let error = disk.flush().unwrap_err();
        assert_eq!(error.to_string(), "an earlier flush failed");
        let mut bytes = [7; 512];
        disk.write_at(&[VolatileSlice::from(&mut bytes[..])], 0)
            .unwrap();
        let mut bytes = [0; 512];
        disk.read_at(&[VolatileSlice::from(&mut bytes[..])], 0)
            .unwrap();
        assert_eq!(bytes, [7; 512]);
    }
    drop(disk);
    FileBackend::open(&path, false).unwrap().flush().unwrap();
}
