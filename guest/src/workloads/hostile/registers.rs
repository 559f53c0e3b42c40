//! What a hostile guest does to the registers and the configuration space, and to addresses where
//! there is nothing.

use spec::block::{config, request_type};
use spec::mmio::{CONFIG_OFFSET, InterruptStatus, Register};

use super::Stage;
use super::case::{Case, DIRECT, Run};
use super::open::{found, is_open, settle};
use super::scene::{SECTOR, Scene, writable};
use super::seen::{Outcome, Seen, read_of};
use crate::virtio::{Transport, Width};

pub(super) const CASES: [Case; 13] = [
    Case::new(
        "register-width",
        "access of a width other than 4 to a register",
        "reads 0, writes ignored, or in memory bytes, gone with an exit but for Status and events",
        register_width,
    )
    .in_modes(DIRECT),
    Case::new(
        "register-unaligned",
        "unaligned access to the registers",
        "reads 0, writes ignored, or in memory bytes, gone with an exit but for Status and events",
        register_unaligned,
    )
    .in_modes(DIRECT),
    Case::new(
        "register-none",
        "an offset without a register",
        "reads 0, writes ignored, or in memory gone with an exit",
        register_none,
    )
    .in_modes(DIRECT),
    Case::new(
        "register-direction",
        "reading a write-only register, writing a read-only one",
        "reads 0, writes ignored, or in memory gone with an exit",
        register_direction,
    )
    .in_modes(DIRECT),
    Case::new(
        "config-width",
        "any width in the configuration space, and past its end",
        "the bytes there are, then 0",
        config_width,
    )
    .in_modes(DIRECT),
    Case::new(
        "config-written",
        "a write to the configuration space",
        "ignored, or in memory gone with an exit",
        config_written,
    )
    .in_modes(DIRECT),
    Case::new(
        "queue-sel",
        "QueueSel beyond the queues",
        "QueueNumMax 0, QueueReady 0",
        queue_sel,
    )
    .in_modes(DIRECT),
    Case::new(
        "device-features-sel",
        "DeviceFeaturesSel beyond the features",
        "0",
        device_features_sel,
    )
    .in_modes(DIRECT),
    Case::new(
        "driver-features-sel",
        "DriverFeaturesSel beyond the features",
        "ignored: the device goes along",
        driver_features_sel,
    )
    .in_modes(DIRECT)
    .with_reset(),
    Case::new(
        "interrupt-ack",
        "InterruptACK of bits not set",
        "ignored",
        interrupt_ack,
    )
    .in_modes(DIRECT),
    Case::new(
        "interrupt-ack-repeated",
        "InterruptACK until InterruptStatus is 0, and no other access",
        "0 in the end",
        interrupt_ack_repeated,
    )
    .in_modes(DIRECT),
    Case::new(
        "no-device-address",
        "an address where nothing is",
        "all ones, writes ignored",
        no_device_address,
    )
    .in_modes(DIRECT),
    Case::run_by(
        "no-device-port",
        "a port where nothing is",
        "all ones, writes ignored",
        Run::Machine(no_device_port),
    )
    .in_modes(DIRECT),
];

/// What can be read of a device, and stays the same while nobody changes it.
const READABLE: [Register; 13] = [
    Register::MagicValue,
    Register::Version,
    Register::DeviceID,
    Register::VendorID,
    Register::DeviceFeatures,
    Register::QueueNumMax,
    Register::QueueReady,
    Register::Status,
    Register::SHMLenLow,
    Register::SHMLenHigh,
    Register::SHMBaseLow,
    Register::SHMBaseHigh,
    Register::ConfigGeneration,
];

/// What can only be written.
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

fn state(transport: &mut dyn Transport) -> [u32; READABLE.len()] {
    READABLE.map(|register| transport.read(register))
}

/// The registers, and what eight bytes from the last of them on reach.
const BYTES: usize = CONFIG_OFFSET as usize + 4;

