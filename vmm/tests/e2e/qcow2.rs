//! Disks in qcow2 images that qemu-img has made, and what qemu-img says of them afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use guest::rng::pattern;
use libtest_mimic::Trial;
use serde_json::Value;
use spec::rng::Rng;
use tempfile::TempDir;

use crate::block_devices::Loop;
use crate::data_safety::{DISK_SIZE, Figures, Run, seed};
use crate::guests::{NOTIFY_MODES, disk, run_on, start_on};
use crate::journal::{Acknowledged, Journal};
use crate::linux::Script;
use crate::linux_disk::{TOOLS, with_tools};
use crate::needs::{Needs, tool};

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::OwnKvmAndTool("qemu-img"), body);
    vec![
        test("qcow2_has_what_was_written_over_its_backing_file", write),
        test("qcow2_selftest_in_every_notify_mode", selftest),
        test("qcow2_read_only_is_never_written", read_only),
        test(
            "qcow2_is_sound_and_has_what_was_flushed_when_killed_at_any_moment",
            kills,
        ),
        test("qcow2_is_complete_when_the_machine_is_stopped", stopped),
        test("qcow2_that_is_none_is_refused_in_a_line", refused),
        test(
            "qcow2_is_not_concluded_from_what_is_in_a_raw_image",
            not_probed,
        ),
        test("qcow2_has_its_backing_files_locked", locked),
        test(
            "qcow2_has_what_each_cpu_wrote_by_a_queue_of_its_own",
            queues,
        ),
        crate::harness::test(
            "qcow2_and_its_backing_file_can_be_on_block_devices",
            Needs::LoopAndTool("qemu-img"),
            devices,
        ),
        crate::harness::test(
            "linux_has_a_file_system_on_a_qcow2_image_over_a_backing_file",
            Needs::LinuxAndTool(&["tools.img"], "qemu-img"),
            linux,
        ),
    ]
}

const MIB: usize = 1 << 20;

