//! Disks on block devices of the host: that they are used as files are, what is refused of them, and
//! what a stock Linux guest makes of one.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use spec::block::SECTOR_SIZE;
use tempfile::TempDir;

use crate::block_devices::{Loop, must};
use crate::guests::{NOTIFY_MODES, disk, run_on, start_on};
use crate::linux::Script;
use crate::linux_disk::{TOOLS, e2fs, with_tools};
use crate::needs::{Needs, tool};

const SECTOR: usize = SECTOR_SIZE as usize;
const SIZE: usize = 1 << 20;
/// What the disk holds before, in each byte.
const BEFORE: u8 = 0x77;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Loop, body);
    vec![
        test(
            "device_disk_is_written_and_read_in_every_notify_mode",
            verify,
        ),
        test("device_disk_clears_what_it_is_asked_to_and_no_more", clear),
        test("device_disk_tells_of_the_blocks_of_its_device", info),
        test(
            "device_disk_in_use_or_read_only_is_refused_in_a_line",
            refused,
        ),
        test("device_disk_is_resized_with_its_device", resize),
        crate::harness::test(
            "linux_uses_a_block_device_by_lsblk_blkdiscard_mkfs_fallocate_and_fstrim",
            Needs::LinuxAndLoop(&["tools.img"]),
            linux,
        ),
    ]
}

/// A file that is to be a device, in memory.
fn image(len: usize) -> (TempDir, PathBuf) {
    let dir = TempDir::new_in("/dev/shm").unwrap();
    let path = dir.path().join("disk.img");
    fs::write(&path, vec![BEFORE; len]).unwrap();
    (dir, path)
}

fn verify() {
    for (notify, block, options) in [
        (NOTIFY_MODES[0], "512", "direct=on"),
        (NOTIFY_MODES[1], "4096", "direct=on"),
        (NOTIFY_MODES[2], "512", "cache=writethrough"),
        (NOTIFY_MODES[3], "4096", "cache=writethrough"),
    ] {
        let (_dir, path) = image(SIZE);
        let device = Loop::with(&path, &["--sector-size", block]);
        let disks = [disk(device.path(), &format!(",notify={notify},{options}"))];
        let ended = run_on(None, &disks, "run=verify count=128");
        ended.assert_ok("verify lba=0 count=128 seed=1 depth=8 ok");
        // Half of a block of 4096 bytes, and of another.
        let ended = run_on(None, &disks, "run=fill lba=4 count=9 byte=0x5a");
        ended.assert_ok("fill lba=4 count=9 byte=0x5a ok");
        let before = fs::read(device.path()).unwrap();
        drop(device);
        assert!(fs::read(&path).unwrap() == before, "{notify}, {block}");
        assert_eq!(before[4 * SECTOR..13 * SECTOR], [0x5a; 9 * SECTOR]);
        assert_ne!(before[3 * SECTOR..4 * SECTOR], [0x5a; SECTOR]);
    }
}

/// How many bytes the file takes of its file system.
fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

/// Sectors that begin and end within a block of 4096 bytes, so that as much is cleared as is in whole
/// ones: a discard leaves the rest as it was, zeros are written there.
fn clear() {
    let (lba, count) = (513, 1022);
    let (start, end) = (lba * SECTOR, (lba + count) * SECTOR);
    let kinds = [("512", "off"), ("4096", "on"), ("4096", "off")];
    for ((block, direct), how) in kinds
        .into_iter()
        .flat_map(|kind| ["discard", "unmap", "zeroes"].map(|how| (kind, how)))
    {
        let (_dir, path) = image(SIZE);
        let device = Loop::with(&path, &["--sector-size", block]);
        let disk = disk(device.path(), &format!(",direct={direct}"));
        let cmdline = format!("run=clear lba={lba} count={count} how={how}");
        let ended = run_on(None, &[disk], &cmdline);
        ended.assert_ok(&format!("clear lba={lba} count={count} how={how} ok"));
        drop(device);

        let what = format!("{block}, {direct}, {how}");
        let unit = match (how, block) {
            ("discard", "4096") => 4096,
            _ => SECTOR,
        };
        let mut expected = vec![BEFORE; SIZE];
        expected[start.next_multiple_of(unit)..end / unit * unit].fill(0);
        assert!(fs::read(&path).unwrap() == expected, "{what}");
        // Where all of it could be discarded, or none.
        let whole = (end / 4096 * 4096 - start.next_multiple_of(4096)) as u64;
        match (how, block) {
            ("discard", _) | ("unmap", "512") => {
                assert_eq!(allocated(&path), SIZE as u64 - whole, "{what}");
            }
            _ => assert_eq!(allocated(&path), SIZE as u64, "{what}"),
        }
    }
}

fn info() {
    let (_dir, path) = image(SIZE);
    let device = Loop::with(&path, &["--sector-size", "4096"]);
    let ended = run_on(None, &[disk(device.path(), "")], "run=info");
    ended.assert_ok("info devices=1 ok");
    let text = String::from_utf8(ended.stdout).unwrap();
    let line = "  physical      2^3 blocks\n";
    assert!(text.contains(line), "no {line:?} in\n{text}");
}

