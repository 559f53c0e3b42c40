//! Accesses to the register file that no good driver makes, and the bus around it. Disk images
//! that cannot be one are in the tests of the file backend.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use common::*;
use devices::{Bus, BusDevice, Response};
use spec::Features;
use spec::block::config;
use spec::mmio::{CONFIG_OFFSET, Register};

const WRITE_ONLY: [Register; 14] = [
    Register::DeviceFeaturesSel,
    Register::DriverFeatures,
    Register::DriverFeaturesSel,
    Register::QueueSel,
    Register::QueueNum,
    Register::QueueNotify,
    Register::InterruptACK,
    Register::QueueDescLow,
    Register::QueueDescHigh,
    Register::QueueDriverLow,
    Register::QueueDriverHigh,
    Register::QueueDeviceLow,
    Register::QueueDeviceHigh,
    Register::SHMSel,
];

const READ_ONLY: [Register; 12] = [
    Register::MagicValue,
    Register::Version,
    Register::DeviceID,
    Register::VendorID,
    Register::DeviceFeatures,
    Register::QueueNumMax,
    Register::InterruptStatus,
    Register::SHMLenLow,
    Register::SHMLenHigh,
    Register::SHMBaseLow,
    Register::SHMBaseHigh,
    Register::ConfigGeneration,
];

fn read_at(driver: &mut Driver, offset: u64, width: usize) -> Vec<u8> {
    let mut data = vec![0xee; width];
    driver.transport.read(offset, &mut data);
    data
}

fn done(response: Response) {
    assert!(matches!(response, Response::Done), "{response:?}");
}

/// What can be read of the device without changing it.
fn state(driver: &mut Driver) -> Vec<u32> {
    let readable = READ_ONLY
        .into_iter()
        .chain([Register::QueueReady, Register::Status]);
    readable.map(|register| driver.read(register)).collect()
}

#[test]
fn the_device_says_what_it_is() {
    let mut driver = Driver::new(Mode::Trap);
    assert_eq!(driver.read(Register::MagicValue), 0x7472_6976);
    assert_eq!(driver.read(Register::Version), 2);
    assert_eq!(driver.read(Register::DeviceID), 2);
    assert_eq!(driver.read(Register::QueueNumMax), 512);
    assert_eq!(driver.read(Register::Status), 0);
    assert_eq!(driver.read(Register::QueueReset), 0);
}

#[test]
fn the_features_offered_are_those_that_work() {
    let expected = Features::VIRTIO_F_VERSION_1
        | Features::VIRTIO_F_EVENT_IDX
        | Features::VIRTIO_F_INDIRECT_DESC
        | Features::VIRTIO_BLK_F_FLUSH
        | Features::VIRTIO_BLK_F_CONFIG_WCE
        | Features::VIRTIO_BLK_F_SEG_MAX
        | Features::VIRTIO_BLK_F_SIZE_MAX
        | Features::VIRTIO_BLK_F_BLK_SIZE
        | Features::VIRTIO_BLK_F_GEOMETRY
        | Features::VIRTIO_BLK_F_TOPOLOGY;
    let writable = expected | Features::VIRTIO_BLK_F_DISCARD | Features::VIRTIO_BLK_F_WRITE_ZEROES;
    assert_eq!(Driver::new(Mode::Trap).offered(), writable);
    let read_only = expected | Features::VIRTIO_BLK_F_RO;
    assert_eq!(Driver::read_only(Mode::Trap).offered(), read_only);
}

#[test]
fn an_access_of_a_width_other_than_4_reads_0_and_writes_nothing() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    let before = state(&mut driver);
    for register in Register::ALL {
        for width in [0, 1, 2, 3, 5, 8] {
            let offset = register.offset();
            assert_eq!(
                read_at(&mut driver, offset, width),
                vec![0; width],
                "{register:?}"
            );
            done(driver.transport.write(offset, &vec![0; width]));
            done(driver.transport.write(offset, &vec![0xff; width]));
        }
    }
    assert_eq!(state(&mut driver), before);
    driver.assert_serves();
}

