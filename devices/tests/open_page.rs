//! A guest that writes to registers in memory: when it can, what the device makes of it and when, and what
//! of it is lost. What it can do wrong there is in `open_page_model`, beside what is right.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::*;
use devices::virtio::Access;
use devices::{BusDevice, DeviceError, Response};
use spec::Features;
use spec::block::{config, request_type, status};
use spec::mmio::{CONFIG_OFFSET, InterruptStatus, Register};

const WCE: Features = PLAIN.union(Features::VIRTIO_BLK_F_CONFIG_WCE);
const WRITEBACK: u64 = CONFIG_OFFSET + config::WRITEBACK;
const USED: u32 = InterruptStatus::USED_BUFFER.bits();
const CHANGED: u32 = InterruptStatus::CONFIG_CHANGE.bits();

fn window(driver: &Driver) -> &Window {
    driver.window.as_ref().unwrap()
}

fn is_open(driver: &Driver) -> bool {
    window(driver).is_open()
}

/// Writes by an exit, whatever the guest could do.
fn exit(driver: &mut Driver, register: Register, value: u32) -> Response {
    let data = value.to_le_bytes();
    driver.transport.write(register.offset(), &data).worked()
}

/// Gives the disk another size, and has the device look at it, as another thread does.
fn resize(driver: &mut Driver, sectors: u64) {
    driver.disk.bytes().resize(sectors as usize * 512, 0);
    driver.transport.refresh().unwrap();
}

fn capacity(driver: &mut Driver) -> u64 {
    let mut data = [0; 8];
    driver.read_at(CONFIG_OFFSET, &mut data);
    u64::from_le_bytes(data)
}

#[test]
fn the_page_opens_with_driver_ok_and_not_before() {
    let mut driver = Driver::new(Mode::Mapped);
    assert_eq!(driver.negotiate(WCE), 11);
    driver.set_up_queue();
    assert_eq!(window(&driver).allowed(), []);
    driver.write(Register::Status, 15);
    assert_eq!(window(&driver).allowed(), [Access::Write]);
    driver.assert_serves();
}

#[test]
fn a_page_that_the_guest_may_only_read_stays_so() {
    let mut driver = Driver::new(Mode::Trap);
    driver.window = Some(Window::on(&driver.page, false));
    driver.initialize(WCE);
    driver.assert_serves();
    driver.write(Register::InterruptACK, USED);
    assert_eq!(driver.read(Register::InterruptStatus), 0);
    assert_eq!(window(&driver).allowed(), []);
    assert_eq!(driver.page.silent_acks(), 0);
}

#[test]
fn a_request_whose_interrupt_is_handled_in_memory_leaves_the_page_open() {
    let mut driver = Driver::live(Mode::Mapped, PLAIN);
    window(&driver).allowed();
    for round in 0..3 {
        driver.assert_serves();
        assert_eq!(driver.edges.count(), round + 1);
        assert_eq!(driver.read(Register::InterruptStatus), USED);
        driver.write(Register::InterruptACK, USED);
        assert_eq!(driver.page.silent_acks(), round, "found before the exit");
    }
    driver.catch_up();
    assert_eq!(driver.read(Register::InterruptStatus), 0);
    assert_eq!(driver.page.silent_acks(), 3);
    assert_eq!(window(&driver).allowed(), []);
}

#[test]
fn after_a_reset_in_memory_nothing_is_served_whatever_register_exits_next() {
    let exits = [
        (Register::QueueNotify, 0),
        (Register::QueueSel, 0),
        (Register::QueueReady, 0),
        (Register::QueueReady, 1),
        (Register::DeviceFeaturesSel, 1),
        (Register::DriverFeatures, 0),
        (Register::MagicValue, 0),
    ];
    for (register, value) in exits {
        let mut driver = Driver::live(Mode::Mapped, PLAIN);
        driver.assert_serves();
        driver.header(request_type::IN, 1);
        driver.chain_at(0, &read_chain());
        driver.offer(0);
        let (before, edges) = (driver.snapshot(), driver.edges.count());
        driver.reset();
        driver.write(register, value);
        driver.write(Register::QueueNotify, 0);
        assert!(driver.snapshot() == before, "{register:?}");
        assert_eq!(driver.edges.count(), edges);
        assert_eq!(driver.read(Register::Status), 0);
        assert_eq!(driver.read(Register::InterruptStatus), 0);
        assert!(!is_open(&driver));
        driver.initialize(PLAIN);
        driver.assert_serves();
        assert!(is_open(&driver));
    }
}

