//! What block I/O costs, measured in haste: that each cell has figures which can be true, and that a
//! disk is treated as the user allows. How large the figures are is no test's matter.

use std::collections::HashSet;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use libtest_mimic::Trial;
use spec::bench::{DATA_SIZE, fill_data};
use tempfile::{NamedTempFile, TempDir};
use vmm::bench::block::options::{Amount, BlockOptions, Rw, Wait};
use vmm::bench::block::{self, Measured};
use vmm::bench::progress::{Progress, Silent};
use vmm::bench::report::{BlockCell, BlockFigures, Throughput};
use vmm::config::Notify;

use crate::harness::file;
use crate::needs::Needs;

/// How many requests a cell has in these tests, all its rounds together.
const REQUESTS: u64 = 60;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test("block_io_has_figures_and_floors_for_every_cell", every_cell),
        test("block_io_of_every_kind_and_size_is_measured", every_kind),
        test("block_io_ends_after_its_seconds", seconds),
        test("block_io_reads_leave_the_users_file_alone", reads),
        test("block_io_writes_only_the_part_that_is_used", writes),
        test("block_io_on_a_disk_that_is_in_use_is_refused", in_use),
        test("block_io_that_is_told_of_steps_takes_as_many", steps),
    ]
}

fn options() -> BlockOptions {
    BlockOptions {
        size: Some(1 << 20),
        amount: Amount::Requests(REQUESTS),
        ..BlockOptions::default()
    }
}

fn measure(options: &BlockOptions) -> Measured {
    block::measure(&options.plan().unwrap(), &mut Silent).unwrap()
}

fn figures(cell: &BlockCell) -> &BlockFigures {
    cell.figures.as_ref().expect(&cell.notify)
}

#[track_caller]
fn assert_sound(throughput: &Throughput) {
    let Throughput { iops, latency } = throughput;
    assert!(iops.samples.iter().all(|rate| *rate > 0.0), "{iops:?}");
    let order = [
        latency.min,
        latency.p50,
        latency.p99,
        latency.p999,
        latency.max,
    ];
    assert!(order.is_sorted() && order[0] > 0, "{latency:?}");
}

fn every_cell() {
    let Measured { block, targets } = measure(&BlockOptions {
        depths: vec![1, 32],
        ..options()
    });
    assert_eq!(block.size, 1 << 20);
    let waits = |notify| match notify {
        Notify::Poll => Wait::ALL.len(),
        _ => 1,
    };
    let expected: usize = Notify::ALL.map(waits).iter().sum();
    assert_eq!(block.cells.len(), 2 * expected);
    for cell in &block.cells {
        let figures = figures(cell);
        assert_sound(&figures.throughput);
        assert_eq!(figures.throughput.latency.count, REQUESTS);
        let by_notify = figures.notify_exits > 0.0;
        assert_eq!(by_notify, cell.notify == "trap", "{cell:?}");
        assert!(figures.exits >= figures.notify_exits);
        let cpu = figures.cpu;
        assert!(cpu.guest + cpu.kernel + cpu.vmm > 0.0, "{cell:?}");
        if cell.wait == "poll" {
            assert!(figures.interrupts < 0.1, "{cell:?}");
        }

        let [(pread, by_calls), (io_uring, by_ring)] = &cell.floors[..] else {
            panic!("{cell:?}");
        };
        assert_eq!((pread.as_str(), io_uring.as_str()), ("pread", "io_uring"));
        assert_sound(by_calls.as_ref().unwrap());
        if let Ok(by_ring) = by_ring {
            assert_sound(by_ring);
        }
    }
    assert!(!block.notes.is_empty());
    assert_eq!(targets.len(), 4, "{targets:?}");
    assert!(targets.iter().all(|target| target.value.is_finite()));
}

