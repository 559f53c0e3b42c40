//! What a flush has acknowledged outlives the machine: it is killed at random moments under load,
//! and the disk is checked against what the guest had said. What is right is in `journal`. How often,
//! and from which seed, `DATA_SAFETY_KILLS` and `DATA_SAFETY_SEED` say.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use libtest_mimic::Trial;
use spec::block::SECTOR_SIZE;
use spec::journal::{Slots, Stamp};
use spec::rng::Rng;

use crate::direct::has_direct_io;
use crate::guests::{NOTIFY_MODES, disk, start_on};
use crate::harness::{Running, wait_readable};
use crate::journal::{Acknowledged, Fault, Journal};
use crate::needs::{Needs, has_io_uring};

/// How many kills there are where `DATA_SAFETY_KILLS` does not say.
const KILLS: u64 = 40;
/// After as many kills there is a new disk.
const KILLS_PER_DISK: u64 = 10;
/// Size of the disk, in bytes: so small that most places are written again and again.
pub const DISK_SIZE: u64 = 1 << 20;
/// The most lines that are waited for before a kill.
const LINES_MAX: u64 = 16;
/// The longest time from a line to the kill.
const DELAY_MAX: Duration = Duration::from_millis(4);

pub fn tests() -> Vec<Trial> {
    let checker = |name, body| crate::harness::test(name, Needs::Nothing, body);
    vec![
        checker("data_safety_checker_takes_what_can_be", what_can_be),
        checker("data_safety_checker_finds_a_lost_flush", lost_flush),
        checker("data_safety_checker_finds_a_torn_sector", torn_sector),
        checker("data_safety_checker_finds_a_foreign_value", foreign_value),
        checker("data_safety_checker_knows_what_is_cleared", cleared),
        checker("data_safety_checker_takes_only_whole_lines", whole_lines),
        crate::harness::test(
            "data_safety_flushes_outlive_sigkill_at_any_moment",
            Needs::OwnKvm,
            kills,
        ),
    ]
}

/// A number that the environment gives.
fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect(name))
}

