//! A stock Linux guest on our disks: what it is told of them, its root file system, and every byte
//! of what it writes and reads.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::guests::{NOTIFY_MODES, disk};
use crate::harness::file;
use crate::linux::{Script, boot, linux};
use crate::needs::{Needs, tool};

pub fn tests() -> Vec<Trial> {
    let test = crate::harness::test;
    let tools = Needs::Linux(&["tools.img"]);
    vec![
        test(
            "linux_names_disks_in_order_and_reads_their_ids",
            Needs::Linux(&[]),
            disks,
        ),
        test(
            "linux_root_on_ext4_keeps_what_it_writes_in_every_notify_mode",
            Needs::LinuxAndTool(&["busybox"], "mkfs.ext4"),
            root_disk,
        ),
        test(
            "linux_fio_finds_every_byte_by_trap_and_ioeventfd_with_1_cpu",
            tools,
            || fio("1", ""),
        ),
        test(
            "linux_fio_finds_every_byte_by_trapped_and_mapped_registers_with_4_cpus",
            tools,
            || fio("4", ",registers=mapped"),
        ),
        test("linux_is_held_to_the_limits_of_a_disk", tools, throttle),
        test(
            "linux_mkfs_and_300_files_are_there_after_a_remount_and_a_reboot",
            Needs::LinuxAndTool(&["tools.img"], "e2fsck"),
            mkfs,
        ),
        test("linux_sees_and_switches_the_cache", tools, cache),
        test("linux_sees_the_sizes_of_blocks", tools, blocks),
    ]
}

