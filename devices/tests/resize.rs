//! A disk whose image gets another size while a driver has it: what the configuration space tells, in
//! which generation, who is told of it, and what requests may reach from then on.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

use common::*;
use devices::BusDevice;
use devices::virtio::MmioTransport;
use devices::virtio::block::backend::{FileBackend, MemoryBackend};
use devices::virtio::block::{Block, BlockBackend, BlockOptions, NotifyMode, TransferError};
use spec::Features;
use spec::block::{SECTOR_SIZE, Segment, request_type, status};
use spec::mmio::{CONFIG_OFFSET, InterruptStatus, Register};
use tempfile::NamedTempFile;
use vm_memory::VolatileSlice;

const CONFIG_CHANGE: u32 = InterruptStatus::CONFIG_CHANGE.bits();

fn half(transport: &mut MmioTransport, offset: u64) -> u32 {
    let mut data = [0; 4];
    transport.read(offset, &mut data);
    u32::from_le_bytes(data)
}

fn generation(transport: &mut MmioTransport) -> u32 {
    half(transport, Register::ConfigGeneration.offset())
}

fn capacity(transport: &mut MmioTransport) -> u64 {
    let mut data = [0; 8];
    transport.read(CONFIG_OFFSET, &mut data);
    u64::from_le_bytes(data)
}

fn set_sectors(disk: &MemoryBackend, sectors: u64) {
    let size = sectors * SECTOR_SIZE;
    disk.bytes().resize(size as usize, 0);
}

/// Has the device look at the size of its disk, and waits until it tells of another one: the bit that
/// does so comes after the generation. None may be pending.
fn refresh(driver: &mut Driver) {
    let before = generation(&mut driver.transport);
    driver.transport.refresh().unwrap();
    let edges = Arc::clone(&driver.edges);
    edges.wait_until(|| driver.read(Register::InterruptStatus) & CONFIG_CHANGE != 0);
    assert_ne!(generation(&mut driver.transport), before);
}

fn acknowledge(driver: &mut Driver) {
    assert_ne!(driver.read(Register::InterruptStatus) & CONFIG_CHANGE, 0);
    driver.write(Register::InterruptACK, CONFIG_CHANGE);
    assert_eq!(driver.read(Register::InterruptStatus) & CONFIG_CHANGE, 0);
}

fn one_sector(driver: &mut Driver, request_type: u32, sector: u64) -> u8 {
    let data = match request_type {
        request_type::IN => writable(DATA, 512),
        _ => readable(DATA, 512),
    };
    driver.request(request_type, sector, &[data]).1
}

#[test]
fn a_live_driver_is_told_of_each_new_size_and_held_to_it() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, PLAIN);
        for sectors in [SECTORS * 2, SECTORS, 1, SECTORS] {
            let (disk, before) = (driver.disk.clone(), generation(&mut driver.transport));
            set_sectors(&disk, sectors);
            refresh(&mut driver);
            acknowledge(&mut driver);
            assert_eq!(generation(&mut driver.transport), before.wrapping_add(1));
            assert_eq!(capacity(&mut driver.transport), sectors);
            for kind in [request_type::IN, request_type::OUT] {
                assert_eq!(one_sector(&mut driver, kind, sectors - 1), status::OK);
                assert_eq!(one_sector(&mut driver, kind, sectors), status::IOERR);
            }
        }
    });
}

#[test]
fn a_size_that_is_the_same_or_that_no_disk_can_have_changes_nothing() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, PLAIN);
        for size in [SECTORS * 512, 0, 511, 513, SECTORS * 512 - 1] {
            let disk = driver.disk.clone();
            disk.bytes().resize(size as usize, 0);
            driver.transport.refresh().unwrap();
            // Served after the size was looked at.
            assert_eq!(one_sector(&mut driver, request_type::FLUSH, 0), status::OK);
            assert_eq!(generation(&mut driver.transport), 0);
            assert_eq!(capacity(&mut driver.transport), SECTORS);
            assert_eq!(driver.read(Register::InterruptStatus) & CONFIG_CHANGE, 0);
        }
    });
}

#[test]
fn a_disk_of_larger_blocks_is_held_to_whole_ones() {
    let disk = default_disk();
    let backend = Box::new(disk.clone());
    let mut driver = Driver::with_block(Mode::Trap, false, disk, backend, |block| {
        block.with_block_size(4096).unwrap()
    });
    driver.initialize(PLAIN);
    let disk = driver.disk.clone();
    set_sectors(&disk, 9);
    driver.transport.refresh().unwrap();
    assert_eq!(capacity(&mut driver.transport), SECTORS);
    set_sectors(&disk, 16);
    driver.transport.refresh().unwrap();
    assert_eq!(capacity(&mut driver.transport), 16);
}