/// Linux resets a device when it takes it away from a driver, frees its queues, and resets it again for
/// the next driver (`virtio_mmio`, `virtio_reset_device`, `vm_del_vq`, `register_virtio_device`).
#[test]
fn a_driver_that_is_unbound_and_bound_again_as_linux_does_it_finds_a_new_device() {
    let mut driver = Driver::live(Mode::Mapped, WCE);
    driver.write_at(WRITEBACK, &[0]);
    driver.assert_serves();
    driver.write(Register::Status, 0);
    driver.write(Register::QueueSel, 0);
    driver.write(Register::QueueReady, 0);
    assert_eq!(driver.read(Register::QueueReady), 0);
    driver.write(Register::Status, 0);
    for bit in [1, 2] {
        let status = driver.read(Register::Status);
        driver.write(Register::Status, status | bit);
    }
    let offered = driver.offered();
    assert!(offered.contains(WCE));
    for sel in [1, 0] {
        driver.write(Register::DriverFeaturesSel, sel);
        driver.write(Register::DriverFeatures, WCE.word(sel));
    }
    driver.write(Register::Status, 11);
    assert_eq!(driver.read(Register::Status), 11);
    let mut writeback = [0xee];
    driver.read_at(WRITEBACK, &mut writeback);
    assert_eq!(writeback, [1]);
    driver.set_up_queue();
    driver.write(Register::Status, 15);
    driver.assert_serves();
}

#[test]
fn a_status_in_memory_is_what_it_is_in_a_register_once_the_device_has_learned_of_it() {
    let sequences: [&[u32]; 10] = [
        &[0],
        &[0, 0],
        &[0, 1],
        &[0, 3],
        &[0, 1, 3],
        &[0, 128],
        &[0, 1, 129],
        &[0, 1, 3, 131],
        &[15],
        &[15 | 128],
    ];
    for sequence in sequences {
        let [trapped, mapped] = [Mode::Trap, Mode::Mapped].map(|mode| {
            let mut driver = Driver::live(mode, PLAIN);
            for value in sequence {
                driver.write(Register::Status, *value);
            }
            driver.catch_up();
            let status = driver.read(Register::Status);
            // A reset leads on from anywhere.
            driver.initialize(PLAIN);
            driver.assert_serves();
            status
        });
        assert_eq!(mapped, trapped, "{sequence:?}");
        assert_eq!(mapped, *sequence.last().unwrap());
    }
}

#[test]
fn a_status_that_takes_bits_away_leaves_a_reset_device_with_no_more_than_a_driver() {
    for (value, expected) in [(4, 0), (7, 3), (8, 0), (11, 3), (12, 0), (0x111, 1)] {
        let mut driver = Driver::live(Mode::Mapped, PLAIN);
        driver.write(Register::Status, value);
        driver.catch_up();
        let status = driver.read(Register::Status);
        assert_eq!(status, expected, "{value}");
        assert!(!is_open(&driver));
        driver.initialize(PLAIN);
        driver.assert_serves();
    }
}

#[test]
fn a_cache_that_is_switched_in_memory_is_so_for_the_next_write() {
    let (backend, hooks) = backend::hooked();
    let disk = backend.disk.clone();
    let mut driver = Driver::with_backend(Mode::Mapped, false, disk, Box::new(backend));
    driver.initialize(WCE);
    let flushes = |driver: &mut Driver| {
        let before = hooks.lock().unwrap().flushes;
        let answer = driver.request(request_type::OUT, 3, &[readable(DATA, 512)]);
        assert_eq!(answer, (1, status::OK));
        hooks.lock().unwrap().flushes - before
    };
    for (value, expected) in [(0, 1), (7, 0), (0, 1), (1, 0)] {
        assert!(is_open(&driver));
        driver.write_at(WRITEBACK, &[value]);
        assert_eq!(flushes(&mut driver), expected);
        let mut shown = [0xee];
        driver.read_at(WRITEBACK, &mut shown);
        assert_eq!(shown, [u8::from(value != 0)]);
    }
}

