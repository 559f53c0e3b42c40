//! Queues that are none, negotiation that skips a step, notifications at the wrong time, and reset:
//! what is refused stays without effect, and a reset always brings the device back.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::mpsc;
use std::time::Duration;

use common::*;
use spec::Features;
use spec::block::request_type;
use spec::mmio::Register;

// Setting up

#[test]
fn a_queue_size_that_is_none_is_refused_on_all_its_32_bits() {
    let mut driver = Driver::new(Mode::Trap);
    driver.negotiate(PLAIN);
    for num in [
        0,
        3,
        100,
        255,
        513,
        1024,
        32768,
        65535,
        65536,
        0x1_0008,
        0x8000_0008,
        u32::MAX,
    ] {
        // After a valid one, which must not stand.
        driver.describe_queue(8, DESC, AVAIL, USED);
        driver.write(Register::QueueNum, num);
        driver.write(Register::QueueReady, 1);
        assert_eq!(driver.read(Register::QueueReady), 0, "size {num:#x}");
    }
    driver.initialize(PLAIN);
    driver.assert_serves();
}

#[test]
fn a_queue_whose_size_was_never_written_is_refused() {
    let mut driver = Driver::new(Mode::Trap);
    driver.negotiate(PLAIN);
    driver.write(Register::QueueDescLow, DESC as u32);
    driver.write(Register::QueueDriverLow, AVAIL as u32);
    driver.write(Register::QueueDeviceLow, USED as u32);
    driver.write(Register::QueueReady, 1);
    assert_eq!(driver.read(Register::QueueReady), 0);
}

#[test]
fn a_ring_that_is_unaligned_or_outside_ram_or_overlaps_another_is_refused() {
    let mut driver = Driver::new(Mode::Trap);
    driver.negotiate(PLAIN);
    let (desc_len, avail_len, used_len) = (8 * 16, 6 + 8 * 2, 6 + 8 * 8);
    let far = 1 << 40;
    for (desc, avail, used) in [
        // Unaligned
        (DESC + 8, AVAIL, USED),
        (DESC, AVAIL + 1, USED),
        (DESC, AVAIL, USED + 2),
        // In the hole, in part or whole
        (HOLE, AVAIL, USED),
        (HOLE - desc_len + 16, AVAIL, USED),
        (DESC, HOLE - avail_len + 2, USED),
        (DESC, AVAIL, HOLE - used_len + 2),
        // Past the end
        (END - 16, AVAIL, USED),
        (DESC, END - 2, USED),
        (DESC, AVAIL, END - 4),
        (far, AVAIL, USED),
        (DESC, far, USED),
        (DESC, AVAIL, far),
        (u64::MAX - 15, AVAIL, USED),
        (DESC, u64::MAX - 1, USED),
        (DESC, AVAIL, u64::MAX - 3),
        // Overlapping
        (DESC, DESC, USED),
        (DESC, AVAIL, AVAIL),
        (DESC, DESC + desc_len - 2, USED),
        (DESC, AVAIL, DESC + desc_len - 4),
        (DESC, USED + used_len - 2, USED),
        (AVAIL + 16, AVAIL, USED),
    ] {
        driver.describe_queue(8, desc, avail, used);
        driver.write(Register::QueueReady, 1);
        let ready = driver.read(Register::QueueReady);
        assert_eq!(ready, 0, "{desc:#x} {avail:#x} {used:#x}");
    }
    // Areas that touch do not overlap.
    driver.describe_queue(8, DESC, DESC + desc_len, DESC + desc_len + 24);
    driver.write(Register::QueueReady, 1);
    assert_eq!(driver.read(Register::QueueReady), 1);
}

#[test]
fn a_refused_queue_is_not_read_even_after_driver_ok() {
    let mut driver = Driver::new(Mode::Trap);
    driver.negotiate(PLAIN);
    driver.describe_queue(8, DESC, AVAIL + 1, USED);
    driver.write(Register::QueueReady, 1);
    driver.write(Register::Status, 15);
    let before = driver.snapshot();
    driver.write(Register::QueueNotify, 0);
    assert_eq!(driver.snapshot(), before);
    driver.initialize(PLAIN);
    driver.assert_serves();
}

#[test]
fn queue_registers_written_after_queue_ready_or_driver_ok_are_ignored() {
    in_every_mode(|mode| {
        let mut driver = Driver::new(mode);
        driver.negotiate(PLAIN);
        driver.set_up_queue();
        driver.describe_queue(4, HOLE, HOLE, HOLE);
        driver.write(Register::Status, 15);
        driver.assert_serves();
        driver.describe_queue(4, HOLE, HOLE, HOLE);
        driver.write(Register::QueueReady, 1);
        driver.assert_serves();
        assert_eq!(driver.read(Register::QueueReady), 1);
    });
}