/// Seed of all that is random in a test: `DATA_SAFETY_SEED`, or another in each run.
pub fn seed() -> u64 {
    setting("DATA_SAFETY_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) >> 32)
}

impl Journal {
    /// What the guest is told.
    fn cmdline(&self, depth: u64, more: &str) -> String {
        let Self {
            seed,
            size,
            flush_every,
            clears,
        } = self;
        let count = DISK_SIZE / SECTOR_SIZE;
        let clears = if *clears { "on" } else { "off" };
        format!(
            "run=journal count={count} seed={seed} size={size} flush_every={flush_every} \
             clears={clears} depth={depth} queue_size=64 {more}"
        )
    }
}

/// A journal that runs on a disk.
pub struct Run {
    running: Running,
    console: Vec<u8>,
}

impl Run {
    /// On the disk at `image`, with these `options` of `--disk`; what `more` there is for the guest.
    pub fn start(journal: &Journal, image: &Path, options: &str, depth: u64, more: &str) -> Self {
        let disk = disk(image, &format!(",{options}"));
        let running = start_on(None, &[disk], &journal.cmdline(depth, more)).spawn();
        let console = Vec::new();
        Self { running, console }
    }

    /// Waits until this many flushes have been acknowledged, all in all.
    pub fn wait_flushes(&mut self, count: u64) -> Acknowledged {
        let stdout = self.running.stdout.as_mut().unwrap();
        loop {
            let acknowledged = Acknowledged::parse(&self.console);
            if acknowledged.flushes >= count {
                return acknowledged;
            }
            let mut bytes = [0; 256];
            assert!(wait_readable(stdout), "no more flushes");
            let len = stdout.read(&mut bytes).unwrap();
            let so_far = String::from_utf8_lossy(&self.console);
            assert!(len > 0, "the guest has ended: {so_far}");
            self.console.extend(&bytes[..len]);
        }
    }

    /// Kills the machine; what has been acknowledged.
    pub fn kill(mut self) -> Acknowledged {
        self.running.signal(libc::SIGKILL);
        let ended = self.running.wait();
        assert_eq!(ended.status.signal(), Some(libc::SIGKILL), "{ended:?}");
        self.console.extend(&ended.stdout);
        Acknowledged::parse(&self.console)
    }
}

/// What has been checked.
#[derive(Default)]
pub struct Figures {
    pub crashes: u64,
    pub flushes: u64,
    pub sectors: u64,
}

impl Figures {
    pub fn add(&mut self, flushes: u64, disk: &[u8]) {
        self.crashes += 1;
        self.flushes += flushes;
        self.sectors += disk.len() as u64 / SECTOR_SIZE;
    }

    pub fn print(&self, what: &str) {
        let Self {
            crashes,
            flushes,
            sectors,
        } = self;
        eprintln!("{what}: {crashes}; flushes acknowledged: {flushes}; sectors checked: {sectors}");
    }
}

/// A disk is used again after a kill, so that a run begins with what the last one has left.
fn kills() {
    let (kills, seed) = (setting("DATA_SAFETY_KILLS").unwrap_or(KILLS), seed());
    let mut rng = Rng::new(seed);
    let mut below = |count: u64| rng.next() % count;
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk.img");
    let has_io_uring = has_io_uring();
    let mut before = Vec::new();
    let mut figures = Figures::default();
    for kill in 0..kills {
        let number = kill / KILLS_PER_DISK;
        if kill % KILLS_PER_DISK == 0 {
            before = vec![number as u8; DISK_SIZE as usize];
            // In turns one with all its blocks and one with none.
            if number.is_multiple_of(2) {
                before.fill(0);
                File::create(&image).unwrap().set_len(DISK_SIZE).unwrap();
            } else {
                fs::write(&image, &before).unwrap();
            }
        }
        let journal = Journal {
            seed: seed + kill,
            size: [1, 4, 16][below(3) as usize],
            flush_every: 1 + below(16),
            clears: below(2) == 1,
        };
        let notify = NOTIFY_MODES[kill as usize % NOTIFY_MODES.len()];
        let direct = below(2) == 1 && has_direct_io(&image);
        let direct = if direct { "on" } else { "off" };
        // Without a flush, every write is to be stable.
        let (cache, flush) = [("writeback", "on"), ("writethrough", "off")][below(2) as usize];
        let engine = ["sync", "io_uring", "io_uring,sqpoll=on"][below(3) as usize];
        let engine = if has_io_uring { engine } else { "sync" };
        let options = format!("notify={notify},direct={direct},cache={cache},engine={engine}");
        let (depth, wait) = (1 + below(60), ["irq", "poll"][below(2) as usize]);
        let more = format!("wait={wait} flush={flush}");
        let (lines, delay) = (below(LINES_MAX), below(DELAY_MAX.as_micros() as u64));
        let what = format!(
            "DATA_SAFETY_SEED={seed}, kill {kill}: {journal:?} {options} depth={depth} \
             {more}"
        );

        let mut run = Run::start(&journal, &image, &options, depth, &more);
        run.wait_flushes(lines);
        std::thread::sleep(Duration::from_micros(delay));
        let Acknowledged { flushes, up_to } = run.kill();

        let after = fs::read(&image).unwrap();
        let submitted = journal.submitted(flushes);
        journal.assert_holds(&before, &after, up_to, submitted, &what);
        figures.add(flushes, &after);
        before = after;
    }
    figures.print(&format!("DATA_SAFETY_SEED={seed}, kills"));
}

// The checker itself

const CHECKED: Journal = Journal {
    seed: 9,
    size: 2,
    flush_every: 4,
    clears: false,
};
const SLOTS: u64 = 4;

/// The content of sector `lba` after the write `sequence`.
fn value(sequence: u64, lba: u64) -> [u8; 512] {
    Stamp {
        sequence,
        lba,
        seed: CHECKED.seed,
    }
    .sector()
}

fn slot(sequence: u64) -> u64 {
    Slots::new(CHECKED.seed, SLOTS)
        .nth(sequence as usize - 1)
        .unwrap()
}

/// A disk before all writes, and after those up to `sequence`.
fn disks(sequence: u64) -> (Vec<u8>, Vec<u8>) {
    let before = vec![0xee; (SLOTS * CHECKED.size) as usize * 512];
    let mut after = before.clone();
    for sequence in 1..=sequence {
        for lba in (slot(sequence) * 2..).take(2) {
            put(&mut after, lba, &value(sequence, lba));
        }
    }
    (before, after)
}

fn put(disk: &mut [u8], lba: u64, sector: &[u8]) {
    disk[lba as usize * 512..][..512].copy_from_slice(sector);
}

/// The last write up to `sequence` that went to the same slot, and the one before it.
fn last_two(sequence: u64) -> (u64, u64) {
    let before = (1..sequence).rfind(|other| slot(*other) == slot(sequence));
    (sequence, before.expect("a slot that was written once"))
}

fn what_can_be() {
    let (before, stable) = disks(20);
    assert_eq!(CHECKED.faults(&before, &stable, 20, 20), []);
    // Any of the later writes, each sector by itself, or none.
    for sequence in 21..=28 {
        for lba in (slot(sequence) * 2..).take(2) {
            let mut after = stable.clone();
            put(&mut after, lba, &value(sequence, lba));
            assert_eq!(CHECKED.faults(&before, &after, 20, 28), []);
        }
    }
    // Nothing is stable.
    assert_eq!(CHECKED.faults(&before, &before, 0, 8), []);
    assert_eq!(CHECKED.faults(&before, &stable, 0, 20), []);
}

fn lost_flush() {
    let (last, earlier) = last_two(20);
    let lba = slot(last) * 2 + 1;
    let lost = [Fault::Lost { lba, stable: last }];
    let (before, mut after) = disks(20);
    for older in [&[0xee; 512], &value(earlier, lba)] {
        put(&mut after, lba, older);
        assert_eq!(CHECKED.faults(&before, &after, 20, 28), lost);
    }
    assert_eq!(CHECKED.faults(&before, &after, last - 1, 28), []);
    assert!(CHECKED.faults(&before, &before, 20, 28).len() > 2);
}

fn torn_sector() {
    let (last, earlier) = last_two(20);
    let lba = slot(last) * 2;
    let (before, mut after) = disks(20);
    for older in [&value(earlier, lba)[..], &[0xee; 512]] {
        for cut in [1, 8, 9, 200, 511] {
            let torn = [&value(last, lba)[..cut], &older[cut..]].concat();
            put(&mut after, lba, &torn);
            // The number of a write has zeros that are those of another's.
            if torn == value(last, lba) || torn == older {
                continue;
            }
            for up_to in [0, 20] {
                let faults = CHECKED.faults(&before, &after, up_to, 28);
                assert_eq!(faults, [Fault::Torn { lba }], "{cut}");
            }
        }
    }
}

fn foreign_value() {
    let (before, stable) = disks(20);
    let lba = slot(20) * 2;
    let other_slot = (1..=20)
        .find(|sequence| slot(*sequence) != slot(20))
        .unwrap();
    let other_seed = Stamp {
        sequence: 20,
        lba,
        seed: CHECKED.seed + 1,
    };
    let not_made = (29..).find(|sequence| slot(*sequence) == slot(20)).unwrap();
    let mut damaged = value(20, lba);
    damaged[300] ^= 1;
    for foreign in [
        value(20, lba + 1),
        value(other_slot, lba),
        value(not_made, lba),
        other_seed.sector(),
        damaged,
        [0; 512],
    ] {
        let mut after = stable.clone();
        put(&mut after, lba, &foreign);
        for up_to in [0, 20] {
            let faults = CHECKED.faults(&before, &after, up_to, 28);
            assert_eq!(faults, [Fault::Foreign { lba }]);
        }
    }
}

/// On a disk of one slot, which each write changes: 3 and 5 make it zeros, 7 discards it.
fn cleared() {
    let journal = Journal {
        clears: true,
        ..CHECKED
    };
    let before = vec![0xee; 2 * 512];
    let faults = |journal: Journal, first: [u8; 512], second: [u8; 512], up_to, submitted| {
        let after = [first, second].concat();
        journal.faults(&before, &after, up_to, submitted)
    };
    let (zeros, of) = ([0; 512], |sequence| value(sequence, 0));
    for (first, up_to, submitted, stable) in [
        (zeros, 3, 3, None),
        (of(2), 3, 3, Some(3)),
        ([0xee; 512], 3, 3, Some(3)),
        (of(4), 5, 5, Some(5)),
        (zeros, 6, 6, Some(6)),
        (zeros, 6, 7, None),
        (of(6), 6, 7, None),
        (zeros, 7, 7, None),
        (of(6), 7, 7, None),
        (of(4), 7, 7, Some(6)),
        (zeros, 8, 8, Some(8)),
    ] {
        let second = match stable {
            // The other sector is as it is to be.
            Some(6 | 8) => value(stable.unwrap(), 1),
            None if first != zeros => value(6, 1),
            _ => zeros,
        };
        let lost = stable.map(|stable| Fault::Lost { lba: 0, stable });
        let found = faults(journal, first, second, up_to, submitted);
        assert_eq!(found, Vec::from_iter(lost), "{up_to} {submitted}");
    }
    let foreign = [Fault::Foreign { lba: 0 }];
    assert_eq!(faults(CHECKED, zeros, value(3, 1), 3, 3), foreign);
}

fn whole_lines() {
    for (console, flushes, up_to) in [
        ("", 0, 0),
        ("f 1", 0, 0),
        ("f 12\n", 1, 12),
        ("f 12\nf 12\nf 20\nf 2", 3, 20),
    ] {
        let acknowledged = Acknowledged { flushes, up_to };
        assert_eq!(Acknowledged::parse(console.as_bytes()), acknowledged);
    }
}
