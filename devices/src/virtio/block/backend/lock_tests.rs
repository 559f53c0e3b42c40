use std::fs::OpenOptions;
use std::io::Write;

use tempfile::NamedTempFile;

use super::*;

/// Longer than the bytes that QEMU locks are many.
fn image() -> NamedTempFile {
    let mut image = NamedTempFile::new().unwrap();
    image.write_all(&[0; 512]).unwrap();
    image
}

fn open(image: &NamedTempFile, read_only: bool) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(!read_only);
    options.open(image.path()).unwrap()
}

/// The image as this VMM uses it.
fn locked(image: &NamedTempFile, read_only: bool) -> Result<File, LockError> {
    let file = open(image, read_only);
    lock(&file, read_only)?;
    Ok(file)
}

fn is_in_use(locked: &Result<File, LockError>) -> bool {
    matches!(locked, Err(LockError::InUse("fcntl")))
}

#[test]
fn readers_share_the_file_and_a_writer_has_it_alone() {
    let image = image();
    let readers = [locked(&image, true).unwrap(), locked(&image, true).unwrap()];
    assert!(locked(&image, false).is_err());
    drop(readers);
    let writer = locked(&image, false).unwrap();
    assert!(locked(&image, true).is_err());
    assert!(locked(&image, false).is_err());
    drop(writer);
    locked(&image, false).unwrap();
}

/// The image as QEMU uses it: with the permissions `has`, leaving others those in `shares`.
fn as_qemu(image: &NamedTempFile, has: u8, shares: u8) -> Result<File, LockError> {
    let file = open(image, false);
    let permissions = |set: u8| (0..4).filter(move |n| set & 1 << n != 0);
    let mine = permissions(has).map(|n| 100 + n);
    for byte in mine.chain(permissions(!shares).map(|n| 200 + n)) {
        set(&file, libc::F_RDLCK, bytes(byte, 1))?;
    }
    let counterparts = permissions(has).map(|n| 200 + n);
    for byte in counterparts.chain(permissions(!shares).map(|n| 100 + n)) {
        require_free(&file, bytes(byte, 1))?;
    }
    Ok(file)
}

const READ: u8 = 1;
const WRITE: u8 = 2;
const REWRITE: u8 = 4;
const RESIZE: u8 = 8;

#[test]
fn a_reader_shares_the_file_with_a_reader_of_qemu_s() {
    let image = image();
    let ours = locked(&image, true).unwrap();
    let theirs = as_qemu(&image, READ, READ | REWRITE).unwrap();
    drop(ours);
    let ours = locked(&image, true).unwrap();
    drop((ours, theirs));
}

#[test]
fn neither_has_a_file_that_the_other_writes() {
    let image = image();
    let readers_of_qemu = [
        (READ, READ | REWRITE),
        (READ, READ | WRITE | REWRITE | RESIZE),
    ];
    let writers_of_qemu = [
        (READ | WRITE, READ | REWRITE),
        (READ | WRITE | RESIZE, READ | WRITE | REWRITE),
        (WRITE, READ | WRITE | REWRITE | RESIZE),
        (READ | RESIZE, READ | WRITE | REWRITE | RESIZE),
        (READ, 0),
    ];
    for (has, shares) in readers_of_qemu.into_iter().chain(writers_of_qemu) {
        let ours = locked(&image, false).unwrap();
        assert!(as_qemu(&image, has, shares).is_err(), "{has} {shares}");
        drop(ours);
        let theirs = as_qemu(&image, has, shares).unwrap();
        assert!(is_in_use(&locked(&image, false)), "{has} {shares}");
        drop(theirs);
    }
    for (has, shares) in writers_of_qemu {
        let ours = locked(&image, true).unwrap();
        assert!(as_qemu(&image, has, shares).is_err(), "{has} {shares}");
        drop(ours);
        let theirs = as_qemu(&image, has, shares).unwrap();
        assert!(is_in_use(&locked(&image, true)), "{has} {shares}");
        drop(theirs);
    }
}
