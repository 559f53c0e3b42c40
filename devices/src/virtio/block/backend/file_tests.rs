use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn image(content: &[u8]) -> (TempDir, PathBuf) {
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
            "cannot use {} as a disk image: it is {kind}, not a regular file",
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
    let mut disk = FileBackend::open(&path, false).unwrap();
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
    let mut disk = FileBackend::open(&path, false).unwrap();

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
    let mut disk = FileBackend::open(&path, true).unwrap();
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
    let mut disk = FileBackend::open(&path, true).unwrap();
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
fn a_transfer_of_nothing_succeeds() {
    let (_dir, path) = image(&[0; 512]);
    let mut disk = FileBackend::open(&path, false).unwrap();
    disk.read_at(&[], 512).unwrap();
    disk.write_at(&[], 0).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_transfer_goes_on_at_the_byte_where_it_was_cut(
        lengths in prop::collection::vec(0..9_usize, 0..20),
        skip in 0..200_usize,
    ) {
        let mut buffers: Vec<_> = lengths.iter().map(|len| vec![0_u8; *len]).collect();
        let bytes: Vec<usize> = buffers
            .iter()
            .flat_map(|buffer| buffer.iter().map(|byte| std::ptr::from_ref(byte) as usize))
            .collect();
        let slices: Vec<_> = buffers.iter_mut().map(|buffer| VolatileSlice::from(&mut buffer[..])).collect();
        let mut segments = Segments::default();
        let left: Vec<usize> = segments
            .after(skip as u64, &slices)
            .iter()
            .flat_map(|segment| (0..segment.iov_len).map(|i| segment.iov_base as usize + i))
            .collect();
        prop_assert_eq!(left, &bytes[skip.min(bytes.len())..]);
    }
}
