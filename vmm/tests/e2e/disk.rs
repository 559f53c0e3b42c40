//! The guest's driver on our device with real image files: what is in the file is what the guest
//! reads, and what the guest writes is in the file.

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use libtest_mimic::Trial;
use rustix::process::Resource;
use spec::block::SECTOR_SIZE;
use spec::board::VIRTIO_MMIO_MAX;
use tempfile::TempDir;
use vmm::layout;

use crate::guests::{NOTIFY_MODES, disk, entries, run_on, start_on};
use crate::harness::{file, pipe, wait_readable, wait_until};
use crate::needs::{Needs, tool};

const SECTOR: usize = SECTOR_SIZE as usize;
const WAITS: [&str; 2] = ["irq", "poll"];

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    let own_kvm = |name, body| crate::harness::test(name, Needs::OwnKvm, body);
    let with_tool = |name, tool, body| crate::harness::test(name, Needs::KvmAndTool(tool), body);
    vec![
        with_tool("disk_reads_what_hexdump_shows", "hexdump", read_hexdump),
        own_kvm("disk_reads_by_every_boot_entry_and_mode", read_everywhere),
        test("disk_fill_is_in_the_file_and_nowhere_else", fill),
        test("disk_verify_with_many_requests_in_flight", verify),
        test("disk_selftest_by_every_boot_entry_and_mode", selftest),
        test("disk_info_never_writes", info),
        test("disk_read_only_is_never_written", read_only),
        test("disk_failures_end_with_1_and_a_reason", failures),
        test(
            "disk_writes_beyond_the_limit_of_a_files_size_end_with_ioerr",
            file_size_limit,
        ),
        own_kvm("disk_order_is_that_of_the_command_line", many_disks),
        test("disk_that_is_not_whole_blocks_is_refused", part_of_a_block),
        with_tool("disk_image_made_by_qemu_img", "qemu-img", qemu_img),
        with_tool("disk_image_with_a_file_system", "mkfs.ext4", mkfs),
        test(
            "disk_holds_what_was_flushed_however_the_machine_ends",
            flushed,
        ),
        test("disk_stop_by_a_signal_in_the_middle_of_io", || {
            stops_during_io("");
        }),
    ]
}

/// An image of `sectors` sectors of which no two are alike, and its content.
fn image(sectors: usize) -> (TempDir, PathBuf, Vec<u8>) {
    let bytes: Vec<u8> = (0..sectors)
        .flat_map(|sector| {
            let mut state = 0x9e37_79b9_u32.wrapping_mul(sector as u32 + 1) | 1;
            std::iter::repeat_with(move || {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state as u8
            })
            .take(SECTOR)
        })
        .collect();
    let (dir, path) = file("disk.img", &bytes);
    (dir, path, bytes)
}

fn read_hexdump() {
    let (_dir, path, mut bytes) = image(16);
    // A repetition, which hexdump shows as a star.
    bytes[5 * SECTOR..7 * SECTOR].fill(0x20);
    fs::write(&path, &bytes).unwrap();
    let (lba, count) = (4, 5);

    let cmdline = format!("run=read lba={lba} count={count}");
    let ended = run_on(None, &[disk(&path, ",readonly=on")], &cmdline);

    let (skip, len) = ((lba * SECTOR).to_string(), (count * SECTOR).to_string());
    let mut hexdump = tool("hexdump");
    hexdump.args(["-C", "-s", &skip, "-n", &len]).arg(&path);
    let mut expected = hexdump.output().unwrap().stdout;
    let crc = crc32fast::hash(&bytes[lba * SECTOR..(lba + count) * SECTOR]);
    expected.extend(format!("read lba={lba} count={count} crc32={crc:08x} ok\n").as_bytes());
    assert_eq!(ended.code(), 0);
    assert_eq!(
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&expected)
    );
}