#[test]
fn an_unaligned_access_reads_0_and_writes_nothing() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    let before = state(&mut driver);
    for offset in (0..CONFIG_OFFSET).filter(|offset| offset % 4 != 0) {
        assert_eq!(read_at(&mut driver, offset, 4), [0; 4], "{offset:#x}");
        done(driver.transport.write(offset, &[0; 4]));
    }
    assert_eq!(state(&mut driver), before);
    driver.assert_serves();
}

#[test]
fn an_offset_without_a_register_reads_0_and_writes_nothing() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    let before = state(&mut driver);
    let none = (0..CONFIG_OFFSET)
        .step_by(4)
        .filter(|offset| Register::at(*offset).is_none());
    for offset in none.chain([0x1000, 0x1004, 1 << 32, u64::MAX - 3, u64::MAX]) {
        assert_eq!(read_at(&mut driver, offset, 4), [0; 4], "{offset:#x}");
        done(driver.transport.write(offset, &[0xff; 4]));
    }
    assert_eq!(state(&mut driver), before);
    driver.assert_serves();
}

#[test]
fn a_write_only_register_reads_0_and_a_read_only_one_ignores_writes() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.assert_serves();
    for register in WRITE_ONLY {
        assert_eq!(driver.read(register), 0, "{register:?}");
    }
    let before = state(&mut driver);
    for register in READ_ONLY {
        for value in [0, 1, u32::MAX] {
            driver.write(register, value);
        }
    }
    assert_eq!(state(&mut driver), before);
    driver.assert_serves();
}

#[test]
fn the_configuration_space_reads_the_same_at_any_width_and_0_past_its_end() {
    let mut driver = Driver::new(Mode::Trap);
    let mut space = [0; config::SIZE + 64];
    space[..8].copy_from_slice(&SECTORS.to_le_bytes());
    space[8..12].copy_from_slice(&(128_u32 << 10).to_le_bytes());
    space[12..16].copy_from_slice(&510_u32.to_le_bytes());
    space[16..20].copy_from_slice(&[1, 0, 16, 63]);
    space[20..24].copy_from_slice(&512_u32.to_le_bytes());
    space[26] = 1;
    space[32] = 1;
    let clears = [32768, 4, 1, 32768, 4, 1_u32];
    let clears: Vec<u8> = clears.into_iter().flat_map(u32::to_le_bytes).collect();
    space[36..60].copy_from_slice(&clears);
    for width in 1..=8 {
        for offset in 0..config::SIZE + 56 {
            let data = read_at(&mut driver, CONFIG_OFFSET + offset as u64, width);
            assert_eq!(
                data,
                space[offset..offset + width],
                "{width} bytes at {offset}"
            );
        }
    }
    for offset in [0xf00, 0xfff, u64::MAX] {
        assert_eq!(read_at(&mut driver, offset, 8), [0; 8], "{offset:#x}");
    }
}

#[test]
fn the_configuration_space_ignores_writes() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    let before = read_at(&mut driver, CONFIG_OFFSET, 64);
    for width in 1..=8 {
        for offset in 0..64 {
            done(
                driver
                    .transport
                    .write(CONFIG_OFFSET + offset, &vec![0xff; width]),
            );
        }
    }
    assert_eq!(read_at(&mut driver, CONFIG_OFFSET, 64), before);
    driver.assert_serves();
}

#[test]
fn an_access_across_the_border_of_registers_and_configuration_space_reads_0() {
    let mut driver = Driver::new(Mode::Trap);
    assert_eq!(read_at(&mut driver, CONFIG_OFFSET - 4, 8), [0; 8]);
}

#[test]
fn queue_sel_beyond_the_queues_reads_queue_num_max_0_and_sets_up_nothing() {
    let mut driver = Driver::new(Mode::Trap);
    driver.negotiate(PLAIN);
    for sel in [1, 2, 0xffff, 0x1_0000, u32::MAX] {
        driver.describe_queue(8, DESC, AVAIL, USED);
        driver.write(Register::QueueSel, sel);
        assert_eq!(driver.read(Register::QueueNumMax), 0, "{sel:#x}");
        for register in [
            Register::QueueNum,
            Register::QueueDescLow,
            Register::QueueReady,
        ] {
            driver.write(register, 1);
        }
        assert_eq!(driver.read(Register::QueueReady), 0, "{sel:#x}");
    }
    driver.initialize(PLAIN);
    driver.assert_serves();
}

