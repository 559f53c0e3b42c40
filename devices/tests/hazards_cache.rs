//! The mode of the cache: when a write must be on stable storage, what the driver can do about it,
//! and what it cannot.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use backend::Hooks;
use common::*;
use devices::BusDevice;
use spec::Features;
use spec::block::{Segment, config, request_type, status};
use spec::mmio::CONFIG_OFFSET;

const WCE: Features = Features::VIRTIO_BLK_F_CONFIG_WCE;
const FIELD: u64 = CONFIG_OFFSET + config::WRITEBACK;

/// A driver of a disk whose cache begins in this mode, and what counts its flushes.
fn driver(mode: Mode, writeback: bool) -> (Driver, Arc<Mutex<Hooks>>) {
    let (backend, hooks) = backend::hooked();
    let disk = backend.disk.clone();
    let driver = Driver::with_block(mode, false, disk, Box::new(backend), |block| {
        block.with_writeback(writeback)
    });
    (driver, hooks)
}

fn writeback(driver: &mut Driver) -> u8 {
    let mut data = [0];
    driver.read_at(FIELD, &mut data);
    data[0]
}

fn set_writeback(driver: &mut Driver, value: u8) {
    driver.write_at(FIELD, &[value]);
}

/// Writes a sector, and returns how often the disk has been flushed for it.
#[track_caller]
fn flushes_of_a_write(driver: &mut Driver, hooks: &Mutex<Hooks>) -> u32 {
    let before = hooks.lock().unwrap().flushes;
    let answer = driver.request(request_type::OUT, 3, &[readable(DATA, 512)]);
    assert_eq!(answer, (1, status::OK));
    hooks.lock().unwrap().flushes - before
}

#[test]
fn the_driver_switches_the_cache_while_the_device_lives() {
    in_every_mode(|mode| {
        let (mut driver, hooks) = driver(mode, true);
        driver.initialize(PLAIN | WCE | Features::VIRTIO_BLK_F_WRITE_ZEROES);
        for _ in 0..3 {
            assert_eq!(writeback(&mut driver), 1);
            assert_eq!(flushes_of_a_write(&mut driver, &hooks), 0);
            set_writeback(&mut driver, 0);
            assert_eq!(writeback(&mut driver), 0);
            assert_eq!(flushes_of_a_write(&mut driver, &hooks), 1);

            let before = hooks.lock().unwrap().flushes;
            let segment = Segment {
                num_sectors: 1,
                ..Segment::default()
            };
            driver.put(DATA, &segment.to_bytes());
            let data = [readable(DATA, 16)];
            let answer = driver.request(request_type::WRITE_ZEROES, 0, &data);
            assert_eq!(answer, (1, status::OK));
            assert_eq!(hooks.lock().unwrap().flushes, before + 1);
            set_writeback(&mut driver, 1);
        }
    });
}

#[test]
fn a_write_that_cannot_be_made_stable_ends_with_ioerr_in_write_through_mode() {
    let (mut driver, hooks) = driver(Mode::Trap, true);
    driver.initialize(PLAIN | WCE);
    set_writeback(&mut driver, 0);
    hooks.lock().unwrap().fail_flush = Some(std::io::ErrorKind::Other);
    let answer = driver.request(request_type::OUT, 3, &[readable(DATA, 512)]);
    assert_eq!(answer, (1, status::IOERR));
    hooks.lock().unwrap().fail_flush = None;
    driver.assert_serves();
}

#[test]
fn the_mode_that_the_user_wants_holds_for_a_driver_that_cannot_switch_it() {
    for (begins, flushes) in [(true, 0), (false, 1)] {
        let (mut driver, hooks) = driver(Mode::Trap, begins);
        driver.initialize(PLAIN);
        assert_eq!(flushes_of_a_write(&mut driver, &hooks), flushes);
        // It has not negotiated that it may.
        set_writeback(&mut driver, u8::from(!begins));
        assert_eq!(writeback(&mut driver), begins.into());
        assert_eq!(flushes_of_a_write(&mut driver, &hooks), flushes);
    }
}

#[test]
fn a_reset_brings_back_the_mode_that_the_user_wants() {
    for begins in [true, false] {
        let (mut driver, _) = driver(Mode::Trap, begins);
        driver.initialize(PLAIN | WCE);
        set_writeback(&mut driver, u8::from(!begins));
        assert_eq!(writeback(&mut driver), u8::from(!begins));
        driver.reset();
        assert_eq!(writeback(&mut driver), begins.into());
        // Nor can it be switched before there is a driver.
        set_writeback(&mut driver, u8::from(!begins));
        assert_eq!(writeback(&mut driver), begins.into());
    }
}

#[test]
fn a_driver_that_can_switch_and_not_flush_begins_in_write_through_mode() {
    let (mut driver, hooks) = driver(Mode::Trap, true);
    let features = (PLAIN | WCE) - Features::VIRTIO_BLK_F_FLUSH;
    assert_eq!(driver.negotiate(features), 11);
    assert_eq!(writeback(&mut driver), 0);
    driver.initialize(features);
    assert_eq!(flushes_of_a_write(&mut driver, &hooks), 1);
    set_writeback(&mut driver, 1);
    assert_eq!(flushes_of_a_write(&mut driver, &hooks), 0);
}

#[test]
fn a_driver_that_can_neither_switch_nor_flush_has_no_cache() {
    for begins in [true, false] {
        let (mut driver, hooks) = driver(Mode::Trap, begins);
        driver.initialize(Features::VIRTIO_F_VERSION_1);
        assert_eq!(flushes_of_a_write(&mut driver, &hooks), 1);
    }
}

#[test]
fn only_the_field_itself_can_be_written_and_any_value_but_0_is_1() {
    let (mut driver, _) = driver(Mode::Trap, true);
    driver.initialize(PLAIN | WCE);
    let mut space = [0; config::SIZE];
    driver.transport.read(CONFIG_OFFSET, &mut space);
    for width in 1..=8 {
        for offset in 0..config::SIZE as u64 + 8 {
            if (offset, width) != (config::WRITEBACK, 1) {
                driver
                    .transport
                    .write(CONFIG_OFFSET + offset, &vec![0; width]);
            }
        }
    }
    let mut after = [0; config::SIZE];
    driver.transport.read(CONFIG_OFFSET, &mut after);
    assert_eq!(after, space);
    for value in [0, 1, 2, 0x80, 0xff] {
        set_writeback(&mut driver, value);
        assert_eq!(writeback(&mut driver), u8::from(value != 0));
    }
    driver.assert_serves();
}