fn read_everywhere() {
    let (_dir, path, bytes) = image(64);
    let crc = crc32fast::hash(&bytes[7 * SECTOR..9 * SECTOR]);
    for kernel in entries() {
        for notify in NOTIFY_MODES {
            for wait in WAITS {
                let disk = disk(&path, &format!(",notify={notify}"));
                let cmdline = format!("run=read lba=7 count=2 wait={wait}");
                let ended = run_on(kernel.as_deref(), &[disk], &cmdline);
                ended.assert_ok(&format!("read lba=7 count=2 crc32={crc:08x} ok"));
            }
        }
    }
}

fn fill() {
    for notify in NOTIFY_MODES {
        let (_dir, path, mut bytes) = image(600);
        let disk = disk(&path, &format!(",notify={notify}"));
        let ended = run_on(None, &[disk], "run=fill lba=3 count=550 byte=0xa5");
        ended.assert_ok("fill lba=3 count=550 byte=0xa5 ok");
        bytes[3 * SECTOR..553 * SECTOR].fill(0xa5);
        assert!(fs::read(&path).unwrap() == bytes, "notify={notify}");
    }
}

fn verify() {
    for notify in NOTIFY_MODES {
        for (depth, wait) in [(1, "irq"), (8, "irq"), (64, "irq"), (32, "poll")] {
            let (_dir, path, before) = image(512);
            let disk = disk(&path, &format!(",notify={notify}"));
            let cmdline = format!("run=verify lba=100 count=300 seed=7 depth={depth} wait={wait}");
            let ended = run_on(None, &[disk], &cmdline);
            ended.assert_ok(&format!("verify lba=100 count=300 seed=7 depth={depth} ok"));

            let after = fs::read(&path).unwrap();
            let (start, end) = (100 * SECTOR, 400 * SECTOR);
            assert!(after[..start] == before[..start] && after[end..] == before[end..]);
            let same = (100..400).filter(|sector| {
                let range = sector * SECTOR..(sector + 1) * SECTOR;
                after[range.clone()] == before[range]
            });
            assert_eq!(same.count(), 0, "sectors that were not written");
        }
    }
}

fn selftest() {
    for kernel in entries() {
        for notify in NOTIFY_MODES {
            let (_dir, path, _) = image(2048);
            let disk = disk(&path, &format!(",notify={notify}"));
            let ended = run_on(kernel.as_deref(), &[disk], "run=selftest");
            let line = ended.last_line();
            assert!(
                ended.code() == 0 && line.starts_with("selftest cases=") && line.ends_with(" ok"),
                "{}:\n{}",
                ended.command,
                String::from_utf8_lossy(&ended.stdout)
            );
        }
    }
}

fn info() {
    let (_dir, path, bytes) = image(32);
    let ended = run_on(None, &[disk(&path, ",id=my-disk")], "");
    ended.assert_ok("info devices=1 ok");
    let text = String::from_utf8(ended.stdout).unwrap();
    for part in [
        "32 sectors",
        "my-disk",
        "VIRTIO_BLK_F_FLUSH",
        "VIRTIO_F_EVENT_IDX",
        "VIRTIO_F_INDIRECT_DESC",
        "VIRTIO_F_VERSION_1",
        "GSI 5",
        "  blk_size      512 bytes\n",
        "  geometry      1 cylinders, 16 heads, 63 sectors\n",
        "  cache         write back\n",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!text.contains("VIRTIO_BLK_F_RO"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), bytes);

    let options = ",cache=writethrough,block_size=4096";
    let ended = run_on(None, &[disk(&path, options)], "run=info");
    let text = String::from_utf8(ended.stdout).unwrap();
    for part in [
        "  blk_size      4096 bytes\n",
        "  cache         write through\n",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }

    let ended = run_on(None, &[], "run=info");
    ended.assert_ok("info devices=0 ok");
}

