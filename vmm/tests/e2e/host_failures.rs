//! A host that fails below the disk, by real means: a full file system, a file that is cut short
//! under the machine, a device with errors. The guest is told IOERR, the machine lives, and what the
//! guest asks again is done when the host has recovered.

use std::fs::{self, File};
use std::panic::resume_unwind;
use std::path::Path;

use libtest_mimic::Trial;
use spec::block::SECTOR_SIZE;

use crate::block_devices::{Loop, Mapped, Mounted, make_ext4, must};
use crate::guests::{NOTIFY_MODES, disk, run_on, start_on};
use crate::harness::{file, pipe, wait_readable};
use crate::needs::{Needs, tool};

const SECTOR: usize = SECTOR_SIZE as usize;
/// What the workloads of the guest say of a request that fails, with `retry=on`.
const FAILED: &str = "status IOERR; trying again\n";

pub fn tests() -> Vec<Trial> {
    let test = crate::harness::test;
    vec![
        test(
            "host_failure_full_file_system_is_ioerr_until_there_is_room",
            Needs::KvmAndMountNamespace,
            || in_mount_namespace(full_file_system),
        ),
        test(
            "host_failure_image_cut_short_is_ioerr_until_it_is_whole",
            Needs::OwnKvm,
            cut_short,
        ),
        test(
            "host_failure_device_with_errors_is_ioerr_until_it_is_repaired",
            Needs::DeviceMapper,
            device_with_errors,
        ),
    ]
}

/// Runs `body` where it can mount what nobody else sees, and nothing is left of it.
fn in_mount_namespace(body: fn()) {
    let thread = std::thread::spawn(move || {
        // SAFETY: it changes what paths mean for this thread, and for what it starts.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
        must(tool("mount").args(["--make-rprivate", "/"]));
        body();
    });
    if let Err(panic) = thread.join() {
        resume_unwind(panic);
    }
}

fn full_file_system() {
    for notify in NOTIFY_MODES {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        must(
            tool("mount")
                .args(["-t", "tmpfs", "-o", "size=2M", "none"])
                .arg(at),
        );
        let (ballast, image) = (at.join("ballast"), at.join("disk.img"));
        fs::write(&ballast, vec![1; 3 << 19]).unwrap();
        // Larger than the file system.
        File::create(&image).unwrap().set_len(4 << 20).unwrap();
        let disks = [disk(&image, &format!(",notify={notify}"))];
        let fill = "run=fill lba=8 count=2048 byte=0x5a";

        let failed = run_on(None, &disks, fill);
        failed.assert_failed("fill lba=8 count=2048 byte=0x5a FAILED: write at", "IOERR");

        let mut running = start_on(None, &disks, &format!("{fill} retry=on")).spawn();
        running.expect(FAILED);
        fs::remove_file(&ballast).unwrap();
        running
            .wait()
            .assert_ok("fill lba=8 count=2048 byte=0x5a ok");
        let mut expected = vec![0; 4 << 20];
        expected[8 * SECTOR..][..2048 * SECTOR].fill(0x5a);
        assert!(fs::read(&image).unwrap() == expected, "notify={notify}");
        must(tool("umount").arg(at));
    }
}

/// The guest reads 64 KiB and shows them, and a pipe of one page holds it up there until the image
/// has been cut in the middle of what it reads next.
fn cut_short() {
    let content: Vec<u8> = (0..256 * SECTOR).map(|at| (at / SECTOR) as u8).collect();
    let cut = 200 * SECTOR as u64 + 100;
    for notify in NOTIFY_MODES {
        let (_dir, path) = file("disk.img", &content);
        let image = File::options().write(true).open(&path).unwrap();
        let (mut reader, writer) = pipe();
        rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
        let disk = disk(&path, &format!(",readonly=on,notify={notify}"));
        let vmm = start_on(None, &[disk], "run=read count=256 retry=on");
        let running = vmm.stdout(writer).spawn();
        assert!(wait_readable(&reader), "the guest said nothing");
        image.set_len(cut).unwrap();
        let failed = format!("read at lba=128: {FAILED}");
        crate::harness::expect(&mut reader, &failed);
        fs::write(&path, &content).unwrap();
        crate::harness::expect(&mut reader, "read at lba=128: succeeded\n");
        let verdict = format!(
            "read lba=0 count=256 crc32={:08x} ok\n",
            crc32fast::hash(&content)
        );
        crate::harness::expect(&mut reader, &verdict);
        assert_eq!(running.wait().code(), 0);
    }
}

fn device_with_errors() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = |name| dir.path().join(name);
    let size = 16_u64 << 20;
    File::create(place("disk")).unwrap().set_len(size).unwrap();
    let below = Loop::new(&place("disk"));
    let sectors = size / SECTOR_SIZE;
    let sound = format!("0 {sectors} linear {} 0", below.path().display());
    let broken = format!("0 {sectors} error");
    let device = Mapped::new("vmm-host-failures", &sound);
    make_ext4(device.path(), &["-O", "^has_journal"]);
    let mounted = Mounted::new(device.path(), &place("mount"));
    let image = mounted.path().join("disk.img");
    let mut content = vec![0x11; 256 * SECTOR];
    fs::write(&image, &content).unwrap();
    must(&mut tool("sync"));
    let kept_open = File::open(&image).unwrap();
    let disks = [disk(&image, "")];

    // What the host cannot write it has not written when it is asked to.
    device.become_table(&broken);
    let fill = run_on(None, &disks, "run=fill lba=0 count=64 byte=0x22");
    fill.assert_failed("fill lba=0 ", "flush at lba=0: status IOERR");
    assert!(fill.stderr.contains("a flush failed"), "{}", fill.stderr);
    device.become_table(&sound);
    run_on(None, &disks, "run=fill lba=64 count=64 byte=0x33")
        .assert_ok("fill lba=64 count=64 byte=0x33 ok");
    run_on(None, &disks, "run=fill lba=0 count=64 byte=0x44")
        .assert_ok("fill lba=0 count=64 byte=0x44 ok");
    content[..64 * SECTOR].fill(0x44);
    content[64 * SECTOR..][..64 * SECTOR].fill(0x33);

    forget_caches();
    device.become_table(&broken);
    let mut running = start_on(None, &disks, "run=read count=256 retry=on").spawn();
    running.expect(&format!("read at lba=0: {FAILED}"));
    device.become_table(&sound);
    let crc = crc32fast::hash(&content);
    let verdict = format!("read lba=0 count=256 crc32={crc:08x} ok");
    running.wait().assert_ok(&verdict);
    drop(kept_open);
}

/// What is read next comes from the disk.
fn forget_caches() {
    must(&mut tool("sync"));
    fs::write(Path::new("/proc/sys/vm/drop_caches"), "3").unwrap();
}
