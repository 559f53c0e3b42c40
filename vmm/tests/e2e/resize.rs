//! Disks whose images get another size while the machine runs, and SIGHUP, which says so: what our
//! guest and Linux see of it, and what becomes of the image.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use libtest_mimic::Trial;
use spec::block::SECTOR_SIZE;

use crate::guests::{NOTIFY_MODES, disk, start_on};
use crate::harness::{file, wait_until};
use crate::linux::Script;
use crate::linux_disk::empty_image;
use crate::needs::Needs;
use crate::pty::Pty;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    let own_kvm = |name, body| crate::harness::test(name, Needs::OwnKvm, body);
    vec![
        test("resize_is_seen_by_the_guest_in_every_notify_mode", || {
            is_seen("");
        }),
        own_kvm("resize_of_several_disks_at_once", several),
        own_kvm(
            "resize_to_what_no_disk_can_be_is_refused_in_a_line",
            refused,
        ),
        own_kvm("resize_lets_no_write_pass_the_new_end", || {
            shrinks_under_load(&NOTIFY_MODES, "");
        }),
        own_kvm("resize_is_no_meaning_of_a_terminal_that_hangs_up", hang_up),
        crate::harness::test(
            "linux_sees_a_disk_grow_and_shrink",
            Needs::Linux(&[]),
            linux,
        ),
    ]
}

/// Has the image at `path` have this size.
pub fn set_sectors(path: &Path, sectors: u64) {
    let image = File::options().write(true).open(path).unwrap();
    image.set_len(sectors * SECTOR_SIZE).unwrap();
}

/// Resizes a disk with these `options`, in every notify mode.
pub fn is_seen(options: &str) {
    for notify in NOTIFY_MODES {
        let (_dir, path) = empty_image(64 * SECTOR_SIZE);
        let disks = [disk(&path, &format!(",notify={notify}{options}"))];
        let mut running = start_on(None, &disks, "run=watch count=4").spawn();
        running.expect("watch capacity=64\n");
        // The last of them is one of which neither half is that of the one before.
        for sectors in [128, 8, 1 << 33, 1] {
            set_sectors(&path, sectors);
            running.signal(libc::SIGHUP);
            running.expect(&format!("watch capacity={sectors}\n"));
        }
        let ended = running.wait();
        ended.assert_ok("watch count=4 ok");
        // The guest has asked for what is past the end, and nothing else was wrong.
        let told = ended.message();
        assert!(told.ends_with("are not all on the disk"), "{told}");
    }
}

/// One signal is for all; a disk that is as it was has nothing to tell.
fn several() {
    let (_dir, a) = empty_image(64 * SECTOR_SIZE);
    let (_dir2, b) = empty_image(64 * SECTOR_SIZE);
    for (changed, watched) in [(&b, 1), (&a, 0)] {
        let disks = [disk(&a, ""), disk(&b, ",readonly=on,notify=ioeventfd")];
        let cmdline = format!("run=watch disk={watched}");
        let mut running = start_on(None, &disks, &cmdline).spawn();
        running.expect("watch capacity=64\n");
        set_sectors(changed, 99);
        running.signal(libc::SIGHUP);
        running.expect("watch capacity=99\n");
        running.wait().assert_ok("watch count=1 ok");
        set_sectors(changed, 64);
    }
}

fn refused() {
    for (notify, size, block, reason) in [
        (
            "trap",
            1000,
            512,
            "its image cannot be used: its size, 1000 bytes, is not a multiple of 512",
        ),
        (
            "poll",
            9 * 512,
            4096,
            "its image cannot be used: its size, 4608 bytes, is not a multiple of 4096",
        ),
        ("ioeventfd", 0, 512, "its image cannot be used: it is empty"),
    ] {
        let (_dir, path) = empty_image(64 * SECTOR_SIZE);
        let (_said_dir, said) = file("stderr", b"");
        let stderr = File::create(&said).unwrap();
        let options = format!(",notify={notify},id=a disk,block_size={block}");
        let mut running = start_on(None, &[disk(&path, &options)], "run=watch")
            .command(|command| _ = command.stderr(Stdio::from(stderr)))
            .spawn();
        running.expect("watch capacity=64\n");
        let image = File::options().write(true).open(&path).unwrap();
        image.set_len(size).unwrap();
        running.signal(libc::SIGHUP);
        let line = format!(
            "vmm: warning: block: the disk 'a disk' keeps its size of 32768 bytes: {reason}\n"
        );
        wait_until("a size was refused", || {
            fs::read_to_string(&said).unwrap().contains(&line)
        });
        // It goes on, and a size that can be one is taken.
        set_sectors(&path, 128);
        running.signal(libc::SIGHUP);
        running.expect("watch capacity=128\n");
        running.wait().assert_ok("watch count=1 ok");
    }
}