/// What is read in any width at any place below the configuration space: nothing, or the bytes there
/// where the registers are memory, which the first byte of them tells.
fn bytes(transport: &mut dyn Transport) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    settle(transport);
    if transport.read_at(Register::MagicValue.offset(), Width::One) != 0 {
        for (offset, word) in (0..).step_by(4).zip(bytes.chunks_mut(4)) {
            let value = transport.read_at(offset, Width::Four) as u32;
            word.copy_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}

/// Sees that at each of these places nothing can be written, and nothing read but bytes of memory. A
/// write there can be one to Status.
fn check_void(scene: &mut Scene<'_>, places: impl Iterator<Item = (u64, Width)>) -> Outcome {
    let before = state(scene.driver.transport);
    let bytes = bytes(scene.driver.transport);
    let is_open = is_open(scene.driver.transport);
    for (offset, width) in places {
        let seen = scene.driver.transport.read_at(offset, width);
        let there = bytes.iter().skip(offset as usize).take(width.bytes());
        let expected = there
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte));
        scene.check("offset", offset, Seen::Value(seen), Seen::Value(expected))?;
        for value in [0, u64::MAX] {
            let transport = &mut *scene.driver.transport;
            let live = transport.status();
            transport.write_at(offset, width, value);
            let expected = match is_open {
                true => found(live, transport.status()),
                false => live,
            };
            settle(transport);
            scene.check_status(offset, expected)?;
            if expected != live {
                scene.revive()?;
            }
            if is_open {
                // Of a used buffer, which the guest may have told itself of.
                let transport = &mut *scene.driver.transport;
                transport.write(Register::InterruptACK, u32::MAX);
                settle(transport);
            }
        }
    }
    let same = state(scene.driver.transport) == before;
    scene.check_words("the registers", 0, same, "unchanged", "changed")
}

fn register_width(scene: &mut Scene<'_>) -> Outcome {
    let widths = [Width::One, Width::Two, Width::Eight];
    let registers = Register::ALL.into_iter().map(Register::offset);
    // Eight bytes from the last one on reach into the configuration space.
    check_void(
        scene,
        registers.flat_map(|offset| widths.map(|width| (offset, width))),
    )
}

fn register_unaligned(scene: &mut Scene<'_>) -> Outcome {
    let unaligned = (0..CONFIG_OFFSET).filter(|offset| !offset.is_multiple_of(4));
    check_void(scene, unaligned.map(|offset| (offset, Width::Four)))
}

fn register_none(scene: &mut Scene<'_>) -> Outcome {
    let none = (0..CONFIG_OFFSET)
        .step_by(4)
        .filter(|offset| Register::at(*offset).is_none());
    check_void(scene, none.map(|offset| (offset, Width::Four)))
}

fn register_direction(scene: &mut Scene<'_>) -> Outcome {
    let before = state(scene.driver.transport);
    for register in WRITE_ONLY {
        let seen = Seen::Value(scene.driver.transport.read(register).into());
        scene.check("offset", register.offset(), seen, Seen::Value(0))?;
    }
    let read_only = READABLE
        .into_iter()
        .filter(|r| ![Register::QueueReady, Register::Status].contains(r));
    for register in read_only.chain([Register::InterruptStatus]) {
        for value in [0, 1, u32::MAX] {
            scene.driver.transport.write(register, value);
        }
    }
    settle(scene.driver.transport);
    let same = state(scene.driver.transport) == before;
    scene.check_words("the registers", 0, same, "unchanged", "changed")
}

/// How much of the configuration space is looked at, in bytes: as much as a block device may have.
const CONFIG_SIZE: usize = 96;

fn config_bytes(transport: &mut dyn Transport) -> [u8; CONFIG_SIZE] {
    core::array::from_fn(|i| transport.read_at(CONFIG_OFFSET + i as u64, Width::One) as u8)
}

