//! What a flush has acknowledged outlives the loss of all that no flush has brought to the disk: the
//! disk is a device that logs its writes, or an image in a file system on one, and the log is played
//! back up to moments of the run, without what was not stable then. What is right is in `journal`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use libtest_mimic::Trial;

use crate::block_devices::{Loop, Mapped, Mounted, make_ext4};
use crate::data_safety::{DISK_SIZE, Figures, Run, seed};
use crate::journal::{Acknowledged, Journal};
use crate::needs::Needs;
use crate::write_log::{Entry, WriteLog};

/// What the disk holds before, where it is full.
const BEFORE: u8 = 0xee;
/// Size of the file system, in bytes.
const FILE_SYSTEM: u64 = 8 << 20;
/// Room for the log of a run, in bytes; what is not used costs nothing.
const LOG: u64 = 1 << 30;
/// How many moments of a run are looked at.
const MOMENTS: u64 = 4;
/// What marks them in the log.
const MARK: &str = "acknowledged";

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::DeviceMapper, body);
    vec![
        test(
            "data_safety_flushes_outlive_a_lost_page_cache_on_a_sparse_image",
            || lose_power(On::SparseFile, "notify=trap", false, "flush=on"),
        ),
        test(
            "data_safety_flushes_outlive_a_lost_page_cache_on_a_full_image",
            || lose_power(On::FullFile, "notify=ioeventfd", false, "flush=on"),
        ),
        test(
            "data_safety_flushes_outlive_a_lost_page_cache_among_clears_and_direct_io",
            || lose_power(On::FullFile, "direct=on", true, "flush=on"),
        ),
        test(
            "data_safety_flushes_outlive_a_lost_page_cache_on_a_block_device",
            || lose_power(On::Device, "notify=poll", true, "flush=on"),
        ),
        test(
            "data_safety_writes_outlive_a_lost_page_cache_in_write_through_mode",
            || {
                let options = "cache=writethrough,notify=ioeventfd";
                lose_power(On::SparseFile, options, true, "flush=off");
            },
        ),
    ]
}

/// What the disk is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    /// An image that gets its blocks in the file system while the guest runs.
    SparseFile,
    FullFile,
    /// The device itself.
    Device,
}

impl On {
    /// What a disk on the `device` holds.
    fn content(self, device: &Path, mount: &Path) -> Vec<u8> {
        if self == Self::Device {
            return fs::read(device).unwrap();
        }
        // The file system repairs itself as it is mounted.
        let device = Loop::new(device);
        let mounted = Mounted::new(device.path(), mount);
        fs::read(image(&mounted)).unwrap()
    }

    /// Size of the device, in bytes.
    fn device_size(self) -> u64 {
        match self {
            Self::SparseFile | Self::FullFile => FILE_SYSTEM,
            Self::Device => DISK_SIZE,
        }
    }

    /// The disk before.
    fn before(self) -> Vec<u8> {
        match self {
            Self::SparseFile => vec![0; DISK_SIZE as usize],
            Self::FullFile | Self::Device => vec![BEFORE; DISK_SIZE as usize],
        }
    }

    /// Makes the disk on the `device`: where it is, and what is to be kept for as long as it is used.
    fn make(self, device: &Path, mount: &Path) -> (PathBuf, Option<Mounted>) {
        let (path, mounted) = if self == Self::Device {
            (device.into(), None)
        } else {
            make_ext4(device, &[]);
            let mounted = Mounted::new(device, mount);
            (image(&mounted), Some(mounted))
        };
        let mut options = File::options();
        let file = options.write(true).create(true).open(&path).unwrap();
        if self == Self::SparseFile {
            file.set_len(DISK_SIZE).unwrap();
        } else {
            file.write_all_at(&self.before(), 0).unwrap();
        }
        file.sync_all().unwrap();
        if let Some(mounted) = &mounted {
            File::open(mounted.path()).unwrap().sync_all().unwrap();
        }
        (path, mounted)
    }
}

/// Where a disk is that is a file.
fn image(mounted: &Mounted) -> PathBuf {
    mounted.path().join("disk.img")
}

fn sparse_file(path: &Path, len: u64) -> File {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    let file = options.open(path).unwrap();
    file.set_len(len).unwrap();
    file
}

/// With these `options` of the disk, and with `clears` or without; what `more` there is for the guest.
fn lose_power(on: On, options: &str, clears: bool, more: &str) {
    let seed = seed();
    let journal = Journal {
        seed,
        size: 8,
        flush_every: 8,
        clears,
    };
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = |name| dir.path().join(name);
    let (disk, log, mount) = (place("disk"), place("log"), place("mount"));
    sparse_file(&disk, on.device_size());
    sparse_file(&log, LOG);

    let last = {
        let (disk, log) = (Loop::new(&disk), Loop::new(&log));
        let table = format!(
            "0 {} log-writes {} {}",
            on.device_size() / 512,
            disk.path().display(),
            log.path().display()
        );
        let device = Mapped::new("vmm-power-loss", &table);
        let (path, _mounted) = on.make(device.path(), &mount);
        let mut run = Run::start(&journal, &path, options, 32, more);
        let mut flushes = 0;
        for _ in 0..MOMENTS {
            let acknowledged = run.wait_flushes(flushes + 1);
            let Acknowledged { up_to, .. } = acknowledged;
            flushes = acknowledged.flushes;
            device.message(&format!("mark {MARK}:{flushes}:{up_to}"));
        }
        run.kill()
    };

    // The power is lost at each mark.
    let before = on.before();
    let submitted = journal.submitted(last.flushes);
    let (mut figures, mut counted) = (Figures::default(), 0);
    let (replayed, crashed) = (place("replayed"), place("crashed"));
    let replay = sparse_file(&replayed, on.device_size());
    for entry in WriteLog::open(&log) {
        let text = match entry {
            Entry::Write { position, bytes } => {
                replay.write_all_at(&bytes, position).unwrap();
                continue;
            }
            Entry::Discard { position, len } => {
                replay
                    .write_all_at(&vec![0; len as usize], position)
                    .unwrap();
                continue;
            }
            Entry::Mark(text) => text,
        };
        let Some(mark) = text.strip_prefix(MARK) else {
            continue;
        };
        let mut numbers = mark.split(':').skip(1).map(|text| text.parse().unwrap());
        let (flushes, up_to): (u64, u64) = (numbers.next().unwrap(), numbers.next().unwrap());
        fs::copy(&replayed, &crashed).unwrap();
        let after = on.content(&crashed, &mount);
        let what = format!("DATA_SAFETY_SEED={seed}, after {flushes} flushes");
        journal.assert_holds(&before, &after, up_to, submitted, &what);
        if counted == 0 {
            // And what has been acknowledged since is not there, or nothing would be lost ever.
            let faults = journal.faults(&before, &after, last.up_to, submitted);
            assert!(!faults.is_empty(), "{what}");
        }
        figures.add(flushes - counted, &after);
        counted = flushes;
    }
    assert_eq!(figures.crashes, MOMENTS);
    figures.print(&format!("DATA_SAFETY_SEED={seed}, losses of power"));
}
