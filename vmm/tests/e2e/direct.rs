//! Disks that are read and written past the host's cache.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use libtest_mimic::Trial;

use crate::guests::{NOTIFY_MODES, disk, run_on, start_on};
use crate::harness::wait_until;
use crate::linux_disk::empty_image;
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test(
            "direct_disk_is_written_and_read_in_every_notify_mode",
            verify,
        ),
        test("direct_disk_passes_the_hosts_cache_by", passes_by),
        test("direct_disk_ends_where_its_image_does", tail),
        crate::harness::test(
            "direct_disk_is_refused_before_the_guest_starts_where_it_cannot_be",
            Needs::Nothing,
            refused,
        ),
    ]
}

/// Whether the file at `path` can be read past the cache; says so if not.
pub fn has_direct_io(path: &Path) -> bool {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path);
    if let Err(error) = &file {
        eprintln!("no direct I/O on {}: {error}", path.display());
    }
    file.is_ok()
}

fn verify() {
    for notify in NOTIFY_MODES {
        let (_dir, path) = empty_image(1 << 20);
        if !has_direct_io(&path) {
            return;
        }
        for cache in ["writeback", "writethrough"] {
            let options = format!(",notify={notify},direct=on,cache={cache}");
            let disks = [disk(&path, &options)];
            let ended = run_on(None, &disks, "run=verify count=2048");
            ended.assert_ok("verify lba=0 count=2048 seed=1 depth=8 ok");
        }
        // And what is on it is in the image.
        let disks = [disk(&path, &format!(",notify={notify},direct=on"))];
        let ended = run_on(None, &disks, "run=fill lba=3 count=7 byte=0x5a");
        ended.assert_ok("fill lba=3 count=7 byte=0x5a ok");
        let image = fs::read(&path).unwrap();
        assert_eq!(image[3 * 512..10 * 512], [0x5a; 7 * 512]);
    }
}

/// The file that the machine has open is so.
fn passes_by() {
    let (_dir, path) = empty_image(1 << 20);
    if !has_direct_io(&path) {
        return;
    }
    for (direct, expected) in [("on", libc::O_DIRECT), ("off", 0)] {
        let disks = [disk(&path, &format!(",direct={direct},throttle=bps:1"))];
        let running = start_on(None, &disks, "run=fill count=2048 byte=0x5a").spawn();
        let flags = || {
            let files = fs::read_dir(running.proc("fd")).ok()?;
            let entries = files.filter_map(Result::ok);
            let mut images = entries
                .filter(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == path));
            let info = running.proc("fdinfo").join(images.next()?.file_name());
            let info = fs::read_to_string(info).ok()?;
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
            i32::from_str_radix(flags.trim(), 8).ok()
        };
        wait_until("the image is open as it is to be", || {
            flags().is_some_and(|flags| flags & libc::O_DIRECT == expected)
        });
        running.signal(libc::SIGTERM);
        running.wait();
    }
}

/// The last sector can be written, and the image keeps its length.
fn tail() {
    let (_dir, path) = empty_image(12 << 10);
    if !has_direct_io(&path) {
        return;
    }
    let disks = [disk(&path, ",direct=on")];
    let ended = run_on(None, &disks, "run=fill lba=23 count=1 byte=0x77");
    ended.assert_ok("fill lba=23 count=1 byte=0x77 ok");
    let mut expected = vec![0; 12 << 10];
    expected[23 * 512..].fill(0x77);
    assert!(fs::read(&path).unwrap() == expected);
}

fn refused() {
    // Files of sysfs have a size, and no direct I/O.
    let path = Path::new("/sys/kernel/uevent_seqnum");
    let ended = run_on(None, &[disk(path, ",readonly=on,direct=on")], "");
    assert_eq!(ended.code(), 125);
    assert_eq!(
        ended.message(),
        "--disk: cannot use /sys/kernel/uevent_seqnum as a disk image by direct I/O: its file system has no \
         direct I/O (O_DIRECT) for it"
    );
}