#[test]
fn a_feature_selector_beyond_the_features_shows_and_sets_none() {
    let mut driver = Driver::new(Mode::Trap);
    for sel in [2, 3, 0x100, u32::MAX] {
        driver.write(Register::DeviceFeaturesSel, sel);
        assert_eq!(driver.read(Register::DeviceFeatures), 0, "{sel:#x}");
    }
    driver.write(Register::Status, 3);
    for sel in [0, 1] {
        driver.write(Register::DriverFeaturesSel, sel);
        driver.write(Register::DriverFeatures, PLAIN.word(sel));
    }
    driver.write(Register::DriverFeaturesSel, 2);
    driver.write(Register::DriverFeatures, u32::MAX);
    driver.write(Register::Status, 11);
    assert_eq!(
        driver.read(Register::Status),
        11,
        "the other words are as they were"
    );
}

#[test]
fn shared_memory_regions_read_as_not_there() {
    let mut driver = Driver::new(Mode::Trap);
    for sel in [0, 1, 255, u32::MAX] {
        driver.write(Register::SHMSel, sel);
        assert_eq!(driver.read(Register::SHMLenLow), u32::MAX);
        assert_eq!(driver.read(Register::SHMLenHigh), u32::MAX);
        assert_eq!(driver.read(Register::SHMBaseLow), u32::MAX);
        assert_eq!(driver.read(Register::SHMBaseHigh), u32::MAX);
    }
}

#[test]
fn interrupt_ack_clears_the_bits_written_and_ignores_those_not_set() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.write(Register::InterruptACK, u32::MAX);
    assert_eq!(driver.read(Register::InterruptStatus), 0);
    driver.assert_serves();
    driver.write(Register::InterruptACK, 0xffff_fffe);
    assert_eq!(driver.read(Register::InterruptStatus), 1);
    driver.write(Register::InterruptACK, 1);
    assert_eq!(driver.read(Register::InterruptStatus), 0);
    driver.assert_serves();
    assert_eq!(driver.read(Register::InterruptStatus), 1);
}

#[test]
fn a_status_write_that_takes_back_or_skips_a_step_changes_nothing() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    for value in [1, 3, 7, 11, 4, 8, 0x1f, 0x100, 0xffff_ffff, 0x8000_0000] {
        driver.write(Register::Status, value);
        assert_eq!(driver.read(Register::Status), 15, "{value:#x}");
    }
    driver.assert_serves();
    driver.reset();
    for value in [2, 4, 8, 11, 15, 64] {
        driver.write(Register::Status, value);
        assert_eq!(driver.read(Register::Status), 0, "{value:#x}");
    }
}

#[test]
fn a_driver_that_has_failed_can_reset_and_begin_again() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.write(Register::Status, 15 | 128);
    assert_eq!(driver.read(Register::Status), 15 | 128);
    driver.initialize(PLAIN);
    driver.assert_serves();
}

#[test]
fn where_nothing_is_on_the_bus_reads_are_all_ones_and_writes_ignored_and_counted() {
    let driver = Driver::new(Mode::Trap);
    let mut bus = Bus::new();
    let window = 0xd000_0000;
    let transport = Arc::new(Mutex::new(driver.transport));
    bus.insert(window, 0x1000, transport).unwrap();
    let mut data = [0; 4];
    bus.read(window, &mut data);
    assert_eq!(&data, b"virt");
    for addr in [window - 4, window + 0x1000, 0, u64::MAX] {
        bus.read(addr, &mut data);
        assert_eq!(data, [0xff; 4], "{addr:#x}");
        done(bus.write(addr, &[0; 4]));
    }
    assert_eq!(bus.unmapped(), 8);
}
