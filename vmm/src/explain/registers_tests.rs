use super::*;

fn of(offset: u64, direction: Direction, value: u64) -> String {
    let selectors = Selectors {
        device_features: 0,
        driver_features: 1,
    };
    meaning(offset, direction, value, &selectors).join(" ")
}

#[test]
fn registers_and_fields_have_the_names_of_the_specification() {
    for (offset, expected) in [
        (0x50, Some("QueueNotify")),
        (0x70, Some("Status")),
        (0x51, None),
        (0x100, Some("config.capacity")),
        (0x104, Some("config.capacity+4")),
        (0x120, Some("config.writeback")),
        (0x110, Some("config.geometry")),
        (0x113, Some("config.geometry+3")),
        (0x121, None),
        (0x122, None),
    ] {
        assert_eq!(name(offset).as_deref(), expected, "{offset:#x}");
    }
}

#[test]
fn every_register_has_its_name() {
    for register in Register::ALL {
        assert_eq!(name(register.offset()), Some(format!("{register:?}")));
    }
}

#[test]
fn bits_have_their_names_and_a_word_of_features_those_of_its_selector() {
    use Direction::{Read, Write};
    for (offset, direction, value, expected) in [
        (0x00, Read, 0x7472_6976, "\"virt\""),
        (0x08, Read, 2, "block device"),
        (
            0x10,
            Read,
            1 << 9 | 1 << 29,
            "VIRTIO_BLK_F_FLUSH VIRTIO_F_EVENT_IDX",
        ),
        (0x10, Read, 1 << 3, "bit 3"),
        (0x20, Write, 1, "VIRTIO_F_VERSION_1"),
        (0x20, Write, 1 << 6, "bit 38"),
        (0x70, Write, 0, "reset"),
        (0x70, Read, 0xf, "ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK"),
        (0x60, Read, 3, "USED_BUFFER CONFIG_CHANGE"),
        (0x44, Write, 1, "in use"),
        (0x50, Write, 0, "queue 0"),
        (0x80, Write, 0x17_0000, ""),
    ] {
        assert_eq!(of(offset, direction, value), expected, "{offset:#x}");
    }
}
