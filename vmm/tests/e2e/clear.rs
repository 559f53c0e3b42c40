//! Discards and write-zeroes by the guest's driver on real image files: what they leave in the file,
//! and what the file takes of its file system from then on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use libtest_mimic::Trial;
use rustix::fs::SeekFrom;
use spec::block::SECTOR_SIZE;
use tempfile::TempDir;

use crate::guests::{NOTIFY_MODES, disk, run_on};
use crate::needs::Needs;

const SIZE: u64 = 1 << 20;
/// The part that is cleared, in sectors and in bytes.
const LBA: u64 = 512;
const COUNT: u64 = 1024;
const START: u64 = LBA * SECTOR_SIZE;
const END: u64 = (LBA + COUNT) * SECTOR_SIZE;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test("clear_makes_holes_in_the_image_on_disk", || {
            holes(&TempDir::new().unwrap());
        }),
        test("clear_makes_holes_in_the_image_in_memory", || {
            holes(&TempDir::new_in("/dev/shm").unwrap());
        }),
        test("clear_leaves_the_image_allocated_if_it_is_told_to", || {
            zeroes(&TempDir::new().unwrap());
            zeroes(&TempDir::new_in("/dev/shm").unwrap());
        }),
        test("clear_is_refused_on_a_read_only_disk", read_only),
        test("clear_is_told_of_by_info", info),
    ]
}

/// An image without a hole.
fn image(path: &Path) {
    fs::write(path, [0x77; SIZE as usize]).unwrap();
    fs::File::open(path).unwrap().sync_all().unwrap();
}

/// How many bytes the image takes of its file system.
fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

/// Runs the guest to clear the part, and sees that nothing else changes.
#[track_caller]
fn clear(path: &Path, notify: &str, how: &str) {
    let parameters = format!("lba={LBA} count={COUNT} how={how}");
    let disk = disk(path, &format!(",notify={notify}"));
    let ended = run_on(None, &[disk], &format!("run=clear {parameters}"));
    ended.assert_ok(&format!("clear {parameters} ok"));
    let mut expected = [0x77; SIZE as usize];
    expected[START as usize..END as usize].fill(0);
    assert!(fs::read(path).unwrap() == expected, "{how}, {notify}");
}

fn holes(dir: &TempDir) {
    let path = dir.path().join("disk.img");
    for (notify, how) in NOTIFY_MODES
        .into_iter()
        .flat_map(|notify| ["discard", "unmap"].map(|how| (notify, how)))
    {
        image(&path);
        let before = allocated(&path);
        clear(&path, notify, how);
        assert_eq!(allocated(&path), before - (END - START), "{how}, {notify}");
        let file = fs::File::open(&path).unwrap();
        let hole = rustix::fs::seek(&file, SeekFrom::Hole(0)).unwrap();
        let data = rustix::fs::seek(&file, SeekFrom::Data(hole)).unwrap();
        assert_eq!((hole, data), (START, END), "{how}, {notify}");
    }
}

fn zeroes(dir: &TempDir) {
    let path = dir.path().join("disk.img");
    for notify in NOTIFY_MODES {
        image(&path);
        let before = allocated(&path);
        clear(&path, notify, "zeroes");
        assert_eq!(allocated(&path), before, "{notify}");
    }
}

fn read_only() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("disk.img");
    image(&path);
    let before = allocated(&path);
    let disk = disk(&path, ",readonly=on");
    for how in ["zeroes", "unmap", "discard"] {
        let ended = run_on(
            None,
            std::slice::from_ref(&disk),
            &format!("run=clear how={how}"),
        );
        ended.assert_failed("clear ", "the disk is read-only");
    }
    assert_eq!(allocated(&path), before);
}

fn info() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("disk.img");
    image(&path);
    let told = |options| {
        let ended = run_on(None, &[disk(&path, options)], "run=info");
        ended.assert_ok("info devices=1 ok");
        String::from_utf8(ended.stdout).unwrap()
    };
    let unit = fs::metadata(&path).unwrap().blksize() / SECTOR_SIZE;
    let text = told("");
    for line in [
        format!("  discard       4 segments of 32768 sectors, best aligned to {unit}\n"),
        "  write zeroes  4 segments of 32768 sectors, may unmap\n".to_owned(),
    ] {
        assert!(text.contains(&line), "no {line:?} in\n{text}");
    }
    let text = told(",readonly=on");
    assert!(
        !text.contains("discard") && !text.contains("zeroes"),
        "{text}"
    );
}