#[test]
fn a_driver_that_is_not_live_is_told_once_it_is() {
    in_every_mode(|mode| {
        let mut driver = Driver::new(mode);
        driver.negotiate(PLAIN);
        driver.set_up_queue();
        let disk = driver.disk.clone();
        set_sectors(&disk, 8);
        driver.transport.refresh().unwrap();
        // Before DRIVER_OK no notification may be sent (section 3.1.1).
        assert_eq!(driver.edges.count(), 0);
        assert_eq!(driver.read(Register::InterruptStatus), 0);
        assert_eq!(capacity(&mut driver.transport), 8);
        driver.write(Register::Status, 15);
        acknowledge(&mut driver);
        assert_eq!(one_sector(&mut driver, request_type::IN, 8), status::IOERR);
        // A driver that begins anew reads it anew.
        driver.write(Register::InterruptACK, u32::MAX);
        driver.initialize(PLAIN);
        assert_eq!(driver.read(Register::InterruptStatus), 0);
        assert_eq!(capacity(&mut driver.transport), 8);
    });
}

#[test]
fn a_driver_whose_queue_is_stopped_is_told() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, PLAIN);
        driver.write(Register::QueueReady, 0);
        let disk = driver.disk.clone();
        set_sectors(&disk, 8);
        driver.transport.refresh().unwrap();
        acknowledge(&mut driver);
        assert_eq!(capacity(&mut driver.transport), 8);
    });
}

#[test]
fn a_request_under_way_is_finished_before_the_size_is_looked_at() {
    for mode in THREADS {
        let (mut driver, hooks) = Driver::hooked(mode);
        let disk = driver.disk.clone();
        driver.initialize(PLAIN);
        let (began, has_begun) = channel();
        let (go, may_go) = channel();
        hooks.lock().unwrap().before_read = Some(Box::new(move || {
            began.send(()).unwrap();
            may_go.recv().unwrap();
        }));
        driver.header(request_type::IN, SECTORS - 1);
        let chain = [
            readable(HEADER, 16),
            writable(DATA, 512),
            writable(STATUS, 1),
        ];
        driver.chain_at(0, &chain);
        driver.offer(0);
        driver.notify();
        has_begun.recv().unwrap();
        set_sectors(&disk, SECTORS * 2);
        // Whoever asks does not wait for the disk.
        driver.transport.refresh().unwrap();
        assert_eq!(generation(&mut driver.transport), 0);
        go.send(()).unwrap();
        let edges = Arc::clone(&driver.edges);
        edges.wait_until(|| generation(&mut driver.transport) == 1);
        assert_eq!(driver.wait_used().len, 513);
        assert_eq!(driver.status(), status::OK);
    }
}

fn with_file(mode: Mode, sectors: u64) -> (Driver, NamedTempFile) {
    let mut image = NamedTempFile::new().unwrap();
    for sector in 0..sectors {
        image.write_all(&sector_content(sector)).unwrap();
    }
    let backend = FileBackend::open(image.path(), false).unwrap();
    let disk = default_disk();
    let mut driver = Driver::with_backend(mode, false, disk, Box::new(backend));
    driver.initialize(PLAIN | Features::VIRTIO_BLK_F_WRITE_ZEROES);
    (driver, image)
}

#[test]
fn no_request_makes_an_image_longer_that_has_been_cut_before_anyone_has_told() {
    in_every_mode(|mode| {
        let (mut driver, image) = with_file(mode, SECTORS);
        let file: &File = image.as_file();
        file.set_len(8 * 512).unwrap();
        assert_eq!(capacity(&mut driver.transport), SECTORS);
        for (sector, expected) in [(7, status::OK), (8, status::IOERR), (63, status::IOERR)] {
            for kind in [request_type::IN, request_type::OUT] {
                assert_eq!(one_sector(&mut driver, kind, sector), expected);
            }
        }
        let two = [readable(DATA, 1024)];
        assert_eq!(driver.request(request_type::OUT, 7, &two).1, status::IOERR);
        let segment = Segment {
            sector: 7,
            num_sectors: 2,
            flags: 0,
        };
        driver.put(DATA, &segment.to_bytes());
        let zeroes = driver.request(request_type::WRITE_ZEROES, 0, &[readable(DATA, 16)]);
        assert_eq!(zeroes.1, status::IOERR);
        assert_eq!(file.metadata().unwrap().len(), 8 * 512);
        refresh(&mut driver);
        assert_eq!(capacity(&mut driver.transport), 8);
    });
}

