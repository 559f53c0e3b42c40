//! Requests of many kinds at a time, whoever makes their transfers, in whatever order and however many
//! at once: the guest finds what a disk that does one thing after the other would have left.

#![cfg(feature = "io-uring")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::crowd::{CROWD_STRIDE, crowd_data};
use common::engine::{Gate, Remembering};
use common::machine::{ALL, Machine};
use common::*;
use devices::virtio::block::BlockBackend;
use devices::virtio::block::backend::{FileBackend, MemoryBackend};
use libc::{ENOSYS, EPERM};
use proptest::prelude::*;
use proptest::sample::select;
use spec::Features;
use spec::block::{request_type, status};
use tempfile::NamedTempFile;

/// What is asked for about a stretch of the disk that no other request of the batch is about.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ask {
    Read,
    Write(u8),
    Flush,
    Unknown,
    BeyondEnd,
}

#[derive(Clone, Debug)]
struct Asked {
    ask: Ask,
    /// The stretch: first sector, and how many.
    sector: u64,
    count: u64,
    /// Where its memory is cut.
    cuts: Vec<u64>,
}

/// Requests about the stretches of a disk that is cut into some, in their order or in another.
fn batch() -> impl Strategy<Value = Vec<Asked>> {
    let ask = prop_oneof![
        6 => Just(Ask::Read),
        6 => any::<u8>().prop_map(Ask::Write),
        1 => Just(Ask::Flush),
        1 => Just(Ask::Unknown),
        1 => Just(Ask::BeyondEnd),
    ];
    let stretch = (1..=4_u64, prop::option::weighted(0.8, ask));
    let in_order = prop::collection::vec(stretch, 1..16).prop_flat_map(|stretches| {
        let mut next = 0;
        let mut asked = Vec::new();
        for (count, ask) in stretches {
            if let Some(ask) = ask {
                let sector = next;
                let cuts = prop::collection::btree_set(1..512 * count, 0..3);
                asked.push(cuts.prop_map(move |cuts| Asked {
                    ask,
                    sector,
                    count,
                    cuts: cuts.into_iter().collect(),
                }));
            }
            next += count;
        }
        asked
    });
    (in_order, any::<bool>()).prop_flat_map(|(asked, shuffled)| match shuffled {
        true => Just(asked).prop_shuffle().boxed(),
        false => Just(asked).boxed(),
    })
}

/// The segments of memory of request `index`: address and length.
fn segments(index: u16, asked: &Asked) -> Vec<(u64, u32)> {
    let ends = asked.cuts.iter().copied().chain([512 * asked.count]);
    let mut start = 0;
    let places = ends.zip(0..).map(|(end, number)| {
        let segment = (
            crowd_data(index) + start + 64 * number,
            (end - start) as u32,
        );
        start = end;
        segment
    });
    places.collect()
}

const GUARD: u8 = 0x99;

/// Has the device serve a batch while `bad` is the byte at which transfers fail, and holds what comes
/// of it against what one request after the other would have come to on `model`.
fn serve<D: BlockBackend>(
    machine: &mut Machine<D>,
    model: &mut [u8],
    batch: &[Asked],
    bad: Option<u64>,
) {
    *machine.disk.bad.lock().unwrap() = bad;
    let driver = &mut machine.driver;
    for (index, asked) in (0..).zip(batch) {
        let segments = segments(index, asked);
        let (request_type, sector, fill) = match asked.ask {
            Ask::Read => (request_type::IN, asked.sector, GUARD),
            Ask::Write(byte) => (request_type::OUT, asked.sector, byte),
            Ask::Flush => (request_type::FLUSH, 0, GUARD),
            Ask::Unknown => (0x55, 0, GUARD),
            Ask::BeyondEnd => (request_type::IN, SECTORS - asked.count + 1, GUARD),
        };
        driver.fill(crowd_data(index), CROWD_STRIDE as usize, fill);
        let no_data = matches!(asked.ask, Ask::Flush);
        let data = if no_data { &[][..] } else { &segments[..] };
        driver.offer_one_of_many(index, request_type, sector, data);
    }
    driver.notify();
    let mut used = driver.wait_for_many(batch.len());
    used.sort_unstable_by_key(|used| used.head);
    assert_eq!(driver.pop_used(), None, "one more than was asked for");

    for ((index, asked), used) in (0..).zip(batch).zip(used) {
        assert_eq!(used.head, u32::from(index), "each head once");
        let (start, len) = (512 * asked.sector, 512 * asked.count);
        let cut = bad.filter(|bad| (start..start + len).contains(bad));
        let moved = cut.map_or(len, |bad| bad - start) as usize;
        let moves = if cut.is_some() {
            status::IOERR
        } else {
            status::OK
        };
        let stretch = &mut model[start as usize..][..moved];
        let (code, read) = match asked.ask {
            Ask::Read => (moves, moved),
            Ask::Write(byte) => {
                stretch.fill(byte);
                (moves, 0)
            }
            Ask::Flush => (status::OK, 0),
            Ask::Unknown => (status::UNSUPP, 0),
            Ask::BeyondEnd => (status::IOERR, 0),
        };
        assert_eq!(
            (driver.status_of(index), used.len),
            (code, read as u32 + 1),
            "{asked:?}"
        );
        if !matches!(asked.ask, Ask::Write(_)) {
            let mut expected = vec![GUARD; CROWD_STRIDE as usize];
            let mut left = &model[start as usize..][..read];
            for (addr, len) in segments(index, asked) {
                let (here, rest) = left.split_at(left.len().min(len as usize));
                let at = (addr - crowd_data(index)) as usize;
                expected[at..][..here.len()].copy_from_slice(here);
                left = rest;
            }
            let memory = driver.bytes(crowd_data(index), CROWD_STRIDE as usize);
            assert!(memory == expected, "{asked:?}");
        }
    }
}