fn config_width(scene: &mut Scene<'_>) -> Outcome {
    let bytes = config_bytes(scene.driver.transport);
    let (capacity, _) = bytes.split_at(config::CAPACITY as usize + 8);
    let capacity = capacity
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte));
    let expected = Seen::Value(scene.disk.capacity);
    scene.check("capacity", 0, Seen::Value(capacity), expected)?;
    for width in [Width::Two, Width::Four, Width::Eight] {
        for offset in 0..CONFIG_SIZE - 8 {
            let mut expected = [0; 8];
            let len = width.bytes();
            expected[..len].copy_from_slice(&bytes[offset..offset + len]);
            let place = CONFIG_OFFSET + offset as u64;
            let seen = Seen::Value(scene.driver.transport.read_at(place, width));
            let expected = Seen::Value(u64::from_le_bytes(expected));
            scene.check("offset", place, seen, expected)?;
        }
    }
    for offset in [CONFIG_OFFSET + CONFIG_SIZE as u64 - 8, 0x1fc] {
        for width in Width::ALL {
            let seen = Seen::Value(scene.driver.transport.read_at(offset, width));
            scene.check("past the end", offset, seen, Seen::Value(0))?;
        }
    }
    Ok(())
}

fn config_written(scene: &mut Scene<'_>) -> Outcome {
    let words = |transport: &mut dyn Transport| {
        let words: [u32; CONFIG_SIZE / 4] =
            core::array::from_fn(|i| transport.read_config(4 * i as u64));
        words
    };
    let before = words(scene.driver.transport);
    for width in Width::ALL {
        for offset in 0..CONFIG_SIZE as u64 / 2 {
            let transport = &mut *scene.driver.transport;
            transport.write_at(CONFIG_OFFSET + offset, width, 0x5a5a_5a5a_5a5a_5a5a);
        }
        settle(scene.driver.transport);
        let same = words(scene.driver.transport) == before;
        let of = width.bytes() as u64;
        scene.check_words("the configuration", of, same, "unchanged", "changed")?;
    }
    Ok(())
}

fn queue_sel(scene: &mut Scene<'_>) -> Outcome {
    let beyond = u32::from(scene.disk.queues);
    for sel in [beyond, beyond + 1, 0xffff, 0x1_0000, u32::MAX] {
        let transport = &mut *scene.driver.transport;
        transport.write(Register::QueueSel, sel);
        transport.write(Register::QueueNum, 8);
        transport.write(Register::QueueReady, 1);
        let seen = [Register::QueueNumMax, Register::QueueReady].map(|r| transport.read(r));
        // That of the queue there is.
        transport.write(Register::QueueReady, 0);
        for value in seen {
            let value = Seen::Value(value.into());
            scene.check("QueueSel", sel.into(), value, Seen::Value(0))?;
        }
    }
    scene.driver.transport.write(Register::QueueSel, 0);
    let ready = scene.driver.transport.read(Register::QueueReady);
    scene.check_also("QueueReady", 0, Seen::Value(ready.into()), Seen::Value(1))
}

fn device_features_sel(scene: &mut Scene<'_>) -> Outcome {
    for sel in [2, 3, 0x100, 0x8000_0000, u32::MAX] {
        let transport = &mut *scene.driver.transport;
        transport.write(Register::DeviceFeaturesSel, sel);
        let seen = Seen::Value(transport.read(Register::DeviceFeatures).into());
        scene.check("DeviceFeaturesSel", sel.into(), seen, Seen::Value(0))?;
    }
    Ok(())
}

