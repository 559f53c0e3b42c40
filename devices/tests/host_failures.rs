//! A host that fails at any time and recovers, below requests of any kind: what the guest is told,
//! what is in its memory and what is on the disk are as a model has them. What single failures come
//! to is in `hazards_disks`, and what calls of the host come to is a matter of the file backend's.

#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::sync::{Arc, Mutex};

use common::backend::Hooks;
use common::*;
use proptest::prelude::*;
use proptest::sample::select;
use spec::Features;
use spec::block::{request_type, status};

/// Bytes of memory from one segment to the next.
const STRIDE: u64 = 0x1000;
/// What is in memory that the device does not write.
const GUARD: u8 = 0xc3;

/// A request, and how the host fails it, if it does.
#[derive(Clone, Debug)]
enum Step {
    Transfer {
        writes: bool,
        sector: u64,
        /// Lengths of its segments, which make whole sectors.
        segments: Vec<usize>,
        byte: u8,
        /// After how many bytes.
        failure: Option<(usize, io::ErrorKind)>,
        /// For a disk without FLUSH, where each write is to be stable.
        flush_failure: Option<io::ErrorKind>,
    },
    Flush {
        failure: Option<io::ErrorKind>,
    },
}

fn error() -> impl Strategy<Value = io::ErrorKind> {
    select(vec![
        io::ErrorKind::StorageFull,
        io::ErrorKind::UnexpectedEof,
        io::ErrorKind::WriteZero,
        io::ErrorKind::Other,
    ])
}

fn sometimes<T: std::fmt::Debug>(
    failure: impl Strategy<Value = T>,
) -> impl Strategy<Value = Option<T>> {
    prop::option::weighted(0.4, failure)
}

/// 1 to 4 sectors, cut anywhere into 1 to 4 segments.
fn segments() -> impl Strategy<Value = Vec<usize>> {
    let cuts =
        |len: usize| prop::collection::btree_set(1..len, 0..4).prop_map(move |cuts| (len, cuts));
    (1..=4_usize)
        .prop_flat_map(move |sectors| cuts(sectors * 512))
        .prop_map(|(len, cuts)| {
            let ends: Vec<usize> = cuts.into_iter().chain([len]).collect();
            let starts = std::iter::once(&0).chain(&ends);
            starts.zip(&ends).map(|(start, end)| end - start).collect()
        })
}

fn step() -> impl Strategy<Value = Step> {
    let transfer = (any::<bool>(), 0..=SECTORS - 4, segments(), any::<u8>()).prop_flat_map(
        |(writes, sector, segments, byte)| {
            let len: usize = segments.iter().sum();
            (sometimes((0..len, error())), sometimes(error())).prop_map(
                move |(failure, flush_failure)| Step::Transfer {
                    writes,
                    sector,
                    segments: segments.clone(),
                    byte,
                    failure,
                    flush_failure,
                },
            )
        },
    );
    let flush = sometimes(error()).prop_map(|failure| Step::Flush { failure });
    prop_oneof![4 => transfer, 1 => flush]
}

/// A driver, and what its disk must hold.
struct Machine {
    driver: Driver,
    hooks: Arc<Mutex<Hooks>>,
    disk: Vec<u8>,
    write_through: bool,
}

impl Machine {
    fn new(mode: Mode, write_through: bool) -> Self {
        let (mut driver, hooks) = Driver::hooked(mode);
        let disk = driver.disk.clone();
        driver.initialize(if write_through {
            Features::VIRTIO_F_VERSION_1
        } else {
            PLAIN
        });
        let disk = disk.bytes().clone();
        Self {
            driver,
            hooks,
            disk,
            write_through,
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Flush { failure } => {
                self.hooks.lock().unwrap().fail_flush = *failure;
                let status = failure.map_or(status::OK, |_| status::IOERR);
                let answer = self.driver.request(request_type::FLUSH, 0, &[]);
                assert_eq!(answer, (1, status));
            }
            Step::Transfer {
                writes,
                sector,
                segments,
                byte,
                failure,
                flush_failure,
            } => {
                let mut hooks = self.hooks.lock().unwrap();
                (hooks.fail_transfer, hooks.fail_flush) = (*failure, *flush_failure);
                drop(hooks);
                let len: usize = segments.iter().sum();
                let moved = failure.map_or(len, |(bytes, _)| bytes);
                let place = *sector as usize * 512;
                if *writes {
                    let unstable = self.write_through && flush_failure.is_some();
                    let failed = failure.is_some() || unstable;
                    self.write(*sector, segments, *byte, failed);
                    self.disk[place..][..moved].fill(*byte);
                } else {
                    self.read(*sector, segments, moved, failure.is_some());
                }
            }
        }
        assert!(*self.driver.disk.bytes() == self.disk, "{step:?}");
    }

    fn write(&mut self, sector: u64, segments: &[usize], byte: u8, failed: bool) {
        let mut data = Vec::new();
        for (addr, len) in (DATA..).step_by(STRIDE as usize).zip(segments) {
            self.driver.fill(addr, *len, byte);
            data.push(readable(addr, *len as u32));
        }
        let status = if failed { status::IOERR } else { status::OK };
        let answer = self.driver.request(request_type::OUT, sector, &data);
        assert_eq!(answer, (1, status));
    }

    /// A read of which the first `moved` bytes succeed.
    fn read(&mut self, sector: u64, segments: &[usize], moved: usize, failed: bool) {
        let places = || (DATA..).step_by(STRIDE as usize).zip(segments);
        let mut data = Vec::new();
        for (addr, len) in places() {
            self.driver.fill(addr - 16, *len + 32, GUARD);
            data.push(writable(addr, *len as u32));
        }
        let status = if failed { status::IOERR } else { status::OK };
        let answer = self.driver.request(request_type::IN, sector, &data);
        assert_eq!(answer, (moved as u32 + 1, status));

        let mut read = &self.disk[sector as usize * 512..][..moved];
        for (addr, len) in places() {
            let (here, rest) = read.split_at(read.len().min(*len));
            read = rest;
            let mut expected = vec![GUARD; *len + 32];
            expected[16..][..here.len()].copy_from_slice(here);
            assert_eq!(self.driver.bytes(addr - 16, *len + 32), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_host_that_fails_at_any_byte_of_any_request_is_told_truly_and_leaves_the_device_serving(
        steps in prop::collection::vec(step(), 1..24),
        write_through: bool,
        mode in select(vec![Mode::Trap, Mode::Mapped, Mode::IoEventFd, POLL]),
    ) {
        let mut machine = Machine::new(mode, write_through);
        for step in &steps {
            machine.take(step);
        }
        *machine.hooks.lock().unwrap() = Hooks::default();
        machine.driver.assert_serves();
    }
}
