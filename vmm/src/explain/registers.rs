//! What an access to a virtio-mmio register says, in the specification's words. Names alone: what the
//! device does about it is not known here.

use bitflags::Flags;
use spec::block::config;
use spec::mmio::{CONFIG_OFFSET, DEVICE_ID_BLOCK, DeviceStatus, InterruptStatus, MAGIC, Register};

use super::story::{Direction, Features};

/// The fields of the configuration space: offset, length in bytes, and name.
const CONFIG: &[(u64, u64, &str)] = &[
    (config::CAPACITY, 8, "capacity"),
    (config::SIZE_MAX, 4, "size_max"),
    (config::SEG_MAX, 4, "seg_max"),
    (config::CYLINDERS, 4, "geometry"),
    (config::BLK_SIZE, 4, "blk_size"),
    (config::PHYSICAL_BLOCK_EXP, 1, "topology.physical_block_exp"),
    (config::ALIGNMENT_OFFSET, 1, "topology.alignment_offset"),
    (config::MIN_IO_SIZE, 2, "topology.min_io_size"),
    (config::OPT_IO_SIZE, 4, "topology.opt_io_size"),
    (config::WRITEBACK, 1, "writeback"),
    (config::MAX_DISCARD_SECTORS, 4, "max_discard_sectors"),
    (config::MAX_DISCARD_SEG, 4, "max_discard_seg"),
    (
        config::DISCARD_SECTOR_ALIGNMENT,
        4,
        "discard_sector_alignment",
    ),
    (
        config::MAX_WRITE_ZEROES_SECTORS,
        4,
        "max_write_zeroes_sectors",
    ),
    (config::MAX_WRITE_ZEROES_SEG, 4, "max_write_zeroes_seg"),
    (config::WRITE_ZEROES_MAY_UNMAP, 1, "write_zeroes_may_unmap"),
];

/// The selectors, which decide what other registers speak of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selectors {
    /// DeviceFeaturesSel.
    pub device_features: u32,
    /// DriverFeaturesSel.
    pub driver_features: u32,
}

/// The name of what is at `offset` from the start of the window.
#[must_use]
pub fn name(offset: u64) -> Option<String> {
    let Some(offset) = offset.checked_sub(CONFIG_OFFSET) else {
        return Register::at(offset).map(|register| format!("{register:?}"));
    };
    let field = CONFIG
        .iter()
        .find(|(start, len, _)| (*start..start + len).contains(&offset));
    field.map(|(start, _, name)| match offset - start {
        0 => format!("config.{name}"),
        within => format!("config.{name}+{within}"),
    })
}

/// What `value`, which is read from or written to `offset`, says: the names of its bits, or what it
/// stands for, if it does for anything.
#[must_use]
pub fn meaning(
    offset: u64,
    direction: Direction,
    value: u64,
    selectors: &Selectors,
) -> Vec<String> {
    let text = |text: &str| vec![text.to_owned()];
    let features = |sel: u32| match sel {
        0 => feature_names(value),
        1 => feature_names(value << 32),
        _ => Vec::new(),
    };
    let write = direction == Direction::Write;
    match Register::at(offset) {
        Some(Register::MagicValue) if value == u64::from(MAGIC) => text("\"virt\""),
        Some(Register::Version) if value == 1 => text("legacy"),
        Some(Register::DeviceID) if value == u64::from(DEVICE_ID_BLOCK) => text("block device"),
        Some(Register::DeviceID) if value == 0 => text("no device"),
        Some(Register::DeviceFeatures) if !write => features(selectors.device_features),
        Some(Register::DriverFeatures) if write => features(selectors.driver_features),
        Some(Register::DeviceFeaturesSel | Register::DriverFeaturesSel) => match value {
            0 => text("bits 0 to 31"),
            1 => text("bits 32 to 63"),
            _ => Vec::new(),
        },
        Some(Register::Status) if value == 0 => {
            text(if write { "reset" } else { "has been reset" })
        }
        Some(Register::Status) => names(&DeviceStatus::from_bits_retain(value as u32)),
        Some(Register::InterruptStatus | Register::InterruptACK) => interrupt_names(value as u32),
        Some(Register::QueueReady) => text(if value == 0 { "not in use" } else { "in use" }),
        Some(Register::QueueNotify | Register::QueueSel) => vec![format!("queue {value}")],
        Some(Register::QueueNum | Register::QueueNumMax) => vec![format!("{value} descriptors")],
        _ if offset == CONFIG_OFFSET + config::WRITEBACK => text(if value == 0 {
            "write-through"
        } else {
            "write-back"
        }),
        _ => Vec::new(),
    }
}

/// The features with these bits.
#[must_use]
pub fn features(bits: u64) -> Features {
    Features {
        bits,
        names: feature_names(bits),
    }
}

/// The names of the bits of InterruptStatus.
#[must_use]
pub fn interrupt_names(value: u32) -> Vec<String> {
    names(&InterruptStatus::from_bits_retain(value))
}

fn feature_names(bits: u64) -> Vec<String> {
    names(&spec::Features::from_bits_retain(bits))
}

/// The name of each bit that is set, from bit 0 on.
fn names<F: Flags<Bits: Into<u64>> + Copy>(flags: &F) -> Vec<String> {
    let bits: u64 = flags.bits().into();
    (0..u64::BITS)
        .filter(|bit| bits >> bit & 1 != 0)
        .map(|bit| {
            let is = |flag: &&bitflags::Flag<F>| flag.value().bits().into() == 1 << bit;
            match F::FLAGS.iter().find(is) {
                Some(flag) => flag.name().to_owned(),
                None => format!("bit {bit}"),
            }
        })
        .collect()
}

#[cfg(test)]
#[path = "registers_tests.rs"]
mod tests;
