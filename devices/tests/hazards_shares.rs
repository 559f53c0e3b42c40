//! A guest that asks for as much as the limits allow: that the device works it off in shares, and
//! that whoever wants the machine to stop or the device to be reset gets a word in between.

#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::*;
use devices::Response;
use devices::virtio::block::{
    BlockBackend, CLEAR_SECTORS_MAX, CLEAR_SEG_MAX, SEG_MAX, SIZE_MAX, TransferError,
};
use spec::Features;
use spec::block::{SECTOR_SIZE, Segment, request_type, status};
use spec::mmio::Register;
use vm_memory::VolatileSlice;

/// The largest queue.
const SIZE: u16 = 512;
/// The kinds of requests that can be large.
const KINDS: [u32; 4] = [
    request_type::IN,
    request_type::OUT,
    request_type::DISCARD,
    request_type::WRITE_ZEROES,
];
/// The most that a drain may move or clear.
const SHARE: u64 = 128 << 20;

/// A disk that moves and clears nothing, but counts how much it would have.
#[derive(Clone, Default)]
struct Counting {
    moved: Arc<AtomicU64>,
    /// How long each transfer takes.
    delay: Duration,
}

impl Counting {
    fn moved(&self) -> u64 {
        self.moved.load(Ordering::SeqCst)
    }

    fn count(&self, len: u64) {
        self.moved.fetch_add(len, Ordering::SeqCst);
        thread::sleep(self.delay);
    }

    fn transfer(&self, slices: &[VolatileSlice<'_>]) -> Result<(), TransferError> {
        let len: usize = slices.iter().map(VolatileSlice::len).sum();
        self.count(len as u64);
        Ok(())
    }
}

impl BlockBackend for Counting {
    fn capacity(&self) -> u64 {
        1 << 20
    }