#[test]
fn a_driver_that_has_not_accepted_to_switch_the_cache_does_not_switch_it_in_memory() {
    let (backend, hooks) = backend::hooked();
    let disk = backend.disk.clone();
    let mut driver = Driver::with_backend(Mode::Mapped, false, disk, Box::new(backend));
    driver.initialize(PLAIN);
    driver.write_at(WRITEBACK, &[0]);
    let answer = driver.request(request_type::OUT, 3, &[readable(DATA, 512)]);
    assert_eq!(answer, (1, status::OK));
    assert_eq!(hooks.lock().unwrap().flushes, 0);
    let mut shown = [0xee];
    driver.read_at(WRITEBACK, &mut shown);
    assert_eq!(shown, [1]);
}

#[test]
fn a_device_that_needs_a_reset_has_its_registers_written_by_exits_until_it_has_one() {
    let mut driver = Driver::live(Mode::Mapped, PLAIN);
    driver.store_u16(AVAIL + 2, SIZE + 1);
    driver.notify();
    assert_eq!(driver.read(Register::Status), 15 | 64);
    assert!(!is_open(&driver));
    driver.write(Register::InterruptACK, u32::MAX);
    assert_eq!(driver.read(Register::InterruptStatus), 0);
    driver.catch_up();
    assert!(!is_open(&driver));
    driver.initialize(PLAIN);
    assert!(is_open(&driver));
    driver.assert_serves();
}

#[test]
fn a_configuration_change_is_acknowledged_by_an_exit_and_then_the_page_opens_again() {
    let mut driver = Driver::live(Mode::Mapped, PLAIN);
    resize(&mut driver, 2 * SECTORS);
    driver.catch_up();
    assert!(!is_open(&driver));
    assert_eq!(driver.read(Register::InterruptStatus), CHANGED);
    assert_eq!(capacity(&mut driver), 2 * SECTORS);
    driver.write(Register::InterruptACK, USED);
    assert!(!is_open(&driver));
    driver.assert_serves();
    assert_eq!(driver.read(Register::InterruptStatus), CHANGED | USED);
    driver.write(Register::InterruptACK, CHANGED);
    assert!(is_open(&driver));
    assert_eq!(driver.read(Register::InterruptStatus), USED);
}

#[test]
fn no_acknowledgement_in_memory_is_one_of_a_change_that_came_after_it() {
    for acknowledged in [USED, CHANGED, USED | CHANGED, u32::MAX] {
        let mut driver = Driver::live(Mode::Mapped, PLAIN);
        driver.assert_serves();
        driver.write(Register::InterruptACK, acknowledged);
        resize(&mut driver, 2 * SECTORS);
        let pending = CHANGED | USED & !acknowledged;
        assert_eq!(driver.read(Register::InterruptStatus), pending);
        driver.catch_up();
        assert_eq!(driver.read(Register::InterruptStatus), pending);
    }
}

#[test]
fn a_look_at_the_disk_takes_what_is_in_memory_and_opens_the_page_again_if_there_is_nothing_new() {
    let mut driver = Driver::live(Mode::Mapped, PLAIN);
    driver.assert_serves();
    driver.write(Register::InterruptACK, USED);
    resize(&mut driver, SECTORS);
    assert!(is_open(&driver));
    assert_eq!(driver.read(Register::InterruptStatus), 0);
    driver.write(Register::Status, 0);
    resize(&mut driver, 2 * SECTORS);
    assert!(!is_open(&driver));
    assert_eq!(driver.read(Register::InterruptStatus), 0, "told of nothing");
    assert_eq!(capacity(&mut driver), 2 * SECTORS);
}

