//! A disk with requests in flight: an engine ends their transfers when it likes and in any order, and
//! the guest finds what a disk that does one thing after the other would have left.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::crowd::{CROWD_STRIDE, crowd_data};
use common::engine::{Call, Gate, GatedEngine, Remembering};
use common::*;
use devices::BusDevice;
use devices::virtio::block::Block;
use devices::virtio::block::engine::TRANSFERS_MAX;
use devices::virtio::block::stats::DrainCause;
use proptest::prelude::*;
use proptest::sample::select;
use spec::Features;
use spec::block::{request_type, status};
use spec::mmio::Register;

const ALL: Features = INDIRECT.union(Features::VIRTIO_F_EVENT_IDX);
/// Where the size of the disk is in the configuration space.
const CAPACITY: u64 = spec::mmio::CONFIG_OFFSET;

/// A driver of a queue of this `size`, its disk, and what lets its transfers end.
struct Machine {
    driver: Driver,
    disk: Remembering,
    gate: Arc<Gate>,
}

impl Machine {
    fn new(mode: Mode, size: u16, features: Features, random: u64) -> Self {
        let disk = Remembering::new(default_disk());
        let (engine, gate) = GatedEngine::new(disk.clone(), random);
        let with_engine = |block: Block| block.with_engine(0, Box::new(engine));
        Self::with(mode, (size, features), disk, gate, with_engine)
    }

    /// The same with the engine that a disk has by default, which has all done at once.
    fn by_default(mode: Mode, size: u16, features: Features) -> Self {
        let disk = Remembering::new(default_disk());
        Self::with(
            mode,
            (size, features),
            disk,
            Arc::new(Gate::new()),
            |block| block,
        )
    }

    fn with(
        mode: Mode,
        (size, features): (u16, Features),
        disk: Remembering,
        gate: Arc<Gate>,
        change: impl FnOnce(Block) -> Block,
    ) -> Self {
        let boxed = Box::new(disk.clone());
        let mut driver = Driver::with_block(mode, false, disk.disk.clone(), boxed, change);
        driver.size = size;
        driver.initialize(features);
        Self { driver, disk, gate }
    }

    /// Makes a request for one sector available, in memory of its own.
    fn offer(&mut self, index: u16, request_type: u32, sector: u64) {
        let data = [(crowd_data(index), 512)];
        let driver = &mut self.driver;
        driver.offer_one_of_many(index, request_type, sector, &data);
    }

    /// The driver by itself: nothing lets its transfers end.
    fn into_driver(mut self) -> Driver {
        let gate = Arc::new(Gate::new());
        drop(std::mem::replace(&mut self.gate, gate));
        std::mem::replace(&mut self.driver, Driver::new(Mode::Trap))
    }

    fn assert_read(&self, index: u16, sector: u64) {
        assert_eq!(self.driver.status_of(index), status::OK);
        let data = self.driver.bytes(crowd_data(index), 512);
        assert_eq!(data, sector_content(sector));
    }
}

/// A test that has failed must not wait for what it has in flight.
impl Drop for Machine {
    fn drop(&mut self) {
        self.gate.open();
    }
}

/// Sectors that are not neighbours.
fn apart(index: u16) -> u64 {
    2 * u64::from(index) % SECTORS
}

#[test]
fn requests_complete_as_their_transfers_end_and_each_with_an_interrupt_that_is_wanted() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 16, ALL, 3);
        for index in 0..8 {
            machine.offer(index, request_type::IN, apart(index));
        }
        machine.driver.notify();
        machine.gate.wait_for(8);
        assert_eq!(machine.driver.used_idx(), 0);
        let mut heads = Vec::new();
        for _ in 0..8 {
            machine.gate.let_go(1);
            let used = machine.driver.wait_used();
            assert_eq!(used.len, 513);
            machine.assert_read(used.head as u16, apart(used.head as u16));
            heads.push(used.head);
        }
        assert_ne!(
            heads,
            [0, 1, 2, 3, 4, 5, 6, 7],
            "the engine has an order of its own"
        );
        heads.sort_unstable();
        assert_eq!(heads, [0, 1, 2, 3, 4, 5, 6, 7]);
        machine.driver.reset();
        let stats = machine.driver.stats.snapshot();
        assert!(mode != Mode::IoEventFd || stats.drains(DrainCause::Completion) > 0);
    }
}