/// Between what is sound and FEATURES_OK.
fn driver_features_sel(scene: &mut Scene<'_>) -> Outcome {
    let transport = &mut *scene.driver.transport;
    transport.reset()?;
    transport.write(Register::Status, 1);
    transport.write(Register::Status, 3);
    transport.accept_features(scene.features);
    for sel in [2, 3, 0x100, 0x8000_0000, u32::MAX] {
        transport.write(Register::DriverFeaturesSel, sel);
        transport.write(Register::DriverFeatures, u32::MAX);
    }
    transport.write(Register::Status, 0xb);
    let status = Seen::Value(transport.status().bits().into());
    scene.check("the status", 0, status, Seen::Value(0xb))?;
    Ok(scene.bring_up()?)
}

/// None is set when the handler has run; the next is set, and interrupts, all the same.
fn interrupt_ack(scene: &mut Scene<'_>) -> Outcome {
    for ack in [0, 0xffff_fffc, u32::MAX] {
        scene.driver.transport.take_events();
        settle(scene.driver.transport);
        scene.driver.transport.write(Register::InterruptACK, ack);
        settle(scene.driver.transport);
        let pending = scene.driver.transport.read(Register::InterruptStatus);
        scene.check(
            "ack",
            ack.into(),
            Seen::Value(pending.into()),
            Seen::Value(0),
        )?;
        let data = writable(scene.data.part(0, SECTOR));
        let answer = scene.request(request_type::IN, 0, &[data])?;
        scene.check("ack", ack.into(), answer, read_of(SECTOR))?;
        let events = scene.driver.wait_events(InterruptStatus::USED_BUFFER)?;
        let expected = Seen::Value(InterruptStatus::USED_BUFFER.bits().into());
        scene.check(
            "ack",
            ack.into(),
            Seen::Value(events.bits().into()),
            expected,
        )?;
    }
    Ok(())
}

/// How often is tried what comes by itself: even where all of it is memory that takes a second, and a
/// vCPU is made to leave after a twentieth of one.
const PATIENCE: u32 = 4_000_000_000;

/// A driver may do so, for which no machine may let an acknowledgement wait for ever.
fn interrupt_ack_repeated(scene: &mut Scene<'_>) -> Outcome {
    scene.driver.transport.take_events();
    let data = writable(scene.data.part(0, SECTOR));
    let answer = scene.request(request_type::IN, 0, &[data])?;
    scene.check("request", 0, answer, read_of(SECTOR))?;
    scene.driver.wait_events(InterruptStatus::USED_BUFFER)?;
    let transport = &mut *scene.driver.transport;
    let mut pending = transport.read(Register::InterruptStatus);
    for _ in 0..PATIENCE {
        if pending == 0 {
            break;
        }
        transport.write(Register::InterruptACK, pending);
        pending = transport.read(Register::InterruptStatus);
    }
    let (seen, expected) = (Seen::Value(pending.into()), Seen::Value(0));
    scene.check("pending", 0, seen, expected)
}

/// Addresses in the hole for devices where no machine that we know has any.
const NO_DEVICES: [u64; 3] = [0xc800_0000, 0xd800_0000, 0xd800_0003];

fn no_device_address(scene: &mut Scene<'_>) -> Outcome {
    for address in NO_DEVICES {
        let offset = address.wrapping_sub(scene.window.base);
        for width in Width::ALL {
            scene.driver.transport.write_at(offset, width, 0);
            let seen = Seen::Value(scene.driver.transport.read_at(offset, width));
            scene.check("address", address, seen, Seen::Value(width.ones()))?;
        }
    }
    Ok(())
}

/// Ports where no machine that we know has anything.
const NO_PORTS: [u16; 3] = [0x0900, 0x7ff0, 0xfff0];

fn no_device_port(stage: &mut Stage<'_, '_>) -> Outcome {
    for port in NO_PORTS {
        for width in [Width::One, Width::Two, Width::Four] {
            stage.machine.write_port(port, width, 0);
            let seen = Seen::Value(stage.machine.read_port(port, width).into());
            let expected = Seen::Value(width.ones());
            stage.checks.check("port", port.into(), seen, expected)?;
        }
    }
    Ok(())
}