/// Runs a tool of e2fsprogs, and returns what it prints.
#[track_caller]
pub fn e2fs(name: &str, args: &[&str], image: &Path) -> String {
    let output = tool(name).args(args).arg(image).output().unwrap();
    assert!(output.status.success(), "{name}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The init of the root disk: reads back what the boot before has written, and writes anew.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox --install -s /bin
cat /log
echo boot with $(cat /sys/block/vda/serial) >> /log
mkdir -p /files
for i in $(seq 100); do seq $i 1000 > /files/$i; done
sync
echo 3 > /proc/sys/vm/drop_caches
for i in $(seq 100); do seq $i 1000 | cmp - /files/$i || echo MISMATCH $i; done
mount -o remount,ro /
poweroff -f
";

fn root_disk() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    for name in ["bin", "sbin", "dev", "proc", "sys"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::copy(linux("busybox"), root.join("bin/busybox")).unwrap();
    fs::write(root.join("sbin/init"), INIT).unwrap();
    fs::write(root.join("log"), "made on the host\n").unwrap();
    for name in ["bin/busybox", "sbin/init"] {
        fs::set_permissions(root.join(name), Permissions::from_mode(0o755)).unwrap();
    }
    let (_image_dir, image) = empty_image(64 << 20);
    let make = ["-q", "-E", "root_owner=0:0", "-d", root.to_str().unwrap()];
    e2fs("mkfs.ext4", &make, &image);

    let mut log = "made on the host\n".to_owned();
    for notify in NOTIFY_MODES {
        let disk = format!("{},id={notify},notify={notify}", image.display());
        let ended = boot("root=/dev/vda", &[disk]).spawn().wait();
        let printed = String::from_utf8_lossy(&ended.stdout).replace('\r', "");
        assert_eq!(ended.code(), 0, "{}\n{printed}", ended.stderr);
        assert!(printed.contains(&log), "{printed}");
        assert!(!printed.contains("MISMATCH"), "{printed}");
        log += &format!("boot with {notify}\n");
    }
    assert_eq!(e2fs("debugfs", &["-R", "cat /log"], &image), log);
    e2fs("e2fsck", &["-fn"], &image);
}

fn disks() {
    let dir = tempfile::tempdir().unwrap();
    let disks: Vec<String> = ["first", "second", "third"]
        .iter()
        .enumerate()
        .map(|(index, id)| {
            let path = dir.path().join(id);
            fs::write(&path, vec![0; 4096 * (index + 1)]).unwrap();
            format!("{},id={id},readonly=on", path.display())
        })
        .collect();
    let linux = Script {
        disks: &disks,
        ..Script::default()
    };
    let printed = linux.succeed(
        "for d in vda vdb vdc; do
            cd /sys/block/$d
            echo $d $(cat serial) $(cat size) $(cat ro)
        done",
    );
    for line in ["vda first 8 1", "vdb second 16 1", "vdc third 24 1"] {
        assert!(printed.contains(line), "no '{line}' in\n{printed}");
    }
}

fn cache() {
    let (_dir, back) = empty_image(1 << 20);
    let (_dir2, through) = empty_image(1 << 20);
    let back = back.display().to_string();
    let through_disk = format!("{},cache=writethrough", through.display());
    let linux = Script {
        disks: &[back, through_disk],
        ..Script::default()
    };
    let printed = linux.succeed(
        "echo begins $(cat /sys/block/vda/cache_type), $(cat /sys/block/vdb/cache_type)
        echo write back > /sys/block/vdb/cache_type
        for mode in through back through; do
            echo write $mode > /sys/block/vda/cache_type
            echo is $(cat /sys/block/vda/cache_type), $(cat /sys/block/vda/queue/write_cache)
            echo $mode | dd of=/dev/vda bs=512 conv=sync oflag=direct
        done
        echo ends $(cat /sys/block/vda/cache_type), $(cat /sys/block/vdb/cache_type)",
    );
    for line in [
        "begins write back, write through",
        "is write through, write through",
        "is write back, write back",
        "ends write through, write back",
    ] {
        assert!(printed.contains(line), "no '{line}' in\n{printed}");
    }
}

fn blocks() {
    let (_dir, small) = empty_image(1 << 20);
    let (_dir2, large) = empty_image(1 << 20);
    let unit = fs::metadata(&small).unwrap().blksize();
    let small = small.display().to_string();
    let large = format!("{},block_size=4096", large.display());
    let linux = Script {
        disks: &with_tools(&[small, large]),
        ..Script::default()
    };
    let printed = linux.succeed(&format!(
        "{TOOLS}
        for d in vdb vdc; do
            echo $d $(chroot /tools /bin/lsblk -t -d -n -o LOG-SEC,PHY-SEC,MIN-IO,OPT-IO /dev/$d)
        done
        echo 4096 | dd of=/dev/vdc bs=4096 conv=sync oflag=direct
        dd if=/dev/vdc bs=4096 count=1 iflag=direct | head -c 4"
    ));
    for line in [
        format!("vdb 512 {unit} {unit} 0"),
        "vdc 4096 4096 4096 0".to_owned(),
    ] {
        assert!(printed.contains(&line), "no '{line}' in\n{printed}");
    }
}

/// An image of `len` bytes, all zero.
pub fn empty_image(len: u64) -> (TempDir, PathBuf) {
    let (dir, path) = file("disk.img", &[]);
    let image = fs::File::options().write(true).open(&path).unwrap();
    image.set_len(len).unwrap();
    (dir, path)
}

/// Mounts the tools, on /dev/vda, where they can be run by chroot.
pub const TOOLS: &str = "
    mkdir /tools
    mount -r /dev/vda /tools
    for fs in dev proc sys; do mount --bind /$fs /tools/$fs; done
";

/// The disk with the tools, and these.
pub fn with_tools(disks: &[String]) -> Vec<String> {
    let tools = format!("{},readonly=on", linux("tools.img").display());
    [&[tools], disks].concat()
}

/// With `more` options of the disk that has a thread of its own.
fn fio(cpus: &str, more: &str) {
    let (_dir, trap) = empty_image(16 << 20);
    let (_dir2, ioeventfd) = empty_image(16 << 20);
    let disks = [
        disk(&trap, ",notify=trap"),
        disk(&ioeventfd, &format!(",notify=ioeventfd{more}")),
    ];
    let linux = Script {
        cpus,
        disks: &with_tools(&disks),
        ..Script::default()
    };
    linux.succeed(&format!("{TOOLS} chroot /tools fio /verify.fio"));
}

/// They are no lower than they are said to be either, but for how slow a machine is otherwise.
fn throttle() {
    let (_dir, requests) = empty_image(1 << 20);
    let (_dir2, bytes) = empty_image(1 << 20);
    let disks = [
        disk(&requests, ",throttle=iops:100"),
        disk(&bytes, ",throttle=bps:1M"),
    ];
    let linux = Script {
        disks: &with_tools(&disks),
        ..Script::default()
    };
    let printed = linux.succeed(&format!(
        "{TOOLS}
        for job in 'iops vdb 4k' 'bps vdc 32k'; do
            set -- $job
            # IOPS of reads are in the eighth field, KiB/s in the seventh.
            echo $1 $(chroot /tools /bin/fio --name=$1 --filename=/dev/$2 --rw=randread --bs=$3 \
                --direct=1 --time_based --runtime=3 --output-format=terse | cut -d';' -f7,8) end
        done"
    ));
    let told = |name: &str, field: usize| -> u64 {
        let line = printed.lines().find(|line| line.starts_with(name)).unwrap();
        let numbers = line.split_whitespace().nth(1).unwrap();
        numbers.split(';').nth(field).unwrap().parse().unwrap()
    };
    let (iops, kib) = (told("iops ", 1), told("bps ", 0));
    assert!((10..=110).contains(&iops), "{iops} IOPS of 100");
    assert!((100..=1130).contains(&kib), "{kib} KiB/s of 1024");
}

fn mkfs() {
    let (_dir, image) = empty_image(64 << 20);
    let disk = |notify| format!("{},notify={notify}", image.display());
    let check = "(cd /mnt/files; md5sum -c /tools/files.md5 | grep -c OK)";
    let run = |notify, script: &str| {
        let linux = Script {
            disks: &with_tools(&[disk(notify)]),
            ..Script::default()
        };
        let printed = linux.succeed(&format!(
            "{TOOLS} mkdir /mnt\n{script}\n{check}\numount /mnt"
        ));
        assert!(printed.contains("\n300\n"), "{printed}");
    };
    run(
        "trap",
        "chroot /tools mkfs.ext4 -q -E nodiscard /dev/vdb
        mount /dev/vdb /mnt
        cp -r /tools/files /mnt
        umount /mnt
        mount /dev/vdb /mnt",
    );
    run("ioeventfd", "mount /dev/vdb /mnt");
    e2fs("e2fsck", &["-fn"], &image);
}
