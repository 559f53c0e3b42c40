//! The negotiation of the story for tests.

use spec::mmio::Register;

use super::super::story::{Access, Direction};
use super::{Layout, Shape, code, features};

/// The negotiation of our driver, but for what it reads of the configuration space.
pub fn negotiation(shape: Shape, layout: Layout) -> Vec<Access> {
    use Direction::{Read, Write};
    let (low, high) = (0x2000_6e46, 1);
    let names = |bits: u64| features(bits).names;
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let accesses = [
        (
            Read,
            Register::MagicValue,
            0x7472_6976,
            words(&["\"virt\""]),
        ),
        (Read, Register::Version, 2, vec![]),
        (Read, Register::DeviceID, 2, words(&["block device"])),
        (Write, Register::Status, 0, words(&["reset"])),
        (Read, Register::Status, 0, vec![]),
        (Write, Register::Status, 1, words(&["ACKNOWLEDGE"])),
        (
            Write,
            Register::Status,
            3,
            words(&["ACKNOWLEDGE", "DRIVER"]),
        ),
        (Write, Register::DeviceFeaturesSel, 0, vec![]),
        (
            Read,
            Register::DeviceFeatures,
            low | 1 << 28,
            names(low | 1 << 28),
        ),
        (Write, Register::DeviceFeaturesSel, 1, vec![]),
        (Read, Register::DeviceFeatures, high, names(1 << 32)),
        (Write, Register::DriverFeaturesSel, 0, vec![]),
        (Write, Register::DriverFeatures, low, names(low)),
        (Write, Register::DriverFeaturesSel, 1, vec![]),
        (Write, Register::DriverFeatures, high, names(1 << 32)),
        (
            Write,
            Register::Status,
            11,
            words(&["ACKNOWLEDGE", "DRIVER", "FEATURES_OK"]),
        ),
        (
            Read,
            Register::Status,
            11,
            words(&["ACKNOWLEDGE", "DRIVER", "FEATURES_OK"]),
        ),
        (Write, Register::QueueSel, 0, vec![]),
        (Read, Register::QueueNumMax, 512, vec![]),
        (Read, Register::QueueReady, 0, vec![]),
        (Write, Register::QueueNum, shape.queue_size.into(), vec![]),
        (
            Write,
            Register::QueueDescLow,
            layout.descriptor_area,
            vec![],
        ),
        (Write, Register::QueueDescHigh, 0, vec![]),
        (Write, Register::QueueDriverLow, layout.driver_area, vec![]),
        (Write, Register::QueueDriverHigh, 0, vec![]),
        (Write, Register::QueueDeviceLow, layout.device_area, vec![]),
        (Write, Register::QueueDeviceHigh, 0, vec![]),
        (Write, Register::QueueReady, 1, vec![]),
        (Read, Register::QueueReady, 1, vec![]),
        (
            Write,
            Register::Status,
            15,
            words(&["ACKNOWLEDGE", "DRIVER", "DRIVER_OK", "FEATURES_OK"]),
        ),
    ];
    (0..)
        .zip(accesses)
        .map(|(i, (direction, register, value, meaning))| Access {
            at_ns: Some(i * 14_200),
            direction,
            offset: register.offset(),
            register: Some(format!("{register:?}")),
            width: 4,
            value,
            meaning,
            by: code(shape, 0x10_24b3, "guest::machine::device::Device::write", 3),
        })
        .collect()
}
