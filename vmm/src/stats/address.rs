//! Names for what the guest can reach by address: which register of which device. It looks names
//! up for people to read; what answers at an address is the bus's to say.

use spec::mmio::{CONFIG_OFFSET, Register};

/// A device's range of addresses.
#[derive(Clone, Debug)]
struct Region {
    base: u64,
    len: u64,
    device: String,
}

/// Which devices are where, in the words of a report.
#[derive(Clone, Debug, Default)]
pub struct AddressMap {
    ports: Vec<Region>,
    windows: Vec<Region>,
}

/// One of the two kinds of addresses there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Space {
    /// I/O ports.
    Pio,
    /// Guest-physical addresses where there is no RAM.
    Mmio,
}

impl AddressMap {
    /// Gives the `len` ports from `base` the name of their `device`.
    pub fn add_ports(&mut self, base: u16, len: u8, device: &str) {
        self.ports.push(Region {
            base: base.into(),
            len: len.into(),
            device: device.to_owned(),
        });
    }

    /// Gives the virtio-mmio window of `len` bytes from `base` the name of its `device`.
    pub fn add_virtio_mmio(&mut self, base: u64, len: u64, device: &str) {
        self.windows.push(Region {
            base,
            len,
            device: device.to_owned(),
        });
    }

    /// Whether a device is at `address`.
    #[must_use]
    pub fn is_mapped(&self, space: Space, address: u64) -> bool {
        self.find(space, address).is_some()
    }

    /// The device at `address`, and its register there: for a virtio-mmio register the
    /// specification's name, for all else the offset.
    #[must_use]
    pub fn name(&self, space: Space, address: u64) -> Option<(&str, String)> {
        let (region, offset) = self.find(space, address)?;
        let register = match (space, Register::at(offset)) {
            (Space::Mmio, Some(register)) => format!("{register:?}"),
            (Space::Mmio, None) if offset >= CONFIG_OFFSET => {
                format!("config+{:#x}", offset - CONFIG_OFFSET)
            }
            _ => format!("+{offset:#x}"),
        };
        Some((&region.device, register))
    }

    fn find(&self, space: Space, address: u64) -> Option<(&Region, u64)> {
        let regions = match space {
            Space::Pio => &self.ports,
            Space::Mmio => &self.windows,
        };
        regions.iter().find_map(|region| {
            let offset = address.checked_sub(region.base)?;
            (offset < region.len).then_some((region, offset))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> AddressMap {
        let mut map = AddressMap::default();
        map.add_ports(0x3f8, 8, "COM1");
        map.add_virtio_mmio(0xd000_0000, 0x1000, "virtio-blk 0 (a)");
        map.add_virtio_mmio(0xd000_1000, 0x1000, "virtio-blk 1 (b)");
        map
    }

    #[track_caller]
    fn assert_named(space: Space, address: u64, expected: Option<(&str, &str)>) {
        let map = map();
        let name = map.name(space, address);
        let name = name
            .as_ref()
            .map(|(device, register)| (*device, register.as_str()));
        assert_eq!(name, expected, "{address:#x}");
        assert_eq!(map.is_mapped(space, address), expected.is_some());
    }

    #[test]
    fn virtio_registers_have_the_names_of_the_specification() {
        let first = "virtio-blk 0 (a)";
        for (address, device, register) in [
            (0xd000_0050, first, "QueueNotify"),
            (0xd000_0000, first, "MagicValue"),
            (0xd000_0051, first, "+0x51"),
            (0xd000_0104, first, "config+0x4"),
            (0xd000_1064, "virtio-blk 1 (b)", "InterruptACK"),
        ] {
            assert_named(Space::Mmio, address, Some((device, register)));
        }
    }

    #[test]
    fn ports_are_named_by_their_offset() {
        assert_named(Space::Pio, 0x3f8, Some(("COM1", "+0x0")));
        assert_named(Space::Pio, 0x3ff, Some(("COM1", "+0x7")));
    }

    #[test]
    fn where_no_device_is_there_is_no_name() {
        for address in [0x3f7, 0x400, 0xd000_0050] {
            assert_named(Space::Pio, address, None);
        }
        for address in [0, 0x3f8, 0xcfff_ffff, 0xd000_2000, u64::MAX] {
            assert_named(Space::Mmio, address, None);
        }
    }
}