/// It reads what it has written until the device does as it says; so a reset is over when Status is 0.
#[test]
fn a_driver_never_finds_what_was_there_before_it_wrote_in_memory() {
    let sequences: [&[u32]; 5] = [&[0], &[0, 1], &[0, 1, 3], &[0, 128], &[15 | 128]];
    for sequence in sequences {
        let mut driver = Driver::live(Mode::Mapped, WCE);
        window(&driver).found();
        for value in sequence {
            driver.write(Register::Status, *value);
        }
        // By another thread, while the guest runs.
        driver.transport.refresh().unwrap();
        let found = window(&driver).found();
        let last = *sequence.last().unwrap();
        assert!(
            !found.is_empty() && found.iter().all(|[status, _]| *status == last),
            "{sequence:?}: {found:?}"
        );
    }
    let mut driver = Driver::live(Mode::Mapped, WCE);
    for writeback in [0, 1] {
        window(&driver).found();
        driver.write_at(WRITEBACK, &[writeback]);
        driver.transport.refresh().unwrap();
        assert_eq!(window(&driver).found(), [[15, u32::from(writeback)]]);
    }
}

#[test]
fn what_means_nothing_in_memory_is_gone_at_the_next_exit() {
    let mut driver = Driver::live(Mode::Mapped, WCE);
    driver.assert_serves();
    let mut before = [0; 0x200];
    driver.read_at(0, &mut before);
    // All but the acknowledgement, the status and the byte that is the driver's.
    let kept = [0x64..0x68, 0x70..0x74, WRITEBACK..WRITEBACK + 1];
    for offset in Register::InterruptStatus.offset()..0x200 {
        if !kept.iter().any(|kept| kept.contains(&offset)) {
            driver.write_at(offset, &[0x99]);
        }
    }
    // A status that there is none of changes nothing.
    driver.write(Register::Status, u32::MAX);
    driver.catch_up();
    let mut after = [0; 0x200];
    driver.read_at(0, &mut after);
    assert_eq!(before, after);
    assert!(is_open(&driver));
    driver.assert_serves();
}

#[test]
fn a_write_to_the_page_that_exits_all_the_same_is_done() {
    let mut driver = Driver::live(Mode::Mapped, PLAIN);
    driver.assert_serves();
    window(&driver).allowed();
    let done = exit(&mut driver, Register::InterruptACK, USED);
    assert!(matches!(done, Response::Done), "{done:?}");
    // The device changes nothing there while the guest can.
    let allowed = window(&driver).allowed();
    assert_eq!(allowed, [Access::None, Access::Read, Access::Write]);
    assert_eq!(driver.read(Register::InterruptStatus), 0);
    assert_eq!(driver.page.silent_acks(), 0);
    assert!(is_open(&driver));
    // After what is in memory already.
    driver.write(Register::Status, 0);
    let done = exit(&mut driver, Register::Status, 1);
    assert!(matches!(done, Response::Done), "{done:?}");
    assert_eq!(driver.read(Register::Status), 1);
}

#[test]
fn what_the_machine_cannot_map_ends_it() {
    fn is_of_the_window(response: &Response) -> bool {
        matches!(response, Response::Failed(DeviceError::Window(_)))
    }
    let mut driver = Driver::new(Mode::Mapped);
    driver.negotiate(PLAIN);
    driver.set_up_queue();
    window(&driver).refuse(Some(Access::Write));
    let response = driver.try_write(Register::Status, 15);
    assert!(is_of_the_window(&response), "{response:?}");

    for refused in [Access::None, Access::Read] {
        let mut driver = Driver::live(Mode::Mapped, PLAIN);
        driver.write(Register::Status, 0);
        window(&driver).refuse(Some(refused));
        let response = driver.try_write(Register::QueueNotify, 0);
        assert!(is_of_the_window(&response), "{response:?}");

        let mut driver = Driver::live(Mode::Mapped, PLAIN);
        window(&driver).refuse(Some(refused));
        let error = driver.transport.refresh().unwrap_err();
        assert!(matches!(error, DeviceError::Window(_)), "{error}");

        // The ring that breaks is found while the device serves it.
        let mut driver = Driver::live(Mode::Mapped, PLAIN);
        window(&driver).refuse(Some(refused));
        driver.store_u16(AVAIL + 2, SIZE + 1);
        let response = driver.try_write(Register::QueueNotify, 0);
        assert!(is_of_the_window(&response), "{response:?}");
        assert_eq!(Arc::clone(&driver.edges).count(), 0);
    }
}