/// Has the device serve all `batches`, and resets it. What is on the disk is its `content`.
fn serve_all<D: BlockBackend>(
    mut machine: Machine<D>,
    content: impl Fn(&D) -> Vec<u8>,
    batches: &[(Vec<Asked>, Option<u64>)],
    (features, mut random): (Features, u64),
) {
    let mut model = content(&machine.disk.disk);
    let done = AtomicBool::new(false);
    let gate = Arc::clone(&machine.gate);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (0..random >> 60).for_each(|_| thread::yield_now());
                gate.let_go(1 + (random >> 40) % 3);
            }
            gate.open();
        });
        let result = catch_unwind(AssertUnwindSafe(|| {
            for (batch, bad) in batches {
                serve(&mut machine, &mut model, batch, *bad);
                let on_disk = content(&machine.disk.disk);
                assert!(on_disk == model, "what is on the disk");
            }
        }));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            resume_unwind(panic);
        }
    });
    *machine.disk.bad.lock().unwrap() = None;
    machine.driver.reset();
    assert_eq!(machine.gate.in_flight(), 0);
    machine.driver.initialize(features);
    *machine.driver.disk.bytes() = model;
    machine.driver.assert_serves();
}

/// Who makes the transfers.
#[derive(Clone, Copy, Debug)]
enum Maker {
    /// An engine that ends them in any order.
    Any,
    /// The backend.
    Backend,
    /// The host, where it has io_uring, of a file.
    IoUring { polled: bool },
}

/// A machine whose disk is a file, by io_uring; `None` where there is none.
fn by_io_uring(
    mode: Mode,
    features: Features,
    polled: bool,
) -> Option<(Machine<FileBackend>, NamedTempFile)> {
    let bytes = default_disk();
    let image = NamedTempFile::new().unwrap();
    fs::write(image.path(), &*bytes.bytes()).unwrap();
    let file = FileBackend::open(image.path(), false).unwrap();
    let gate = Arc::new(Gate::new());
    let mut made = Ok(());
    let disk = (Remembering::new(file), bytes);
    let machine = Machine::with(mode, (16, features), disk, gate, |mut block| {
        made = block.use_io_uring(polled);
        block
    });
    if let Err(error) = &made
        && matches!(error.raw_os_error(), Some(ENOSYS | EPERM))
    {
        eprintln!("no io_uring: {error}");
        return None;
    }
    made.unwrap();
    Some((machine, image))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn merged_or_not_and_in_whatever_order_requests_end_as_if_each_were_alone(
        batches in prop::collection::vec((batch(), prop::option::weighted(0.4, 0..512 * SECTORS)), 1..6),
        features in select(vec![
            INDIRECT,
            ALL,
            // Each write is to be stable.
            Features::VIRTIO_F_VERSION_1.union(Features::VIRTIO_F_INDIRECT_DESC),
        ]),
        mode in select(vec![Mode::Trap, Mode::Mapped, Mode::IoEventFd, POLL]),
        random: u64,
        maker in select(vec![
            Maker::Any,
            Maker::Backend,
            Maker::IoUring { polled: false },
            Maker::IoUring { polled: true },
        ]),
    ) {
        let in_memory = |disk: &MemoryBackend| disk.bytes().clone();
        match maker {
            Maker::Any => {
                let machine = Machine::new(mode, 16, features, random);
                serve_all(machine, in_memory, &batches, (features, random));
            }
            Maker::Backend => {
                let machine = Machine::by_default(mode, 16, features);
                serve_all(machine, in_memory, &batches, (features, random));
            }
            Maker::IoUring { polled } => {
                if let Some((machine, image)) = by_io_uring(mode, features, polled) {
                    let in_file = |_: &FileBackend| fs::read(image.path()).unwrap();
                    serve_all(machine, in_file, &batches, (features, random));
                }
            }
        }
    }
}
