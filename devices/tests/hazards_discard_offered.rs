//! What the device offers and tells of discards and write-zeroes, and what becomes of them where they
//! are not offered or not negotiated, and where the host fails.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;

use common::clear::*;
use common::*;
use devices::BusDevice;
use devices::virtio::block::backend::FileBackend;
use devices::virtio::block::{BlockBackend, CLEAR_SECTORS_MAX, CLEAR_SEG_MAX};
use spec::Features;
use spec::block::config;
use spec::block::request_type::{DISCARD, WRITE_ZEROES};
use spec::block::segment_flags::UNMAP;
use spec::mmio::CONFIG_OFFSET;

/// The fields of the configuration space that are about discards and write-zeroes, and whether it
/// may unmap.
fn limits(driver: &mut Driver) -> ([u32; 5], u8) {
    let fields = [
        config::MAX_DISCARD_SECTORS,
        config::MAX_DISCARD_SEG,
        config::DISCARD_SECTOR_ALIGNMENT,
        config::MAX_WRITE_ZEROES_SECTORS,
        config::MAX_WRITE_ZEROES_SEG,
    ]
    .map(|offset| {
        let mut data = [0; 4];
        driver.transport.read(CONFIG_OFFSET + offset, &mut data);
        u32::from_le_bytes(data)
    });
    let mut may_unmap = [0];
    let offset = CONFIG_OFFSET + config::WRITE_ZEROES_MAY_UNMAP;
    driver.transport.read(offset, &mut may_unmap);
    (fields, may_unmap[0])
}

const BOTH: Features = Features::VIRTIO_BLK_F_DISCARD.union(Features::VIRTIO_BLK_F_WRITE_ZEROES);

#[test]
fn limits_are_never_zero_where_the_feature_is_offered() {
    let mut driver = Driver::new(Mode::Trap);
    assert!(driver.offered().contains(BOTH));
    let (sectors, segments) = (CLEAR_SECTORS_MAX, CLEAR_SEG_MAX);
    assert_eq!(
        limits(&mut driver),
        ([sectors, segments, 1, sectors, segments], 1)
    );
    assert!(sectors > 0 && segments > 0);
}

#[test]
fn a_disk_that_cannot_discard_offers_to_write_zeroes_alone() {
    let (mut driver, _) = Driver::hooked(Mode::Trap);
    let offered = driver.offered() & BOTH;
    assert_eq!(offered, Features::VIRTIO_BLK_F_WRITE_ZEROES);
    let (sectors, segments) = (CLEAR_SECTORS_MAX, CLEAR_SEG_MAX);
    assert_eq!(limits(&mut driver), ([0, 0, 0, sectors, segments], 0));

    // It does so by writing.
    driver.initialize(PLAIN | offered);
    let mut expected = disk_of(&driver);
    expected[3 * 512..9 * 512].fill(0);
    for flags in [0, UNMAP] {
        let answer = clear(&mut driver, WRITE_ZEROES, &[segment(3, 6, flags)]);
        assert_eq!(answer, OK);
        assert!(disk_of(&driver) == expected);
    }
    assert_eq!(clear(&mut driver, DISCARD, &[segment(3, 6, 0)]), UNSUPP);
}

#[test]
fn a_read_only_disk_offers_neither_and_answers_ioerr_to_both() {
    in_every_mode(|mode| {
        let mut driver = Driver::read_only(mode);
        assert_eq!(driver.offered() & BOTH, Features::empty());
        assert_eq!(limits(&mut driver), ([0; 5], 0));
        let before = disk_of(&driver);
        for kind in [DISCARD, WRITE_ZEROES] {
            assert_eq!(clear(&mut driver, kind, &[segment(0, 1, 0)]), IOERR);
        }
        assert!(disk_of(&driver) == before);
        driver.assert_serves();
    });
}

#[test]
fn what_the_driver_has_not_negotiated_is_unsupp() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    let before = disk_of(&driver);
    for kind in [DISCARD, WRITE_ZEROES] {
        assert_eq!(clear(&mut driver, kind, &[segment(0, 1, 0)]), UNSUPP);
    }
    assert!(disk_of(&driver) == before);
    // Nor is what was negotiated before the last reset.
    driver.initialize(CLEARING);
    assert_eq!(clear(&mut driver, DISCARD, &[segment(0, 1, 0)]), OK);
    driver.initialize(PLAIN);
    assert_eq!(clear(&mut driver, DISCARD, &[segment(0, 1, 0)]), UNSUPP);
}

// The host

#[test]
fn a_host_that_fails_gives_ioerr_and_the_disk_goes_on() {
    let (mut driver, hooks) = Driver::hooked(Mode::Trap);
    driver.initialize(CLEARING - Features::VIRTIO_BLK_F_DISCARD);
    hooks.lock().unwrap().fail_transfer = Some((0, io::ErrorKind::StorageFull));
    let answer = clear(&mut driver, WRITE_ZEROES, &[segment(0, 1, 0)]);
    assert_eq!(answer, IOERR);
    hooks.lock().unwrap().fail_transfer = None;
    driver.assert_serves();
}

#[test]
fn what_is_discarded_in_an_image_is_no_longer_allocated() {
    in_every_mode(|mode| {
        let mut image = tempfile::NamedTempFile::new().unwrap();
        image.write_all(&[0x77; 1 << 20]).unwrap();
        image.as_file().sync_all().unwrap();
        let blocks = || fs::metadata(image.path()).unwrap().blocks();
        let allocated = blocks();
        let backend = FileBackend::open(image.path(), false).unwrap();
        assert_eq!(blocks(), allocated, "opening it has changed it");
        if backend.discard_granularity().is_none() {
            println!("the file system of temporary files has no holes");
            return;
        }
        let mut driver = Driver::with_backend(mode, false, default_disk(), Box::new(backend));
        driver.initialize(CLEARING);
        assert_eq!(clear(&mut driver, DISCARD, &[segment(0, 1024, 0)]), OK);
        assert_eq!(blocks(), allocated - 1024);
        let unmap = [segment(1024, 512, UNMAP)];
        assert_eq!(clear(&mut driver, WRITE_ZEROES, &unmap), OK);
        assert_eq!(blocks(), allocated - 1536);
        let keep = [segment(1536, 256, 0)];
        assert_eq!(clear(&mut driver, WRITE_ZEROES, &keep), OK);
        assert_eq!(blocks(), allocated - 1536);

        let mut expected = vec![0x77; 1 << 20];
        expected[..1792 * 512].fill(0);
        assert!(fs::read(image.path()).unwrap() == expected);
    });
}