#[test]
fn queue_registers_written_while_the_queue_is_ready_do_not_come_into_effect_later() {
    let mut driver = Driver::new(Mode::Trap);
    driver.negotiate(PLAIN);
    driver.set_up_queue();
    driver.describe_queue(0, HOLE, HOLE, HOLE);
    driver.write(Register::QueueReady, 0);
    driver.write(Register::QueueReady, 1);
    assert_eq!(driver.read(Register::QueueReady), 1);
    driver.write(Register::Status, 15);
    driver.assert_serves();
}

#[test]
fn a_queue_cannot_be_made_ready_after_driver_ok() {
    let mut driver = Driver::new(Mode::Trap);
    driver.negotiate(PLAIN);
    driver.describe_queue(8, DESC, AVAIL, USED);
    driver.write(Register::Status, 15);
    driver.write(Register::QueueReady, 1);
    assert_eq!(driver.read(Register::QueueReady), 0);
    driver.initialize(PLAIN);
    driver.assert_serves();
}

#[test]
fn a_queue_that_is_made_unready_is_not_touched_any_more() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, PLAIN);
        driver.assert_serves();
        driver.write(Register::QueueReady, 0);
        assert_eq!(driver.read(Register::QueueReady), 0);
        driver.header(request_type::IN, 0);
        driver.chain_at(0, &read_chain());
        driver.offer(0);
        let before = driver.snapshot();
        driver.notify();
        driver.write(Register::QueueNotify, 0);
        assert_eq!(driver.snapshot(), before);
        driver.initialize(PLAIN);
        driver.assert_serves();
    });
}

#[test]
fn a_notify_before_driver_ok_is_ignored_and_the_buffer_served_once_it_is_set() {
    in_every_mode(|mode| {
        let mut driver = Driver::new(mode);
        driver.negotiate(PLAIN);
        driver.set_up_queue();
        driver.header(request_type::IN, 2);
        driver.chain_at(0, &read_chain());
        driver.offer(0);
        let before = driver.snapshot();
        driver.notify();
        driver.write(Register::QueueNotify, 0);
        assert_eq!(driver.snapshot(), before);

        driver.write(Register::Status, 15);
        assert_eq!(driver.wait_used(), Used { head: 0, len: 513 });
        assert_eq!(driver.bytes(DATA, 512), sector_content(2));
        driver.assert_serves();
    });
}

#[test]
fn a_notify_for_a_queue_that_does_not_exist_or_is_not_ready_is_ignored() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.header(request_type::IN, 0);
    driver.chain_at(0, &read_chain());
    driver.offer(0);
    for index in [1, 2, 0xffff, 0x1_0000, u32::MAX] {
        driver.write(Register::QueueNotify, index);
        assert_eq!(driver.used_idx(), 0, "index {index:#x}");
    }
    driver.write(Register::QueueNotify, 0);
    assert_eq!(driver.used_idx(), 1);

    driver.negotiate(PLAIN);
    driver.write(Register::Status, 15);
    driver.write(Register::QueueNotify, 0);
    driver.initialize(PLAIN);
    driver.assert_serves();
}

#[test]
fn a_notify_by_the_register_wakes_a_thread_too() {
    for mode in THREADS {
        let mut driver = Driver::live(mode, PLAIN);
        driver.header(request_type::IN, 2);
        driver.chain_at(0, &read_chain());
        driver.offer(0);
        driver.write(Register::QueueNotify, 0);
        assert_eq!(driver.wait_used(), Used { head: 0, len: 513 });
    }
}

// Reset

#[test]
fn reset_while_io_is_in_flight_waits_and_nothing_is_written_after_it_is_acknowledged() {
    THREADS.into_iter().for_each(reset_while_io_is_in_flight);
}

fn reset_while_io_is_in_flight(mode: Mode) {
    let (mut driver, hooks) = Driver::hooked(mode);
    driver.initialize(PLAIN);
    driver.header(request_type::IN, 0);
    driver.chain_at(0, &read_chain());

    // Reads stop in the backend until they are let go.
    let (started, is_started) = mpsc::channel();
    let (let_go, may_go) = mpsc::channel();
    hooks.lock().unwrap().before_read = Some(Box::new(move || {
        started.send(()).unwrap();
        may_go.recv_timeout(LIMIT).unwrap();
    }));
    driver.offer(0);
    driver.notify();
    is_started.recv_timeout(LIMIT).unwrap();

    let (driver, after) = std::thread::scope(|scope| {
        let (acknowledged, is_acknowledged) = mpsc::channel();
        let reset = scope.spawn(move || {
            driver.reset();
            acknowledged.send(()).unwrap();
            let after = driver.snapshot();
            (driver, after)
        });
        let early = is_acknowledged.recv_timeout(Duration::from_millis(20));
        assert!(early.is_err(), "acknowledged while a read was in flight");
        let_go.send(()).unwrap();
        is_acknowledged.recv_timeout(LIMIT).unwrap();
        reset.join().unwrap()
    });
    let mut driver = driver;
    driver.notify();
    driver.write(Register::QueueNotify, 0);
    assert!(driver.snapshot() == after, "written after the reset");

    hooks.lock().unwrap().before_read = None;
    driver.initialize(PLAIN);
    driver.assert_serves();
}