fn part_of_a_block() {
    let (_dir, path, bytes) = image(33);
    let ended = run_on(None, &[disk(&path, ",block_size=4096")], "run=info");
    assert_eq!(ended.code(), 125);
    let reason = "a disk of 33 sectors is not made of blocks of 4096 bytes\n";
    assert!(ended.stderr.ends_with(reason), "{}", ended.stderr);
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

fn read_only() {
    let (_dir, path, bytes) = image(2048);
    let disk = disk(&path, ",readonly=on");
    for run in ["fill count=4 byte=1", "verify count=8"] {
        let ended = run_on(None, std::slice::from_ref(&disk), &format!("run={run}"));
        ended.assert_failed(run.split(' ').next().unwrap(), "the disk is read-only");
    }
    let ended = run_on(None, std::slice::from_ref(&disk), "run=info");
    let text = String::from_utf8_lossy(&ended.stdout);
    assert!(text.contains("VIRTIO_BLK_F_RO"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

fn failures() {
    let (_dir, path, _) = image(32);
    let disks = [disk(&path, "")];
    for (cmdline, begin, end) in [
        (
            "run=read lba=30 count=3",
            "read lba=30 count=3 FAILED: ",
            "it has 32 sectors",
        ),
        ("run=read lba=x", "read lba=x FAILED: lba=x ", "from 0"),
        (
            "run=read sector=1",
            "read",
            "lba count retry queue_size disk wait indirect event_idx",
        ),
        (
            "run=read disk=1",
            "read disk=1 FAILED: there is no disk 1",
            "disks=1",
        ),
        (
            "run=verify wait=maybe",
            "verify wait=maybe FAILED: wait=maybe ",
            "irq poll",
        ),
        (
            "run=bench",
            "bench FAILED: port 0x700 reads 0xffffffff",
            "commands",
        ),
        (
            "run=nothing",
            "nothing FAILED: no such workload",
            "selftest hostile storm stalled broken shell bench crash",
        ),
    ] {
        run_on(None, &disks, cmdline).assert_failed(begin, end);
    }
}

/// `ulimit -f`: the host sends SIGXFSZ to whoever writes beyond it.
fn file_size_limit() {
    let (_dir, path, bytes) = image(1024);
    let disks = [disk(&path, "")];
    let limited = |cmdline| {
        let vmm = start_on(None, &disks, cmdline);
        vmm.limit(Resource::Fsize, 100 * SECTOR_SIZE).spawn().wait()
    };
    limited("run=fill lba=1000 count=8").assert_failed("fill lba=1000 ", "IOERR");
    assert!(fs::read(&path).unwrap() == bytes);
    limited("run=fill lba=92 count=8").assert_ok("fill lba=92 count=8 byte=0x00 ok");
}

fn many_disks() {
    let images: Vec<_> = (0..VIRTIO_MMIO_MAX).map(|i| image(8 + i)).collect();
    let disks: Vec<String> = images
        .iter()
        .enumerate()
        .map(|(i, (_, path, _))| {
            let notify = NOTIFY_MODES[i % NOTIFY_MODES.len()];
            disk(path, &format!(",readonly=on,id=number-{i},notify={notify}"))
        })
        .collect();
    let ended = run_on(None, &disks, "run=info");
    ended.assert_ok(&format!("info devices={VIRTIO_MMIO_MAX} ok"));
    let text = String::from_utf8_lossy(&ended.stdout);
    let mut rest = &text[..];
    for i in 0..VIRTIO_MMIO_MAX {
        for part in [
            format!("GSI {}", layout::virtio_mmio(i).gsi),
            format!("{} sectors", 8 + i),
            format!("number-{i}\""),
        ] {
            let at = rest
                .find(&part)
                .unwrap_or_else(|| panic!("no {part}:\n{text}"));
            rest = &rest[at..];
        }
    }
    for i in [0, 7, VIRTIO_MMIO_MAX - 1] {
        let lba = 7 + i;
        let crc = crc32fast::hash(&images[i].2[lba * SECTOR..]);
        let ended = run_on(None, &disks, &format!("run=read lba={lba} disk={i}"));
        ended.assert_ok(&format!("read lba={lba} count=1 crc32={crc:08x} ok"));
    }
}

/// Never probed: an image of another format is the bytes that it is.
fn qemu_img() {
    let dir = tempfile::tempdir().unwrap();
    for (format, first) in [("raw", "00 00 00 00"), ("qcow2", "51 46 49 fb")] {
        let path = dir.path().join(format);
        let mut create = tool("qemu-img");
        create
            .args(["create", "-q", "-f", format])
            .arg(&path)
            .arg("1M");
        assert!(create.status().unwrap().success());
        // A disk has whole sectors, which qcow2 does not care for.
        let image = fs::File::options().write(true).open(&path).unwrap();
        let len = image
            .metadata()
            .unwrap()
            .len()
            .next_multiple_of(SECTOR_SIZE);
        image.set_len(len).unwrap();
        let ended = run_on(None, &[disk(&path, ",readonly=on")], "run=read");
        let text = String::from_utf8_lossy(&ended.stdout);
        assert!(text.starts_with(&format!("00000000  {first}")), "{text}");
        assert_eq!(ended.code(), 0);
    }
}

fn mkfs() {
    let (_dir, path) = file("disk.img", &[]);
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(4 << 20)
        .unwrap();
    let made = tool("mkfs.ext4").arg("-q").arg(&path).status();
    assert!(made.unwrap().success());
    let bytes = fs::read(&path).unwrap();
    let crc = crc32fast::hash(&bytes[2 * SECTOR..4 * SECTOR]);
    let ended = run_on(
        None,
        &[disk(&path, ",readonly=on")],
        "run=read lba=2 count=2",
    );
    ended.assert_ok(&format!("read lba=2 count=2 crc32={crc:08x} ok"));
    // The magic number of the superblock, 0xef53 at offset 56.
    let text = String::from_utf8_lossy(&ended.stdout);
    assert!(
        text.contains("00000430") && text.contains("53 ef"),
        "{text}"
    );
}

/// The guest fills, flushes and begins to say so: the first byte fills a pipe of one page, which
/// holds it up there until the signal.
fn flushed() {
    for notify in NOTIFY_MODES {
        for signal in [libc::SIGTERM, libc::SIGKILL] {
            let (_dir, path, mut bytes) = image(600);
            let (reader, writer) = pipe();
            rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
            let disk = disk(&path, &format!(",notify={notify}"));
            let vmm = start_on(None, &[disk], "run=fill lba=3 count=550 byte=0xa5");
            let running = vmm.stdout(writer).spawn();
            assert!(wait_readable(&reader), "the guest said nothing");
            running.signal(signal);
            let ended = running.wait();
            if signal == libc::SIGKILL {
                assert_eq!(ended.status.signal(), Some(signal), "{ended:?}");
            } else {
                assert_eq!(ended.code(), 128 + signal, "{ended:?}");
            }
            bytes[3 * SECTOR..553 * SECTOR].fill(0xa5);
            assert!(fs::read(&path).unwrap() == bytes, "{ended:?}");
        }
    }
}

/// The machine stops in the middle of a drain or of a wait, and soon.
/// Stops machines whose disk, with these `options`, is in use.
pub fn stops_during_io(options: &str) {
    for notify in NOTIFY_MODES {
        let (_dir, path) = file("disk.img", &vec![0; 64 << 20]);
        let disk = disk(&path, &format!(",notify={notify}{options}"));
        let running = start_on(None, &[disk], "run=verify count=131072 depth=32").spawn();
        wait_until("the guest has written", || {
            let mut sector = [0; SECTOR];
            let mut image = fs::File::open(&path).unwrap();
            image.read_exact(&mut sector).unwrap();
            sector != [0; SECTOR]
        });
        running.signal(libc::SIGTERM);
        let ended = running.wait();
        assert_eq!(ended.code(), 128 + libc::SIGTERM);
        assert_eq!(ended.stderr, "");
    }
}