#[track_caller]
fn qemu_img(args: &[&str]) {
    let output = tool("qemu-img").args(args).output().unwrap();
    assert!(output.status.success(), "qemu-img {args:?}: {output:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A backing file of 1 MiB of 0x11 and an image of 8 MiB over it, both of the format `backing`.
fn image(backing: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    let base = dir.path().join("base");
    let image = dir.path().join("image.qcow2");
    fs::write(&raw, vec![0x11; MIB]).unwrap();
    qemu_img(&[
        "convert",
        "-f",
        "raw",
        "-O",
        backing,
        text(&raw),
        text(&base),
    ]);
    let create = ["create", "-q", "-f", "qcow2", "-F", backing, "-b", "base"];
    qemu_img(&[&create[..], &[text(&image), "8M"]].concat());
    (dir, image)
}

/// The disk that qemu-img finds in an image.
#[track_caller]
fn disk_in(image: &Path) -> Vec<u8> {
    let raw = image.with_extension("raw");
    let convert = ["convert", "-f", "qcow2", "-O", "raw"];
    qemu_img(&[&convert[..], &[text(image), text(&raw)]].concat());
    fs::read(raw).unwrap()
}

/// The same, of an image in which everything is right.
#[track_caller]
fn content(image: &Path) -> Vec<u8> {
    assert_eq!(leaks(image), 0);
    disk_in(image)
}

fn write() {
    for (backing, notify) in [("raw", "trap"), ("qcow2", "ioeventfd"), ("qcow2", "poll")] {
        let (dir, image) = image(backing);
        let base = fs::read(dir.path().join("base")).unwrap();
        let disks = [disk(&image, &format!(",format=qcow2,notify={notify}"))];
        let mut expected = [vec![0x11; MIB], vec![0; 7 * MIB]].concat();
        for (start, sectors, byte) in [(5, 1000, 0xa5), (4000, 300, 0x5a), (16_383, 1, 0x77)] {
            let cmdline = format!("run=fill lba={start} count={sectors} byte={byte}");
            let ended = run_on(None, &disks, &cmdline);
            ended.assert_ok(&format!(
                "fill lba={start} count={sectors} byte={byte:#04x} ok"
            ));
            assert_eq!(ended.stderr, "");
            expected[start * 512..(start + sectors) * 512].fill(byte);
            assert!(content(&image) == expected, "{cmdline}");
        }
        for (how, start, sectors) in [("zeroes", 7, 200), ("unmap", 1000, 900)] {
            let cmdline = format!("run=clear lba={start} count={sectors} how={how}");
            let ended = run_on(None, &disks, &cmdline);
            ended.assert_ok(&format!("clear lba={start} count={sectors} how={how} ok"));
            expected[start * 512..(start + sectors) * 512].fill(0);
            assert!(content(&image) == expected, "{cmdline}");
        }
        run_on(None, &disks, "run=clear count=4000 how=discard")
            .assert_ok("clear lba=0 count=4000 how=discard ok");
        assert!(content(&image)[4000 * 512..] == expected[4000 * 512..]);
        assert!(fs::read(dir.path().join("base")).unwrap() == base);
    }
}

fn selftest() {
    for notify in NOTIFY_MODES {
        let (_dir, image) = image("raw");
        let disks = [disk(&image, &format!(",format=qcow2,notify={notify}"))];
        let ended = run_on(None, &disks, "run=selftest");
        assert_eq!(
            ended.code(),
            0,
            "{}",
            String::from_utf8_lossy(&ended.stdout)
        );
        content(&image);
    }
}

fn read_only() {
    let (_dir, image) = image("qcow2");
    let before = fs::read(&image).unwrap();
    let disks = [disk(&image, ",format=qcow2,readonly=on")];
    let crc = crc32fast::hash(&[0x11; 1024]);
    run_on(None, &disks, "run=read lba=3 count=2")
        .assert_ok(&format!("read lba=3 count=2 crc32={crc:08x} ok"));
    assert!(fs::read(&image).unwrap() == before);
}

/// What qemu-img check finds in an image that is not corrupt: how many clusters are leaked.
#[track_caller]
fn leaks(image: &Path) -> u64 {
    let args = ["check", "-f", "qcow2", "--output=json", text(image)];
    let output = tool("qemu-img").args(args).output().unwrap();
    // 3 is for nothing worse than leaks.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report.get("corruptions"), None, "{report}");
    report["leaks"].as_u64().unwrap_or(0)
}

fn stopped() {
    for notify in NOTIFY_MODES {
        let (_dir, image) = image("raw");
        let disks = [disk(&image, &format!(",format=qcow2,notify={notify}"))];
        let running = start_on(None, &disks, "run=verify count=16384 depth=16").spawn();
        let empty = fs::metadata(&image).unwrap().len();
        crate::harness::wait_until("the guest has written", || {
            fs::metadata(&image).unwrap().len() > empty + MIB as u64
        });
        running.signal(libc::SIGTERM);
        running.wait();
        assert_eq!(leaks(&image), 0);
    }
}

/// An image of the size of a journal's disk, of one of several kinds.
fn journal_disk(dir: &TempDir, number: u64) -> PathBuf {
    let (image, base) = (dir.path().join("image.qcow2"), dir.path().join("base"));
    fs::write(&base, vec![0x42; DISK_SIZE as usize / 2]).unwrap();
    let options = [
        "cluster_size=512",
        "cluster_size=4k",
        "cluster_size=512,refcount_bits=64",
        "cluster_size=4k,compat=0.10",
        "cluster_size=64k",
        "cluster_size=1k,refcount_bits=1",
    ];
    let kind = options[number as usize % options.len()];
    let size = DISK_SIZE.to_string();
    let create = ["create", "-q", "-f", "qcow2", "-o", kind];
    let behind = ["-F", "raw", "-b", "base"];
    let behind = if number % 4 < 2 { &behind[..] } else { &[] };
    qemu_img(&[&create, behind, &[text(&image), &size]].concat());
    image
}

fn kills() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let mut below = |count: u64| rng.next() % count;
    let dir = tempfile::tempdir().unwrap();
    let (mut number, mut leaked, mut figures) = (0, 0, Figures::default());
    let mut image = journal_disk(&dir, number);
    for kill in 0..30 {
        // Most kills are of a disk that has yet to get its clusters.
        if below(3) > 0 {
            number += 1;
            image = journal_disk(&dir, number);
        }
        let before = disk_in(&image);
        let journal = Journal {
            clears: false,
            seed: seed + kill,
            size: [1, 4, 16][below(3) as usize],
            flush_every: 1 + below(16),
        };
        let notify = NOTIFY_MODES[kill as usize % NOTIFY_MODES.len()];
        let options = format!("format=qcow2,notify={notify}");
        let (depth, lines) = (1 + below(60), below(12));
        let what = format!("DATA_SAFETY_SEED={seed}, kill {kill}: {journal:?} {options}");

        let mut run = Run::start(&journal, &image, &options, depth, "wait=irq");
        run.wait_flushes(lines);
        std::thread::sleep(Duration::from_micros(below(4000)));
        let Acknowledged { flushes, up_to } = run.kill();

        leaked += leaks(&image);
        let (after, submitted) = (disk_in(&image), journal.submitted(flushes));
        journal.assert_holds(&before, &after, up_to, submitted, &what);
        figures.add(flushes, &after);
    }
    figures.print(&format!("DATA_SAFETY_SEED={seed}, leaked: {leaked}, kills"));
}

fn refused() {
    let (dir, image) = image("raw");
    let message = |path: &Path, options: &str| {
        let ended = run_on(None, &[disk(path, options)], "run=info");
        assert_eq!(ended.code(), 125, "{ended:?}");
        ended.message().replace(text(dir.path()), "DIR")
    };
    let raw = dir.path().join("raw");
    assert_eq!(
        message(&raw, ",format=qcow2"),
        "--disk: cannot use DIR/raw as a qcow2 image: it is none"
    );
    assert_eq!(
        message(&dir.path().join("none"), ",format=qcow2"),
        "--disk: cannot open the disk image DIR/none: No such file or directory (os error 2)"
    );
    fs::remove_file(dir.path().join("base")).unwrap();
    assert_eq!(
        message(&image, ",format=qcow2"),
        "--disk: cannot open the disk image DIR/base: No such file or directory (os error 2)"
    );
}

/// Without format=qcow2 an image is the bytes that it has.
fn not_probed() {
    let (_dir, image) = image("raw");
    let mut before = fs::read(&image).unwrap();
    before.resize(before.len().next_multiple_of(512), 0);
    fs::write(&image, &before).unwrap();
    let crc = crc32fast::hash(&before[..512]);
    for options in ["", ",format=raw"] {
        run_on(None, &[disk(&image, options)], "run=read lba=0 count=1")
            .assert_ok(&format!("read lba=0 count=1 crc32={crc:08x} ok"));
    }
    assert!(fs::read(&image).unwrap() == before);
}

fn locked() {
    let (dir, image) = image("qcow2");
    let base = dir.path().join("base");
    let disks = [disk(&image, ",format=qcow2"), disk(&base, ",format=qcow2")];
    let ended = run_on(None, &disks, "run=info");
    assert_eq!(ended.code(), 125);
    let in_use = format!(
        "--disk: cannot use {} as a disk image: it is in use (locked by flock)",
        text(&base)
    );
    assert_eq!(ended.message(), in_use);
    // Two machines may share what neither writes.
    let disks = [
        disk(&image, ",format=qcow2"),
        disk(&base, ",format=qcow2,readonly=on"),
    ];
    assert_eq!(run_on(None, &disks, "run=info").code(), 0);
}

fn queues() {
    for notify in NOTIFY_MODES {
        let (_dir, image) = image("qcow2");
        let options = format!(",format=qcow2,queues=4,notify={notify}");
        let line = "run=verify lba=5 count=4001 seed=7 depth=4";
        let ended = start_on(None, &[disk(&image, &options)], line)
            .command(|command| _ = command.args(["--cpus", "4"]))
            .spawn()
            .wait();
        ended.assert_ok("verify lba=5 count=4001 seed=7 depth=4 cpus=4 queues=4 ok");
        let mut expected = [vec![0x11; MIB], vec![0; 7 * MIB]].concat();
        pattern(7, 5, &mut expected[5 * 512..4006 * 512]);
        assert!(content(&image) == expected, "{notify}");
    }
}

/// A raw file behind an image of 4 MiB, each on a block device with blocks of so many bytes.
fn devices() {
    for block in ["512", "4096"] {
        let dir = TempDir::new_in("/dev/shm").unwrap();
        let device = |name: &str, content: &[u8]| {
            let file = dir.path().join(name);
            fs::write(&file, content).unwrap();
            Loop::with(&file, &["--sector-size", block])
        };
        let base = device("base", &vec![0x11; MIB]);
        let top = device("top", &vec![0; 6 * MIB]);
        let create = [
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            text(base.path()),
        ];
        let kind = ["-o", "cluster_size=4k", text(top.path()), "4M"];
        qemu_img(&[&create[..], &kind[..]].concat());
        let disks = [disk(top.path(), ",format=qcow2")];
        let mut expected = [vec![0x11; MIB], vec![0; 3 * MIB]].concat();
        run_on(None, &disks, "run=fill lba=5 count=3000 byte=0xa5")
            .assert_ok("fill lba=5 count=3000 byte=0xa5 ok");
        expected[5 * 512..3005 * 512].fill(0xa5);
        for (how, start, sectors) in [("zeroes", 7, 201), ("unmap", 1001, 903)] {
            let cmdline = format!("run=clear lba={start} count={sectors} how={how}");
            let ended = run_on(None, &disks, &cmdline);
            ended.assert_ok(&format!("clear lba={start} count={sectors} how={how} ok"));
            expected[start * 512..(start + sectors) * 512].fill(0);
        }
        run_on(None, &disks, "run=fill lba=1003 count=1 byte=0x5a")
            .assert_ok("fill lba=1003 count=1 byte=0x5a ok");
        expected[1003 * 512..1004 * 512].fill(0x5a);
        qemu_img(&["check", "-q", "-f", "qcow2", text(top.path())]);
        let raw = dir.path().join("raw");
        let convert = ["convert", "-f", "qcow2", "-O", "raw"];
        qemu_img(&[&convert[..], &[text(top.path()), text(&raw)]].concat());
        assert!(fs::read(raw).unwrap() == expected, "{block}");
        assert!(fs::read(base.path()).unwrap() == vec![0x11; MIB]);
    }
}

/// The file system is made in the backing file, and goes on in the image.
fn linux() {
    let dir = tempfile::tempdir().unwrap();
    let (base, top) = (dir.path().join("base"), dir.path().join("top"));
    qemu_img(&["create", "-q", "-f", "qcow2", text(&base), "64M"]);
    let run = |image: &Path, script: &str| {
        let linux = Script {
            disks: &with_tools(&[format!("{},format=qcow2", image.display())]),
            ..Script::default()
        };
        let printed = linux.succeed(&format!(
            "{TOOLS}
            {script}
            umount /tools/tmp"
        ));
        assert_eq!(leaks(image), 0);
        printed
    };
    run(
        &base,
        "chroot /tools /bin/mkfs.ext4 -q /dev/vdb
        mount /dev/vdb /tools/tmp
        dd if=/dev/zero bs=1M count=8 | tr '\\0' a >/tools/tmp/old",
    );
    let before = fs::read(&base).unwrap();
    let create = ["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "base"];
    qemu_img(&[&create[..], &[text(&top)]].concat());
    run(
        &top,
        "mount /dev/vdb /tools/tmp
        dd if=/dev/zero bs=1M count=24 | tr '\\0' b >/tools/tmp/new
        cp /tools/tmp/old /tools/tmp/copy
        rm /tools/tmp/old
        sync
        chroot /tools /bin/fstrim /tmp",
    );
    let printed = run(
        &top,
        "mount /dev/vdb /tools/tmp
        echo copy $(tr -d a </tools/tmp/copy | wc -c) $(wc -c </tools/tmp/copy)
        echo new $(tr -d b </tools/tmp/new | wc -c) $(wc -c </tools/tmp/new)
        ls /tools/tmp",
    );
    for line in ["copy 0 8388608", "new 0 25165824"] {
        assert!(printed.contains(line), "no '{line}' in\n{printed}");
    }
    assert!(fs::read(&base).unwrap() == before);
}