    fn read_at(&self, slices: &[VolatileSlice<'_>], _: u64) -> Result<(), TransferError> {
        self.transfer(slices)
    }

    fn write_at(&self, slices: &[VolatileSlice<'_>], _: u64) -> Result<(), TransferError> {
        self.transfer(slices)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard_granularity(&self) -> Option<u32> {
        Some(4096)
    }

    fn discard(&self, _: u64, len: u64) -> io::Result<()> {
        self.count(len);
        Ok(())
    }

    fn write_zeroes(&self, _: u64, len: u64, _: bool) -> io::Result<()> {
        self.count(len);
        Ok(())
    }
}

/// The most bytes that a request of this kind can be for.
fn largest(kind: u32) -> u64 {
    match kind {
        request_type::IN | request_type::OUT => u64::from(SEG_MAX) * u64::from(SIZE_MAX),
        _ => u64::from(CLEAR_SEG_MAX) * u64::from(CLEAR_SECTORS_MAX) * SECTOR_SIZE,
    }
}

/// A driver that has offered as many chains as the queue takes, each the same indirect table with
/// the largest request of this kind, and has not notified.
fn flooded(mode: Mode, kind: u32, disk: &Counting) -> Driver {
    let mut driver = Driver::with_backend(mode, false, default_disk(), Box::new(disk.clone()));
    driver.size = SIZE;
    driver.initialize(
        INDIRECT | Features::VIRTIO_BLK_F_DISCARD | Features::VIRTIO_BLK_F_WRITE_ZEROES,
    );
    driver.header(kind, 0);
    let mut chain = match kind {
        request_type::IN => vec![writable(DATA, SIZE_MAX); SEG_MAX as usize],
        request_type::OUT => vec![readable(DATA, SIZE_MAX); SEG_MAX as usize],
        _ => {
            let segment = Segment {
                num_sectors: CLEAR_SECTORS_MAX,
                ..Segment::default()
            };
            let segments = segment.to_bytes().repeat(CLEAR_SEG_MAX as usize);
            driver.put(DATA, &segments);
            vec![readable(DATA, segments.len() as u32)]
        }
    };
    chain.insert(0, readable(HEADER, 16));
    chain.push(writable(STATUS, 1));
    let table = table(&chain);
    driver.put(TABLE, &table);
    for head in 0..SIZE {
        driver.descriptor(head, indirect(TABLE, table.len() as u32));
        driver.offer(head);
    }
    driver
}

fn total(kind: u32) -> u64 {
    u64::from(SIZE) * largest(kind)
}

/// Each chain has been used, once and in order, for a request that went well.
fn assert_each_used_once(driver: &mut Driver, kind: u32) {
    let len = match kind {
        request_type::IN => SEG_MAX * SIZE_MAX + 1,
        _ => 1,
    };
    for head in 0..u32::from(SIZE) {
        assert_eq!(driver.pop_used(), Some(Used { head, len }));
    }
    assert_eq!(driver.pop_used(), None);
    assert_eq!(driver.status(), status::OK);
}

#[test]
fn the_largest_request_fits_half_a_share() {
    for kind in KINDS {
        assert!(largest(kind) <= SHARE / 2);
    }
    assert!(u64::from(SIZE_MAX).is_multiple_of(SECTOR_SIZE));
}

#[test]
fn one_drain_moves_or_clears_a_bounded_number_of_bytes_and_all_chains_are_used_once_in_the_end() {
    for kind in KINDS {
        let disk = Counting::default();
        let mut driver = flooded(Mode::Trap, kind, &disk);
        let mut drains = 0_u64;
        loop {
            let before = disk.moved();
            let response = driver.try_write(Register::QueueNotify, 0);
            let moved = disk.moved() - before;
            assert!(moved <= SHARE, "{moved} bytes in one drain");
            drains += 1;
            if !matches!(response, Response::Again) {
                assert!(matches!(response, Response::Done), "{response:?}");
                break;
            }
        }
        assert!(drains >= total(kind) / SHARE, "{drains} drains");
        assert_eq!(disk.moved(), total(kind));
        assert_each_used_once(&mut driver, kind);
    }
}

#[test]
fn one_drain_flushes_a_bounded_number_of_times_and_all_chains_are_used_in_the_end() {
    // Flushes, and what is stable when it completes as there is no flush.
    let without_flush =
        (INDIRECT | Features::VIRTIO_BLK_F_WRITE_ZEROES) - Features::VIRTIO_BLK_F_FLUSH;
    for (features, kind, data) in [
        (INDIRECT, request_type::FLUSH, vec![]),
        (without_flush, request_type::OUT, vec![readable(DATA, 512)]),
        (
            without_flush,
            request_type::WRITE_ZEROES,
            vec![readable(DATA, 16)],
        ),
    ] {
        let (mut driver, hooks) = Driver::hooked(Mode::Trap);
        driver.size = SIZE;
        driver.initialize(features);
        driver.header(kind, 0);
        let chain = [vec![readable(HEADER, 16)], data, vec![writable(STATUS, 1)]].concat();
        let table = table(&chain);
        driver.put(TABLE, &table);
        for head in 0..SIZE {
            driver.descriptor(head, indirect(TABLE, table.len() as u32));
            driver.offer(head);
        }
        let mut flushed = 0;
        while matches!(driver.try_write(Register::QueueNotify, 0), Response::Again) {
            let flushes = hooks.lock().unwrap().flushes - flushed;
            assert!(flushes <= 16, "{flushes} in one drain");
            flushed += flushes;
        }
        assert_eq!(hooks.lock().unwrap().flushes, u32::from(SIZE));
        assert_eq!((driver.used_idx(), driver.status()), (SIZE, status::OK));
    }
}

#[test]
fn a_queue_of_the_largest_requests_is_worked_off_in_every_mode() {
    in_every_mode(|mode| {
        let disk = Counting::default();
        let mut driver = flooded(mode, request_type::IN, &disk);
        driver.notify();
        let edges = Arc::clone(&driver.edges);
        edges.wait_until(|| driver.used_idx() == SIZE);
        assert_each_used_once(&mut driver, request_type::IN);
    });
}

#[test]
fn a_reset_does_not_wait_for_more_than_a_share() {
    in_every_mode(|mode| {
        let disk = Counting {
            delay: Duration::from_millis(10),
            ..Counting::default()
        };
        let mut driver = flooded(mode, request_type::IN, &disk);
        match mode {
            Mode::Trap | Mode::Mapped => {
                let response = driver.try_write(Register::QueueNotify, 0);
                assert!(matches!(response, Response::Again), "{response:?}");
            }
            Mode::IoEventFd | Mode::Poll(_) => driver.notify(),
        }
        let edges = Arc::clone(&driver.edges);
        edges.wait_until(|| driver.used_idx() > 0);
        driver.reset();
        let (moved, used) = (disk.moved(), driver.used_idx());
        assert!(
            moved < total(request_type::IN) / 2,
            "{moved} bytes before the reset"
        );
        driver.notify();
        thread::sleep(Duration::from_millis(30));
        assert_eq!((disk.moved(), driver.used_idx()), (moved, used));

        // What was taken and not served is forgotten.
        driver.initialize(PLAIN);
        driver.header(request_type::IN, 0);
        driver.submit(&read_chain());
        assert_eq!(driver.status(), status::OK);
        assert_eq!(driver.used_idx(), 1);
    });
}