/// The guest writes all over its disk, with these `options`, again and again where it cannot, while
/// the image is cut.
pub fn shrinks_under_load(modes: &[&str], options: &str) {
    for notify in modes {
        let (_dir, path) = empty_image(64 << 20);
        let disks = [disk(&path, &format!(",notify={notify}{options}"))];
        let cmdline = "run=fill count=131072 byte=0x5a retry=on";
        let mut running = start_on(None, &disks, cmdline).spawn();
        let byte_at = |sector: u64| {
            let image = fs::File::open(&path).unwrap();
            let mut byte = [0];
            std::os::unix::fs::FileExt::read_at(&image, &mut byte, sector * SECTOR_SIZE).unwrap();
            byte[0]
        };
        wait_until("the guest has written", || byte_at(0) == 0x5a);
        set_sectors(&path, 4096);
        running.signal(libc::SIGHUP);
        running.expect("status IOERR; trying again\n");
        assert_eq!(fs::metadata(&path).unwrap().len(), 4096 * SECTOR_SIZE);
        // What it had to give up it goes on with where there is room.
        set_sectors(&path, 131_072);
        running.signal(libc::SIGHUP);
        running
            .wait()
            .assert_ok("fill lba=0 count=131072 byte=0x5a ok");
        let image = fs::read(&path).unwrap();
        assert_eq!(image.len(), 64 << 20);
        assert!(image[2 << 20..].iter().all(|&byte| byte == 0x5a));
    }
}

fn hang_up() {
    let (_dir, path) = empty_image(64 * SECTOR_SIZE);
    let pty = Pty::new();
    let mut running = start_on(None, &[disk(&path, "")], "run=watch")
        .stdin(pty.terminal())
        .command(Pty::control)
        .spawn();
    running.expect("watch capacity=64\n");
    drop(pty);
    assert_eq!(running.wait().code(), 128 + libc::SIGHUP);
}

fn linux() {
    let (_dir, path) = empty_image(1 << 20);
    let linux = Script {
        disks: &[disk(&path, ",notify=ioeventfd")],
        ..Script::default()
    };
    let (_script, vmm) = linux.start(
        "size() { cat /sys/block/vda/size; }
        echo WATCHES
        until [ $(size) = 4096 ]; do sleep 0.1; done
        dd if=/dev/zero of=/dev/vda bs=512 seek=4095 count=1 oflag=direct && \
            echo GROWN to $(blockdev --getsize64 /dev/vda)
        until [ $(size) = 512 ]; do sleep 0.1; done
        dd if=/dev/zero of=/dev/vda bs=512 seek=512 count=1 oflag=direct || echo SHRUNK
        echo has $(blockdev --getsize64 /dev/vda)
        dmesg | grep 'new size'
        poweroff -f",
    );
    let mut running = vmm.spawn();
    for (told, sectors) in [("WATCHES", 4096), ("GROWN to 2097152", 512)] {
        running.expect(told);
        set_sectors(&path, sectors);
        running.signal(libc::SIGHUP);
    }
    let ended = running.wait();
    let printed = String::from_utf8_lossy(&ended.stdout).replace('\r', "");
    for told in [
        "SHRUNK",
        "has 262144",
        "[vda] new size: 4096 512-byte logical blocks",
        "[vda] new size: 512 512-byte logical blocks",
    ] {
        assert!(printed.contains(told), "no '{told}' in\n{printed}");
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), 512 * SECTOR_SIZE);
}