#[test]
fn what_is_made_available_while_requests_are_in_flight_joins_them() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 16, ALL, 1);
        for index in 0..4 {
            machine.offer(index, request_type::IN, apart(index));
            machine.driver.notify();
            machine.gate.wait_for(u64::from(index) + 1);
        }
        machine.gate.open();
        machine.driver.wait_for_many(4);
    }
}

#[test]
fn a_flush_begins_when_all_before_it_has_ended_and_nothing_after_it_has_begun() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 16, ALL, 7);
        for index in 0..3 {
            machine.offer(index, request_type::OUT, apart(index));
        }
        machine
            .driver
            .offer_one_of_many(3, request_type::FLUSH, 0, &[]);
        machine.offer(4, request_type::OUT, 40);
        machine.driver.notify();
        machine.gate.wait_for(3);
        machine.gate.let_go(2);
        machine.gate.wait_for(1);
        assert!(!machine.disk.take_calls().contains(&Call::Flush));
        machine.gate.let_go(1);
        let used = machine.driver.wait_for_many(4);
        assert_eq!(used[3].head, 3);
        let calls = machine.disk.take_calls();
        assert_eq!((calls.len(), calls[1]), (2, Call::Flush), "{calls:?}");
        machine.gate.open();
        assert_eq!(machine.driver.wait_used().head, 4);
        assert_eq!(machine.disk.take_calls(), [Call::Write(40 * 512, 512)]);
    }
}

#[test]
fn a_slow_disk_keeps_no_vcpu_from_the_registers_and_from_notifying() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 16, ALL, 0);
        machine.offer(0, request_type::IN, 5);
        machine.driver.notify();
        machine.gate.wait_for(1);
        for _ in 0..3 {
            machine.driver.write(Register::QueueNotify, 0);
            machine.driver.notify();
            assert_eq!(machine.driver.read(Register::Status), 15);
        }
        assert_eq!(machine.gate.in_flight(), 1);
        machine.gate.open();
        assert_eq!(machine.driver.wait_used().head, 0);
        machine.assert_read(0, 5);
    }
}

#[test]
fn no_more_is_in_flight_than_may_be_and_the_rest_follows_when_some_has_ended() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 512, PLAIN, 5);
        let driver = &mut machine.driver;
        // All read the same sector, so that no two are neighbours: each with a first descriptor of its
        // own, and the others in common.
        driver.header(request_type::IN, 9);
        driver.chain_at(509, &read_chain());
        let header = linked(&read_chain(), 509)[0];
        let many = 2 * TRANSFERS_MAX as u16 + 10;
        for head in 0..many {
            driver.descriptor(head, header);
            driver.offer(head);
        }
        driver.notify();
        machine.gate.wait_for(TRANSFERS_MAX as u64);
        assert_eq!(driver.used_idx(), 0);
        machine.gate.open();
        let used = driver.wait_for_many(many.into());
        let mut heads: Vec<_> = used.iter().map(|used| used.head).collect();
        heads.sort_unstable();
        assert!(heads.into_iter().eq(0..u32::from(many)));
        assert_eq!(machine.gate.most(), TRANSFERS_MAX as u64);
        driver.assert_serves();
    }
}

#[test]
fn a_reset_waits_for_what_is_in_flight_and_nothing_is_written_after_it() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 16, ALL, 11);
        for index in 0..4 {
            machine.offer(index, request_type::IN, apart(index));
        }
        machine.driver.notify();
        machine.gate.wait_for(4);
        let gate = Arc::clone(&machine.gate);
        let resetting = thread::spawn(move || {
            machine.driver.reset();
            machine
        });
        gate.let_go(3);
        gate.wait_for(1);
        assert!(!resetting.is_finished());
        gate.let_go(1);
        let mut machine = resetting.join().unwrap();
        let before = machine.driver.snapshot();
        assert_eq!(machine.gate.in_flight(), 0);
        machine.gate.open();
        assert!(machine.driver.snapshot() == before);
        machine.driver.initialize(ALL);
        machine.driver.assert_serves();
    }
}

