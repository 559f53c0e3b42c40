//! What a flush has acknowledged outlives the loss of all that no flush has brought to the disk: the
//! image is in a file system on a device that logs its writes, and the log is played back up to
//! moments of the run, without what was not stable then. What is right is in `journal`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use libtest_mimic::Trial;

use crate::block_devices::{Loop, Mapped, Mounted, make_ext4};
use crate::data_safety::{DISK_SIZE, Figures, Run, seed};
use crate::journal::{Acknowledged, Journal};
use crate::needs::Needs;
use crate::write_log::{Entry, WriteLog};

/// Size of the file system, in bytes.
const FILE_SYSTEM: u64 = 8 << 20;
/// Room for the log of a run, in bytes; what is not used costs nothing.
const LOG: u64 = 1 << 30;
/// How many moments of a run are looked at.
const MOMENTS: u64 = 5;
/// What marks them in the log.
const MARK: &str = "acknowledged";

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::DeviceMapper, body);
    vec![
        test(
            "data_safety_flushes_outlive_a_lost_page_cache_on_a_sparse_image",
            sparse,
        ),
        test(
            "data_safety_flushes_outlive_a_lost_page_cache_on_a_full_image",
            full,
        ),
    ]
}

/// Blocks get their place in the file system while the guest runs.
fn sparse() {
    lose_power("trap", |image| image.set_len(DISK_SIZE).unwrap());
}

fn full() {
    lose_power("ioeventfd", |image| {
        image.write_all_at(&vec![0; DISK_SIZE as usize], 0).unwrap();
    });
}

fn sparse_file(path: &Path, len: u64) -> File {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    let file = options.open(path).unwrap();
    file.set_len(len).unwrap();
    file
}

fn lose_power(notify: &str, make_image: fn(&File)) {
    let seed = seed();
    let journal = Journal {
        seed,
        size: 8,
        flush_every: 8,
    };
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let place = |name| dir.path().join(name);
    let (disk, log, mount) = (place("disk"), place("log"), place("mount"));
    sparse_file(&disk, FILE_SYSTEM);
    sparse_file(&log, LOG);

    let last = {
        let (disk, log) = (Loop::new(&disk), Loop::new(&log));
        let table = format!(
            "0 {} log-writes {} {}",
            FILE_SYSTEM / 512,
            disk.path().display(),
            log.path().display()
        );
        let device = Mapped::new("vmm-power-loss", &table);
        make_ext4(device.path(), &[]);
        let mounted = Mounted::new(device.path(), &mount);
        let image = mounted.path().join("disk.img");
        let file = File::create(&image).unwrap();
        make_image(&file);
        file.sync_all().unwrap();
        File::open(mounted.path()).unwrap().sync_all().unwrap();

        let mut run = Run::start(&journal, &image, &format!("notify={notify}"), 32, "irq");
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
    let before = vec![0; DISK_SIZE as usize];
    let submitted = journal.submitted(last.flushes);
    let (mut figures, mut counted) = (Figures::default(), 0);
    let (replayed, crashed) = (place("replayed"), place("crashed"));
    let replay = sparse_file(&replayed, FILE_SYSTEM);
    for entry in WriteLog::open(&log) {
        let text = match entry {
            Entry::Write { position, bytes } => {
                replay.write_all_at(&bytes, position).unwrap();
                continue;
            }
            Entry::Mark(text) => text,
        };
        let Some(mark) = text.strip_prefix(MARK) else {
            continue;
        };
        let mut numbers = mark.split(':').skip(1).map(|text| text.parse().unwrap());
        let (flushes, up_to): (u64, u64) = (numbers.next().unwrap(), numbers.next().unwrap());
        // The file system repairs itself as it is mounted.
        fs::copy(&replayed, &crashed).unwrap();
        let after = {
            let device = Loop::new(&crashed);
            let mounted = Mounted::new(device.path(), &mount);
            fs::read(mounted.path().join("disk.img")).unwrap()
        };
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
