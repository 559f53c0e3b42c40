//! A stock Linux guest that discards and writes zeros, by the tools that its users do it with: what
//! it is told of the disk, and what the image takes of its file system from then on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use libtest_mimic::Trial;

use crate::linux::Script;
use crate::linux_disk::{TOOLS, e2fs, empty_image, with_tools};
use crate::needs::Needs;

// By their paths: the initrd has commands of these names that can do less.

const MIB: usize = 1 << 20;

pub fn tests() -> Vec<Trial> {
    let test = crate::harness::test;
    vec![
        test(
            "linux_clears_by_blkdiscard_and_with_z_the_zeros_stay_allocated",
            Needs::Linux(&["tools.img"]),
            blkdiscard,
        ),
        test(
            "linux_clears_by_fstrim_what_deleted_files_have_taken",
            Needs::LinuxAndTool(&["tools.img"], "e2fsck"),
            fstrim,
        ),
    ]
}

/// How many MiB the image takes of its file system, rounded.
fn allocated(image: &Path) -> u64 {
    (fs::metadata(image).unwrap().blocks() * 512 + MIB as u64 / 2) / MIB as u64
}

fn blkdiscard() {
    for notify in ["trap", "ioeventfd"] {
        let (_dir, image) = empty_image(0);
        let mut expected = vec![0x77; 64 * MIB];
        fs::write(&image, &expected).unwrap();
        let linux = Script {
            disks: &with_tools(&[format!("{},notify={notify}", image.display())]),
            ..Script::default()
        };
        let printed = linux.succeed(&format!(
            "{TOOLS}
            echo limits $(chroot /tools /bin/lsblk -D -d -n -o DISC-ALN,DISC-GRAN,DISC-MAX /dev/vdb) \
                $(cat /sys/block/vdb/queue/write_zeroes_max_bytes)
            chroot /tools /bin/blkdiscard -o 8M -l 20M /dev/vdb
            chroot /tools /bin/blkdiscard -z -o 32M -l 20M /dev/vdb
            sync
            echo zeros $(dd if=/dev/vdb bs=1M skip=32 count=20 | tr -d '\\0' | wc -c)"
        ));
        let unit = fs::metadata(&image).unwrap().blksize() / 1024;
        for line in [
            format!("limits 0 {unit}K 16M 16777216"),
            "zeros 0".to_owned(),
        ] {
            assert!(printed.contains(&line), "no '{line}' in\n{printed}");
        }
        expected[8 * MIB..28 * MIB].fill(0);
        expected[32 * MIB..52 * MIB].fill(0);
        assert!(fs::read(&image).unwrap() == expected, "{notify}");
        assert_eq!(allocated(&image), 64 - 20, "{notify}");
    }
}

fn fstrim() {
    let (_dir, image) = empty_image(64 << 20);
    let run = |script: &str| {
        let linux = Script {
            disks: &with_tools(&[image.display().to_string()]),
            ..Script::default()
        };
        linux.succeed(&format!("{TOOLS}\n{script}\numount /tools/tmp"));
        allocated(&image)
    };
    let full = run("chroot /tools /bin/mkfs.ext4 -q /dev/vdb
        mount /dev/vdb /tools/tmp
        dd if=/dev/zero of=/tools/tmp/file bs=1M count=30");
    assert!(full >= 30, "{full} MiB for a file of 30 MiB");
    let trimmed = run("mount /dev/vdb /tools/tmp
        rm /tools/tmp/file
        sync
        chroot /tools /bin/fstrim /tmp");
    assert!(trimmed <= full - 29, "{trimmed} of {full} MiB are left");
    e2fs("e2fsck", &["-fn"], &image);
}