#[test]
fn a_queue_that_the_vcpu_serves_has_nothing_in_flight_when_it_goes_on() {
    let mut machine = Machine::new(Mode::Trap, 16, ALL, 2);
    for index in 0..6 {
        machine.offer(index, request_type::IN, apart(index));
    }
    let gate = Arc::clone(&machine.gate);
    let vcpu = thread::spawn(move || {
        machine.driver.notify();
        machine
    });
    gate.wait_for(6);
    assert!(!vcpu.is_finished());
    gate.open();
    let mut machine = vcpu.join().unwrap();
    assert_eq!(
        (machine.gate.in_flight(), machine.driver.used_idx()),
        (0, 6)
    );
    assert_eq!(machine.driver.wait_for_many(6).len(), 6);
}

#[test]
fn a_disk_gets_another_size_when_nothing_that_was_held_against_the_old_one_is_in_flight() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 16, ALL, 2);
        let last = SECTORS - 1;
        machine.offer(0, request_type::OUT, last);
        machine.driver.notify();
        machine.gate.wait_for(1);
        machine.disk.disk.bytes().truncate(512 * 32);
        machine.driver.transport.refresh().unwrap();
        let capacity = |machine: &mut Machine| {
            let mut capacity = [0; 8];
            machine.driver.transport.read(CAPACITY, &mut capacity);
            u64::from_le_bytes(capacity)
        };
        assert_eq!(capacity(&mut machine), SECTORS);
        machine.gate.open();
        machine.driver.wait_used();
        let edges = Arc::clone(&machine.driver.edges);
        edges.wait_until(|| capacity(&mut machine) == 32);
        machine.offer(1, request_type::IN, last);
        machine.driver.notify();
        machine.driver.wait_used();
        assert_eq!(machine.driver.status_of(1), status::IOERR);
    }
}

#[test]
fn a_device_that_is_dropped_with_requests_in_flight_waits_for_them() {
    for mode in THREADS {
        let mut machine = Machine::new(mode, 16, ALL, 2);
        machine.offer(0, request_type::IN, 3);
        machine.driver.notify();
        machine.gate.wait_for(1);
        let gate = Arc::clone(&machine.gate);
        let driver = machine.into_driver();
        let dropping = thread::spawn(move || drop(driver));
        assert!(!dropping.is_finished());
        gate.open();
        dropping.join().unwrap();
        assert_eq!(gate.in_flight(), 0);
    }
}

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
fn serve(machine: &mut Machine, model: &mut [u8], batch: &[Asked], bad: Option<u64>) {
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
    assert!(*machine.disk.disk.bytes() == model, "what is on the disk");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn merged_or_not_and_in_whatever_order_requests_end_as_if_each_were_alone(
        batches in prop::collection::vec((batch(), prop::option::weighted(0.4, 0..512 * SECTORS)), 1..6),
        features in select(vec![
            INDIRECT,
            ALL,
            // Each write is to be stable.
            Features::VIRTIO_F_VERSION_1.union(Features::VIRTIO_F_INDIRECT_DESC),
        ]),
        mode in select(vec![Mode::Trap, Mode::IoEventFd, POLL]),
        random: u64,
        by_default: bool,
    ) {
        let mut machine = match by_default {
            true => Machine::by_default(mode, 16, features),
            false => Machine::new(mode, 16, features, random),
        };
        let mut model = machine.disk.disk.bytes().clone();
        let done = AtomicBool::new(false);
        let gate = Arc::clone(&machine.gate);
        thread::scope(|scope| {
            if !by_default {
                scope.spawn(|| {
                    let mut random = random;
                    while !done.load(Ordering::Relaxed) {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (0..random >> 60).for_each(|_| thread::yield_now());
                        gate.let_go(1 + (random >> 40) % 3);
                    }
                    gate.open();
                });
            }
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for (batch, bad) in &batches {
                    serve(&mut machine, &mut model, batch, *bad);
                }
            }));
            done.store(true, Ordering::Relaxed);
            if let Err(panic) = result {
                std::panic::resume_unwind(panic);
            }
        });
        *machine.disk.bad.lock().unwrap() = None;
        machine.driver.reset();
        prop_assert_eq!(machine.gate.in_flight(), 0);
        machine.driver.initialize(features);
        machine.driver.assert_serves();
    }
}