#[test]
fn what_an_image_has_grown_by_is_served() {
    in_every_mode(|mode| {
        let (mut driver, image) = with_file(mode, 8);
        let file: &File = image.as_file();
        file.set_len(16 * 512).unwrap();
        assert_eq!(
            one_sector(&mut driver, request_type::OUT, 15),
            status::IOERR
        );
        refresh(&mut driver);
        driver.fill(DATA, 512, 0x77);
        assert_eq!(one_sector(&mut driver, request_type::OUT, 15), status::OK);
        let mut sector = [0; 512];
        file.read_exact_at(&mut sector, 15 * 512).unwrap();
        assert_eq!(sector, [0x77; 512]);
    });
}

// Of what is read in two halves

/// A disk that has only a size, of which either half says which it is the other's.
struct Sized(Arc<AtomicU64>);

impl BlockBackend for Sized {
    fn capacity(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn read_at(&self, _: &[VolatileSlice<'_>], _: u64) -> Result<(), TransferError> {
        Ok(())
    }

    fn write_at(&self, _: &[VolatileSlice<'_>], _: u64) -> Result<(), TransferError> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The size number `n`: both halves are `n`.
fn twice(n: u64) -> u64 {
    n << 32 | n
}

fn sized() -> (MmioTransport, Arc<AtomicU64>) {
    let size = Arc::new(AtomicU64::new(twice(1)));
    let options = BlockOptions {
        read_only: false,
        id: String::new(),
        notify: vec![NotifyMode::Trap],
    };
    let block = Block::new(Box::new(Sized(Arc::clone(&size))), options).unwrap();
    let edges = Arc::new(Edges::default());
    (MmioTransport::new(memory(), Box::new(block), edges), size)
}

/// As a driver reads eight bytes (section 2.5.1), with `between` called between any two accesses.
fn read_in_halves(
    transport: &mut MmioTransport,
    mut between: impl FnMut(&mut MmioTransport),
) -> u64 {
    loop {
        let before = generation(transport);
        between(transport);
        let low = half(transport, CONFIG_OFFSET);
        between(transport);
        let high = half(transport, CONFIG_OFFSET + 4);
        between(transport);
        if generation(transport) == before {
            return u64::from(high) << 32 | u64::from(low);
        }
        between(transport);
    }
}

/// Each access to the device is one step, and so is each change: these are all the orders in which up
/// to 10 places between the steps of a driver can see a change or none.
#[test]
fn in_no_order_of_reads_and_changes_are_the_halves_of_two_capacities_taken_for_one() {
    for changes in 0..1_u32 << 10 {
        let (mut transport, size) = sized();
        let (mut place, mut n) = (0, 1);
        let read = read_in_halves(&mut transport, |transport| {
            if changes.checked_shr(place).unwrap_or(0) & 1 != 0 {
                n += 1;
                size.store(twice(n), Ordering::SeqCst);
                transport.refresh().unwrap();
            }
            place += 1;
        });
        assert_eq!(read, twice(n), "changes in the places {changes:#b}");
    }
}

/// The same where a device's thread changes it under a driver that reads.
#[test]
fn a_driver_never_reads_halves_of_two_capacities_while_a_thread_changes_them() {
    let disk = Arc::new(AtomicU64::new(twice(1)));
    let (failed, _failures) = channel();
    let (notify, kick) = Mode::IoEventFd.notify_mode(failed);
    let options = BlockOptions {
        read_only: false,
        id: String::new(),
        notify: vec![notify],
    };
    let backend = Box::new(Sized(Arc::clone(&disk)));
    let block = Block::new(backend, options).unwrap();
    let mut driver = Driver::with_block(
        Mode::Trap,
        false,
        default_disk(),
        Box::new(default_disk()),
        |_| block,
    );
    drop(kick);
    driver.initialize(PLAIN);
    let last = 500;
    for n in 2..=last {
        disk.store(twice(n), Ordering::SeqCst);
        // The thread does it while this one reads.
        driver.transport.refresh().unwrap();
        for _ in 0..5 {
            let read = read_in_halves(&mut driver.transport, |_| ());
            assert_eq!(read >> 32, read & 0xffff_ffff, "{read:#x}");
        }
    }
    let edges = Arc::clone(&driver.edges);
    edges.wait_until(|| capacity(&mut driver.transport) == twice(last));
}
