use std::os::unix::fs::symlink;

use tempfile::{TempDir, tempfile};

use super::*;

const DEVICE: Device = Device {
    block: 4096,
    topology: Topology::of_blocks(4096),
    discard_granularity: None,
};

#[test]
fn the_blocks_of_a_device_are_whole_or_not() {
    for (position, len, whole) in [
        (0, 4096, true),
        (8192, 12_288, true),
        (4096, 0, true),
        (512, 4096, false),
        (4096, 512, false),
        (3584, 512, false),
    ] {
        assert_eq!(
            DEVICE.is_whole_blocks(position, len),
            whole,
            "{position} {len}"
        );
    }
}

#[test]
fn a_discard_of_no_whole_block_asks_nothing_of_the_device() {
    // What is no device would refuse it.
    let file = tempfile().unwrap();
    for (position, len) in [
        (0, 0),
        (512, 512),
        (512, 7679),
        (4096, 4095),
        (u64::MAX - 4000, 4000),
    ] {
        DEVICE.discard(&file, position, len).unwrap();
    }
    let error = DEVICE.discard(&file, 512, 7680).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
}

#[test]
fn what_is_no_device_tells_nothing() {
    let file = tempfile().unwrap();
    let error = Device::of(&file, false).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
    is_read_only(&file).unwrap_err();
}

/// The kernel has a directory of a partition in that of its disk, and tells of both by links.
#[test]
fn a_partition_has_the_queue_of_its_disk() {
    let sysfs = TempDir::new().unwrap();
    let place = |name: &str| sysfs.path().join(name);
    for made in ["devices/sda/queue", "devices/sda/sda1", "dev"] {
        fs::create_dir_all(place(made)).unwrap();
    }
    fs::write(place("devices/sda/sda1/partition"), "1\n").unwrap();
    symlink("../devices/sda", place("dev/8:0")).unwrap();
    symlink("../devices/sda/sda1", place("dev/8:1")).unwrap();
    let disk = place("devices/sda/queue").canonicalize().unwrap();
    for device in ["dev/8:0", "dev/8:1"] {
        let queue = queue(&place(device));
        assert_eq!(queue.canonicalize().unwrap(), disk, "{device}");
    }
}

#[test]
fn a_device_discards_if_its_queue_says_how_much_and_in_which_unit() {
    let queue = TempDir::new().unwrap();
    let told = |most: &str, unit: &str| {
        fs::write(queue.path().join("discard_max_bytes"), most).unwrap();
        fs::write(queue.path().join("discard_granularity"), unit).unwrap();
        discard_granularity(queue.path())
    };
    assert_eq!(told("4294966784\n", "4096\n"), Some(4096));
    assert_eq!(told("65536\n", "0\n"), Some(0));
    assert_eq!(told("0\n", "512\n"), None);
    assert_eq!(told("65536\n", "4294967296\n"), None);
    assert_eq!(told("much\n", "512\n"), None);
    assert_eq!(discard_granularity(Path::new("/nothing")), None);
}