fn refused() {
    let (_dir, path) = image(SIZE);
    let refusal = |options: &str, device: &Loop| {
        let ended = run_on(None, &[disk(device.path(), options)], "run=info");
        assert_eq!(ended.code(), 125, "{ended:?}");
        let name = device.path().display().to_string();
        ended.message().replace(&name, "DEVICE")
    };
    {
        let device = Loop::with(&path, &["--read-only"]);
        let message = "--disk: cannot write to DEVICE: the device is read-only, and so the disk has \
                       to be (readonly=on)";
        assert_eq!(refusal("", &device), message);
        run_on(None, &[disk(device.path(), ",readonly=on")], "run=info")
            .assert_ok("info devices=1 ok");
    }
    let device = Loop::new(&path);
    let in_use = "--disk: cannot use DEVICE as a disk image: it is in use ";
    let claimed = format!("{in_use}(mounted, a part of another device, or opened with O_EXCL)");
    let locked = format!("{in_use}(locked by flock)");
    {
        let disks = [disk(device.path(), "")];
        let mut running = start_on(None, &disks, "run=watch").spawn();
        running.expect("watch capacity=2048\n");
        assert_eq!(refusal("", &device), claimed);
        assert_eq!(refusal(",readonly=on", &device), locked);
    }
    {
        // Those who only read share it.
        let disks = [disk(device.path(), ",readonly=on")];
        let mut running = start_on(None, &disks, "run=watch").spawn();
        running.expect("watch capacity=2048\n");
        run_on(None, &disks, "run=info").assert_ok("info devices=1 ok");
        assert_eq!(refusal("", &device), locked);
    }
    drop(device);
    assert!(fs::read(&path).unwrap() == vec![BEFORE; SIZE]);
    File::create(&path).unwrap();
    let empty = "--disk: cannot use DEVICE as a disk image: it is empty";
    assert_eq!(refusal("", &Loop::new(&path)), empty);
}

fn resize() {
    for (notify, direct) in [("trap", "off"), ("ioeventfd", "on"), ("poll", "off")] {
        let (_dir, path) = image(SIZE);
        let device = Loop::new(&path);
        let disks = [disk(
            device.path(),
            &format!(",notify={notify},direct={direct}"),
        )];
        let mut running = start_on(None, &disks, "run=watch count=2").spawn();
        running.expect("watch capacity=2048\n");
        for sectors in [4096, 128] {
            let file = File::options().write(true).open(&path).unwrap();
            file.set_len(sectors * SECTOR_SIZE).unwrap();
            device.resize();
            running.signal(libc::SIGHUP);
            running.expect(&format!("watch capacity={sectors}\n"));
        }
        running.wait().assert_ok("watch count=2 ok");
    }
}

/// On a device with blocks of 4096 bytes, past the host's cache, by registers that are memory.
fn linux() {
    let (_dir, path) = image(32 << 20);
    let device = Loop::with(&path, &["--sector-size", "4096"]);
    let options = ",notify=ioeventfd,direct=on,registers=mapped";
    let linux = Script {
        disks: &with_tools(&[disk(device.path(), options)]),
        ..Script::default()
    };
    let printed = linux.succeed(&format!(
        "{TOOLS}
        run() {{ chroot /tools /bin/$@; }}
        zeros() {{ tr -d '\\0' | wc -c; }}
        echo blocks $(run lsblk -t -d -n -o LOG-SEC,PHY-SEC,MIN-IO /dev/vdb)
        echo discards $(run lsblk -D -d -n -o DISC-GRAN,DISC-MAX /dev/vdb)
        run blkdiscard -o 4M -l 8M /dev/vdb
        run blkdiscard -z -o 16M -l 4M /dev/vdb
        run fallocate -z -n -o 24M -l 1M /dev/vdb
        sync
        echo cleared $(dd if=/dev/vdb bs=1M skip=4 count=8 iflag=direct | zeros) \
            $(dd if=/dev/vdb bs=1M skip=16 count=4 iflag=direct | zeros) \
            $(dd if=/dev/vdb bs=1M skip=24 count=1 iflag=direct | zeros)
        echo kept $(dd if=/dev/vdb bs=1M skip=12 count=4 iflag=direct | zeros)
        run mkfs.ext4 -q -b 4096 -O ^has_journal /dev/vdb
        mount /dev/vdb /tools/tmp
        seq 1000000 | head -c 2097152 > /tools/tmp/file
        dd if=/dev/zero of=/tools/tmp/large bs=1M count=8
        run fallocate -p -o 512K -l 512K /tmp/file
        run fallocate -z -o 1M -l 512K /tmp/file
        rm /tools/tmp/large
        sync
        echo 3 > /proc/sys/vm/drop_caches
        echo file $(dd if=/tools/tmp/file bs=512k skip=1 count=2 | zeros) \
            $(stat -c %s /tools/tmp/file) $(($(stat -c %b /tools/tmp/file) / 1024))
        run fstrim /tmp
        umount /tools/tmp"
    ));
    for line in [
        "blocks 512 4096 4096",
        "discards 4K 16M",
        "cleared 0 0 0",
        "kept 4194304",
        "file 0 2097152 3",
    ] {
        assert!(printed.contains(line), "no '{line}' in\n{printed}");
    }
    must(&mut tool("sync"));
    drop(device);
    let left = allocated(&path) >> 20;
    assert!(left < 8, "{left} MiB are left");
    e2fs("e2fsck", &["-fn"], &path);
}
