use super::*;

fn cmdline(words: &str, disks: usize) -> Result<String, CmdlineError> {
    let windows: Vec<_> = (0..disks).map(layout::virtio_mmio).collect();
    kernel_cmdline(words, &windows).map(|line| line.into_string().unwrap())
}

#[test]
fn without_words_and_disks_the_command_line_is_empty() {
    assert_eq!(cmdline("", 0).unwrap(), "");
}

#[test]
fn every_disk_is_named_after_the_users_words() {
    assert_eq!(
        cmdline("run=info disk=1", 2).unwrap(),
        "run=info disk=1 virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6"
    );
}

#[test]
fn a_disk_whose_registers_are_memory_is_named_by_where_they_are() {
    let disk = |registers| DiskConfig {
        registers,
        ..DiskConfig::new("disk".into(), "disk")
    };
    let disks = [Registers::Trap, Registers::Mapped, Registers::Trap].map(disk);
    let line = kernel_cmdline("", &windows(&disks)).unwrap();
    assert_eq!(
        line.to_str().unwrap().trim(),
        "virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0082fa0:6 \
         virtio_mmio.device=4K@0xd0002000:7"
    );
}

#[test]
fn disks_are_named_before_the_arguments_of_init() {
    assert_eq!(
        cmdline("console=ttyS0 -- single", 1).unwrap(),
        "console=ttyS0 virtio_mmio.device=4K@0xd0000000:5 -- single"
    );
}

#[test]
fn arguments_for_init_alone_are_refused() {
    assert_eq!(
        cmdline(" -- single", 0).unwrap_err(),
        CmdlineError::OnlyInitArguments
    );
}

#[test]
fn the_longest_command_line_that_fits_is_taken_and_one_byte_more_is_refused() {
    for disks in [0, 1, spec::board::VIRTIO_MMIO_MAX] {
        let CmdlineError::TooLong { room, .. } = cmdline(&"x".repeat(9999), disks).unwrap_err()
        else {
            panic!("9999 bytes fitted");
        };
        let whole = cmdline(&"x".repeat(room), disks).unwrap();
        assert!(whole.len() < layout::CMDLINE_SIZE);
        assert_eq!(
            cmdline(&"x".repeat(room + 1), disks).unwrap_err(),
            CmdlineError::TooLong {
                len: room + 1,
                room
            }
        );
    }
}

#[test]
fn a_command_line_is_printable_ascii() {
    for words in ["a\nb", "a\0b", "gr\u{fc}n", "\x1b[31m"] {
        assert_eq!(cmdline(words, 0).unwrap_err(), CmdlineError::NotPrintable);
    }
}

#[test]
fn each_notify_mode_is_found_by_its_own_name() {
    for mode in Notify::ALL {
        assert_eq!(Notify::from_name(mode.name()), Some(mode));
    }
    assert_eq!(Notify::ALL[0], Notify::default());
    assert_eq!(Notify::from_name("Trap"), None);
}