fn every_kind() {
    for rw in Rw::ALL {
        let Measured { block, targets } = measure(&BlockOptions {
            size: Some(4 << 20),
            block_sizes: vec![512, 1 << 20],
            depths: vec![3, 128],
            rw,
            notify: vec![Notify::IoEventFd],
            ..options()
        });
        assert_eq!(block.cells.len(), 4);
        for cell in &block.cells {
            assert_eq!(cell.rw, rw.name());
            assert_sound(&figures(cell).throughput);
            let call = if rw.writes() { "pwrite" } else { "pread" };
            assert_eq!(cell.floors[0].0, call);
        }
        assert!(targets.is_empty(), "{targets:?}");
    }
}

fn seconds() {
    let Measured { block, .. } = measure(&BlockOptions {
        depths: vec![4],
        notify: vec![Notify::Trap],
        amount: Amount::Seconds(0.2),
        ..options()
    });
    let Throughput { iops, latency } = &figures(&block.cells[0]).throughput;
    // Requests that were in flight at the end are waited for, so that time alone says little.
    let rounds = iops.samples.len() as f64;
    let seconds: f64 = iops.samples.iter().map(|rate| 1.0 / rate).sum::<f64>() / rounds;
    let total = seconds * latency.count as f64;
    assert!((0.1..10.0).contains(&total), "{total} s");
}

/// A file of 64 KiB, which its user may only read.
fn users_file() -> (TempDir, std::path::PathBuf) {
    let bytes: Vec<u8> = (0..64 << 10_u32).map(|n| (n / 7) as u8).collect();
    let (dir, path) = file("disk.img", &bytes);
    fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
    (dir, path)
}

fn on(path: &Path, rw: Rw) -> BlockOptions {
    BlockOptions {
        disk: Some(path.into()),
        size: None,
        depths: vec![2],
        rw,
        ..options()
    }
}

fn reads() {
    let (_dir, path) = users_file();
    let before = fs::read(&path).unwrap();
    let changed = || fs::metadata(&path).unwrap().modified().unwrap();
    let unchanged = changed();
    for rw in [Rw::RandRead, Rw::Read] {
        let Measured { block, .. } = measure(&on(&path, rw));
        assert_eq!(
            (block.disk, block.size),
            (path.display().to_string(), 64 << 10)
        );
        block.cells.iter().for_each(|cell| _ = figures(cell));
    }
    assert_eq!((fs::read(&path).unwrap(), changed()), (before, unchanged));
}

fn writes() {
    let disk = NamedTempFile::new().unwrap();
    fs::write(disk.path(), [0x5a; 64 << 10]).unwrap();
    for rw in [Rw::RandWrite, Rw::Write] {
        let Measured { block, .. } = measure(&BlockOptions {
            size: Some(32 << 10),
            ..on(disk.path(), rw)
        });
        block.cells.iter().for_each(|cell| _ = figures(cell));
    }
    let bytes = fs::read(disk.path()).unwrap();
    let (used, rest) = bytes.split_at(32 << 10);
    let mut data = vec![0; DATA_SIZE];
    fill_data(&mut data);
    let blocks: HashSet<&[u8]> = data.chunks(4096).collect();
    assert!(used.chunks(4096).all(|block| blocks.contains(block)));
    assert!(rest.iter().all(|byte| *byte == 0x5a) && rest.len() == 32 << 10);
}

fn in_use() {
    let (_dir, path) = file("disk.img", &[0; 64 << 10]);
    let other = OpenOptions::new().write(true).open(&path).unwrap();
    other.lock().unwrap();
    let plan = on(&path, Rw::RandRead).plan().unwrap();
    let error = block::measure(&plan, &mut Silent).unwrap_err().to_string();
    assert!(error.starts_with("--disk: cannot use"), "{error}");
    assert!(error.contains("in use"), "{error}");
}

/// Counts steps.
#[derive(Default)]
struct Steps {
    told: u64,
    taken: u64,
}

impl Progress for Steps {
    fn begin(&mut self, _: &str, steps: u64) {
        self.told += steps;
    }

    fn step(&mut self, _: &str) {
        self.taken += 1;
    }
}

fn steps() {
    let mut steps = Steps::default();
    let options = BlockOptions {
        depths: vec![1],
        ..options()
    };
    block::measure(&options.plan().unwrap(), &mut steps).unwrap();
    assert_eq!(steps.told, steps.taken);
}
