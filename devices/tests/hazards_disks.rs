//! Disks that fail, and disks that are files: which status a request ends with, what used.len
//! counts, and when what was written is stable.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use common::backend::Hooks;
use common::*;
use devices::virtio::block::backend::{FileBackend, MemoryBackend};
use devices::{DeviceError, Response};
use spec::Features;
use spec::block::{request_type, status};
use spec::mmio::Register;

/// A driver of a disk with hooks, live with `features`.
fn with_hooks(mode: Mode, features: Features) -> (Driver, Arc<Mutex<Hooks>>) {
    let (mut driver, hooks) = Driver::hooked(mode);
    driver.initialize(features);
    (driver, hooks)
}

fn disk_of(driver: &Driver) -> Vec<u8> {
    driver.disk.bytes().clone()
}

// Disks that fail

#[test]
fn flush_reaches_the_disk_and_its_error_is_ioerr() {
    in_every_mode(|mode| {
        let (mut driver, hooks) = with_hooks(mode, PLAIN);
        assert_eq!(driver.request(request_type::FLUSH, 0, &[]), (1, status::OK));
        assert_eq!(hooks.lock().unwrap().flushes, 1);
        hooks.lock().unwrap().fail_flush = Some(io::ErrorKind::StorageFull);
        assert_eq!(
            driver.request(request_type::FLUSH, 0, &[]),
            (1, status::IOERR)
        );
        hooks.lock().unwrap().fail_flush = None;
        assert_eq!(driver.request(request_type::FLUSH, 0, &[]), (1, status::OK));
        driver.assert_serves();
    });
}

#[test]
fn data_with_a_flush_has_no_meaning() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    for data in [readable(DATA, 100), writable(DATA, 100)] {
        assert_eq!(
            driver.request(request_type::FLUSH, 0, &[data]),
            (1, status::OK)
        );
    }
}

#[test]
fn without_flush_negotiated_each_write_is_stable_before_it_completes() {
    let without = Features::VIRTIO_F_VERSION_1;
    let (mut driver, hooks) = with_hooks(Mode::Trap, without);
    let data = [readable(DATA, 512)];
    assert_eq!(driver.request(request_type::OUT, 0, &data), (1, status::OK));
    assert_eq!(hooks.lock().unwrap().flushes, 1);
    hooks.lock().unwrap().fail_flush = Some(io::ErrorKind::StorageFull);
    assert_eq!(
        driver.request(request_type::OUT, 0, &data),
        (1, status::IOERR)
    );

    // And with it, only when the driver asks; also when an earlier driver could not.
    hooks.lock().unwrap().fail_flush = None;
    driver.initialize(PLAIN);
    hooks.lock().unwrap().flushes = 0;
    assert_eq!(driver.request(request_type::OUT, 0, &data), (1, status::OK));
    assert_eq!(hooks.lock().unwrap().flushes, 0);
}

#[test]
fn a_read_that_fails_ends_with_ioerr_and_used_len_counts_the_bytes_written_to_memory() {
    in_every_mode(|mode| {
        for kind in [io::ErrorKind::Other, io::ErrorKind::UnexpectedEof] {
            for bytes in [0, 1, 300] {
                let (mut driver, hooks) = with_hooks(mode, PLAIN);
                driver.fill(DATA, 512, 0x11);
                hooks.lock().unwrap().fail_transfer = Some((bytes, kind));
                let answer = driver.request(request_type::IN, 2, &[writable(DATA, 512)]);
                assert_eq!(answer, (bytes as u32 + 1, status::IOERR));
                assert_eq!(driver.bytes(DATA, bytes), sector_content(2)[..bytes]);
                assert_eq!(
                    driver.bytes(DATA + bytes as u64, 512 - bytes),
                    vec![0x11; 512 - bytes]
                );
                hooks.lock().unwrap().fail_transfer = None;
                driver.assert_serves();
            }
        }
    });
}

#[test]
fn a_write_that_fails_ends_with_ioerr_and_used_len_1() {
    let (mut driver, hooks) = with_hooks(Mode::Trap, PLAIN);
    for kind in [io::ErrorKind::StorageFull, io::ErrorKind::WriteZero] {
        hooks.lock().unwrap().fail_transfer = Some((300, kind));
        let answer = driver.request(request_type::OUT, 2, &[readable(DATA, 512)]);
        assert_eq!(answer, (1, status::IOERR));
    }
    hooks.lock().unwrap().fail_transfer = None;
    driver.assert_serves();
}

// A real file

