//! What the command line parser promises.

use super::*;
use proptest::prelude::*;
use std::format;
use std::vec::Vec;

#[test]
fn the_last_value_of_a_key_wins() {
    let line = CommandLine("run=info lba=1 quiet run=read  lba=0x10");
    assert_eq!(line.value("run"), Some("read"));
    assert_eq!(line.value("lba"), Some("0x10"));
    assert_eq!(line.value("quiet"), None);
    assert_eq!(line.value("count"), None);
}

#[test]
fn a_value_may_contain_an_equals_sign_or_be_empty() {
    let line = CommandLine("a=b=c d=");
    assert_eq!(line.value("a"), Some("b=c"));
    assert_eq!(line.value("d"), Some(""));
}

#[test]
fn devices_are_found_in_the_syntax_of_linux() {
    let line = CommandLine(
        "virtio_mmio.device=4K@0xd0000000:5 run=info virtio_mmio.device=512@0xfeb00e00:12:7 \
         virtio_mmio.device=0x200@3489660928:6",
    );
    let window = |base, size, gsi| Ok(Window { base, size, gsi });
    assert_eq!(
        line.devices().collect::<Vec<_>>(),
        [
            window(0xd000_0000, 4096, 5),
            window(0xfeb0_0e00, 512, 12),
            window(0xd000_0000, 512, 6),
        ]
    );
}

#[test]
fn a_device_that_is_malformed_is_named() {
    let wrong = [
        "",
        "4K",
        "4K@",
        "4K@0xd0000000",
        "4K@0xd0000000:",
        "@0xd0000000:5",
        "4K@nowhere:5",
        "4K@0xd0000000:5:x",
        "4K@0xd0000000:5:1:2",
        "0@0xd0000000:5",
        "4T@0xd0000000:5",
        "4K@0xffffffffffffffff:5",
        "4K@0xd0000000:0x100000000",
        "4K@-1:5",
    ];
    for value in wrong {
        let text = format!("virtio_mmio.device={value}");
        let found: Vec<_> = CommandLine(&text).devices().collect();
        assert_eq!(found, [Err(BadDevice(value))]);
    }
}

#[test]
fn numbers_are_decimal_or_hexadecimal_without_a_sign() {
    assert_eq!(number("42"), Some(42));
    assert_eq!(number("0x2a"), Some(42));
    assert_eq!(number("0X2A"), Some(42));
    assert_eq!(number("18446744073709551615"), Some(u64::MAX));
    for wrong in [
        "",
        "0x",
        "-1",
        "+1",
        "0x+1",
        "2a",
        "18446744073709551616",
        "1 ",
    ] {
        assert_eq!(number(wrong), None, "{wrong:?}");
    }
}

#[test]
fn sizes_have_binary_suffixes_and_do_not_overflow() {
    assert_eq!(size("512"), Some(512));
    assert_eq!(size("4K"), Some(4096));
    assert_eq!(size("0x10m"), Some(16 << 20));
    assert_eq!(size("1G"), Some(1 << 30));
    for wrong in ["", "K", "4KK", "18446744073709551615K", "4é"] {
        assert_eq!(size(wrong), None, "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn a_device_that_is_written_is_read_back(
        base in 0u64..1 << 48,
        size in 1u64..1 << 20,
        gsi in 0u32..24,
    ) {
        let text = format!("x virtio_mmio.device={size:#x}@{base:#x}:{gsi} y");
        let found: Vec<_> = CommandLine(&text).devices().collect();
        prop_assert_eq!(found, [Ok(Window { base, size, gsi })]);
    }

    #[test]
    fn no_command_line_panics(text in ".*") {
        let line = CommandLine(&text);
        let _ = line.devices().count() + line.pairs().count();
        let _ = size(&text);
    }
}