#[test]
fn reset_brings_back_a_device_that_is_as_new() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, INDIRECT);
        driver.assert_serves();
        driver.write(Register::QueueSel, 1);
        driver.write(Register::DeviceFeaturesSel, 1);
        driver.write(Register::DriverFeaturesSel, 2);
        driver.reset();
        driver.catch_up();
        assert_eq!(driver.read(Register::QueueNumMax), 512, "QueueSel");
        assert_eq!(driver.read(Register::QueueReady), 0);
        assert_eq!(driver.read(Register::InterruptStatus), 0);
        let offered = driver.read(Register::DeviceFeatures);
        assert_eq!(
            offered & INDIRECT.word(0),
            INDIRECT.word(0),
            "DeviceFeaturesSel"
        );
        // Nothing is left of what was negotiated and set up.
        driver.write(Register::Status, 3);
        driver.write(Register::Status, 11);
        assert_eq!(driver.read(Register::Status), 3, "features were remembered");
        // Word 0 is selected: a feature that is not offered spoils what word 1 makes sound.
        let refused = Features::VIRTIO_BLK_F_RO.word(0);
        driver.write(Register::DriverFeatures, refused);
        driver.write(Register::DriverFeaturesSel, 1);
        driver.write(Register::DriverFeatures, PLAIN.word(1));
        driver.write(Register::Status, 11);
        assert_eq!(driver.read(Register::Status), 3, "DriverFeaturesSel");
        driver.negotiate(PLAIN);
        driver.write(Register::QueueReady, 1);
        assert_eq!(
            driver.read(Register::QueueReady),
            0,
            "a queue was remembered"
        );
        driver.initialize(PLAIN);
        driver.assert_serves();
    });
}

// Negotiation

#[test]
fn a_feature_that_was_not_offered_leaves_features_ok_0_and_driver_ok_without_effect() {
    in_every_mode(|mode| {
        let mut driver = Driver::new(mode);
        for extra in [
            Features::VIRTIO_F_RING_PACKED,
            Features::VIRTIO_BLK_F_MQ,
            Features::VIRTIO_BLK_F_RO,
            Features::from_bits_retain(1 << 63),
        ] {
            assert_eq!(driver.negotiate(PLAIN | extra), 3, "{extra:?}");
            driver.set_up_queue();
            driver.header(request_type::IN, 0);
            driver.chain_at(0, &read_chain());
            driver.offer(0);
            let before = driver.snapshot();
            for status in [15, 7] {
                driver.write(Register::Status, status);
                assert_eq!(driver.read(Register::Status), 3, "{extra:?}");
            }
            driver.notify();
            driver.write(Register::QueueNotify, 0);
            assert!(driver.snapshot() == before, "served without FEATURES_OK");
        }
        driver.initialize(PLAIN);
        driver.assert_serves();
    });
}

#[test]
fn version_1_not_accepted_leaves_features_ok_0() {
    let mut driver = Driver::new(Mode::Trap);
    assert_eq!(driver.negotiate(Features::VIRTIO_BLK_F_FLUSH), 3);
    assert_eq!(driver.negotiate(Features::empty()), 3);
    assert_eq!(driver.negotiate(Features::VIRTIO_F_VERSION_1), 11);
}

#[test]
fn driver_ok_without_features_ok_has_no_effect() {
    let mut driver = Driver::new(Mode::Trap);
    driver.write(Register::Status, 1);
    driver.write(Register::Status, 3);
    driver.write(Register::Status, 7);
    assert_eq!(driver.read(Register::Status), 3);
    driver.initialize(PLAIN);
    driver.assert_serves();
}

#[test]
fn features_written_after_features_ok_are_ignored() {
    let mut driver = Driver::new(Mode::Trap);
    driver.negotiate(PLAIN);
    driver.write(Register::DriverFeaturesSel, 0);
    driver.write(
        Register::DriverFeatures,
        Features::VIRTIO_F_INDIRECT_DESC.word(0),
    );
    driver.set_up_queue();
    driver.write(Register::Status, 15);
    driver.put(TABLE, &table(&read_chain()));
    driver.descriptor(0, indirect(TABLE, 3 * 16));
    assert_eq!(driver.submit_head(0), 0, "INDIRECT has not been negotiated");
    driver.assert_serves();
}