/// A driver of an image file with this content.
fn with_file(mode: Mode, read_only: bool, content: &[u8]) -> (Driver, tempfile::NamedTempFile) {
    let mut image = tempfile::NamedTempFile::new().unwrap();
    image.write_all(content).unwrap();
    let backend = FileBackend::open(image.path(), read_only).unwrap();
    let disk = MemoryBackend::new(content.to_vec());
    let mut driver = Driver::with_backend(mode, read_only, disk, Box::new(backend));
    driver.initialize(PLAIN);
    (driver, image)
}

#[test]
fn what_is_written_is_in_the_file_and_what_is_in_the_file_is_read() {
    in_every_mode(|mode| {
        let content = disk_of(&Driver::new(mode));
        let (mut driver, image) = with_file(mode, false, &content);
        driver.assert_serves();
        driver.fill(DATA, 700, 0xa5);
        driver.fill(BORDER - 10, 324, 0x5a);
        let data = [readable(DATA, 700), readable(BORDER - 10, 324)];
        assert_eq!(
            driver.request(request_type::OUT, 60, &data),
            (1, status::OK)
        );
        assert_eq!(driver.request(request_type::FLUSH, 0, &[]), (1, status::OK));
        let mut expected = content;
        expected[60 * 512..][..700].fill(0xa5);
        expected[60 * 512 + 700..62 * 512].fill(0x5a);
        assert!(std::fs::read(image.path()).unwrap() == expected);
        driver.assert_serves();
    });
}

#[test]
fn an_image_that_is_shorter_than_it_was_gives_ioerr_and_what_there_is() {
    let content = disk_of(&Driver::new(Mode::Trap));
    let (mut driver, image) = with_file(Mode::Trap, false, &content);
    let file: &File = image.as_file();
    file.set_len(10 * 512 + 100).unwrap();
    let answer = driver.request(request_type::IN, 9, &[writable(DATA, 1024)]);
    assert_eq!(answer, (512 + 100 + 1, status::IOERR));
    assert_eq!(driver.bytes(DATA, 612), content[9 * 512..][..612]);
    driver.assert_serves();
}

#[test]
fn a_read_only_image_is_read_flushed_and_not_written() {
    let content = disk_of(&Driver::new(Mode::Trap));
    let (mut driver, image) = with_file(Mode::Trap, true, &content);
    driver.assert_serves();
    assert_eq!(driver.request(request_type::FLUSH, 0, &[]), (1, status::OK));
    let answer = driver.request(request_type::OUT, 0, &[readable(DATA, 512)]);
    assert_eq!(answer, (1, status::IOERR));
    assert!(std::fs::read(image.path()).unwrap() == content);
}

// A host that fails

#[test]
fn rings_that_are_not_understood_are_left_alone_when_the_interrupt_fails_as_well() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    // What this reads into the available ring moves its index far ahead once the chain is served.
    driver.header(request_type::IN, 1);
    let into_the_ring = [
        readable(HEADER, 16),
        writable(AVAIL, 512),
        writable(STATUS, 1),
    ];
    driver.chain_at(0, &into_the_ring);
    driver.edges.fail.store(true, Ordering::SeqCst);
    driver.offer(0);
    let response = driver.try_write(Register::QueueNotify, 0);
    assert!(
        matches!(response, Response::Failed(DeviceError::Interrupt(_))),
        "{response:?}"
    );
    assert_eq!(driver.used_idx(), 1);

    driver.edges.fail.store(false, Ordering::SeqCst);
    driver.offer(0);
    let before = driver.snapshot();
    driver.notify();
    assert!(driver.snapshot() == before, "the rings were touched");
    driver.initialize(PLAIN);
    driver.assert_serves();
}

#[test]
fn an_interrupt_that_fails_ends_the_machine_in_every_mode_and_not_only_the_thread() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, PLAIN);
        driver.header(request_type::FLUSH, 0);
        driver.chain_at(0, &[readable(HEADER, 16), writable(STATUS, 1)]);
        driver.edges.fail.store(true, Ordering::SeqCst);
        driver.offer(0);
        let failure = match mode {
            Mode::Trap | Mode::Mapped => match driver.try_write(Register::QueueNotify, 0) {
                Response::Failed(error) => error,
                other => panic!("{other:?}"),
            },
            Mode::IoEventFd | Mode::Poll(_) => {
                driver.notify();
                driver.failures.recv_timeout(LIMIT).unwrap()
            }
        };
        assert!(matches!(failure, DeviceError::Interrupt(_)), "{failure}");

        // The disk is not lost with the thread.
        driver.edges.fail.store(false, Ordering::SeqCst);
        driver.initialize(PLAIN);
        driver.assert_serves();
        assert!(driver.failures.try_recv().is_err());
    });
}
