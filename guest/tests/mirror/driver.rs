//! The driver itself: what it does at limits that no workload reaches, and with devices that do
//! not do as they should.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use devices::virtio::block::backend::MemoryBackend;
use guest::virtio::block::Wait;
use guest::virtio::queue::Buffer;
use guest::virtio::{Block, Error, Options, Transport};
use spec::Features;
use spec::block::{RequestHeader, SECTOR_SIZE, config, request_type, status};
use spec::mmio::{DeviceStatus, Register};
use spec::queue::RING_IDX;
use vm_memory::{Bytes, GuestAddress};

use crate::host::{Host, Notify, Ram, Read};

pub const SECTORS: u64 = 64;
pub const SECTOR: usize = SECTOR_SIZE as usize;

pub fn empty_disk() -> MemoryBackend {
    MemoryBackend::new(vec![0; SECTORS as usize * SECTOR])
}

/// Every combination of what the driver can negotiate and how it can wait.
pub fn all_options() -> impl Iterator<Item = Options> {
    (0..8).map(|bits| Options {
        wait: if bits & 1 == 0 { Wait::Irq } else { Wait::Poll },
        indirect: bits & 2 == 0,
        event_idx: bits & 4 == 0,
        queue_size: Some(16),
    })
}

/// A `Block` on a device that reads `value` from `register`.
fn open_forged(register: Register, value: u32) -> Option<Error> {
    let mut ram = Ram::new();
    let mut host = Host::new(&ram, &empty_disk(), Notify::Trap, false);
    host.forge(Read::Register(register), value);
    Block::new(&mut host, &Options::default(), &mut ram.arena()).err()
}

#[test]
fn a_device_that_is_not_one_for_this_driver_is_refused_by_its_reason() {
    let version_1 = Features::VIRTIO_F_VERSION_1;
    for (register, value, error) in [
        (Register::MagicValue, 0, Error::NoTransport { magic: 0 }),
        (Register::Version, 1, Error::Version { version: 1 }),
        (Register::Version, 3, Error::Version { version: 3 }),
        (Register::DeviceID, 0, Error::DeviceId { id: 0 }),
        (Register::DeviceID, 1, Error::DeviceId { id: 1 }),
        (
            Register::DeviceFeatures,
            0,
            Error::MissingFeatures(version_1),
        ),
        (Register::QueueNumMax, 0, Error::NoQueue(0)),
        (Register::QueueReady, 1, Error::NoQueue(0)),
        (Register::QueueReady, 0, Error::QueueRefused(0)),
    ] {
        assert_eq!(open_forged(register, value), Some(error));
    }
}

#[test]
fn a_device_that_does_not_come_to_rest_is_given_up() {
    let status = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
    let error = open_forged(Register::Status, status.bits());
    assert_eq!(error, Some(Error::Reset));
}

#[test]
fn features_that_the_device_does_not_agree_to_are_named() {
    // The driver believes that all it wants is offered; the device knows that RO is not.
    let error = open_forged(Register::DeviceFeatures, u32::MAX);
    let Some(Error::FeaturesRefused(accepted)) = error else {
        panic!("{error:?}");
    };
    assert!(accepted.contains(Features::VIRTIO_BLK_F_RO));
}

#[test]
fn a_request_keeps_to_the_limits_that_the_device_tells() {
    let mut ram = Ram::new();
    let mut host = Host::new(&ram, &empty_disk(), Notify::Trap, false);
    host.forge = Some(Box::new(|read| match read {
        Read::Config(config::SIZE_MAX) => Some(512),
        Read::Config(config::SEG_MAX) => Some(2),
        _ => None,
    }));
    let mut arena = ram.arena();
    let memory = arena.alloc(2 * SECTOR, SECTOR_SIZE).unwrap();
    let mut block = Block::new(&mut host, &Options::default(), &mut arena).unwrap();
    let header = RequestHeader {
        request_type: request_type::IN,
        sector: 0,
    };
    let segment = |len| Buffer::writable(memory.part(0, len));
    assert_eq!(block.max_segments(), 2);
    let error = block.execute(header, &[segment(100); 3]);
    assert_eq!(error, Err(Error::ChainLength(3)));
    let error = block.execute(header, &[segment(512), segment(513)]);
    assert_eq!(error, Err(Error::SegmentLength(513)));
    let done = block.execute(header, &[segment(512); 2]).unwrap();
    assert_eq!((done.status, done.written), (status::OK, 1025));
}

#[test]
fn a_capacity_that_changes_between_its_halves_is_read_again() {
    let mut ram = Ram::new();
    let mut host = Host::new(&ram, &empty_disk(), Notify::Trap, false);
    // Grows by one sector just after its low half has been read.
    let mut grown = false;
    host.forge = Some(Box::new(move |read| match read {
        Read::Register(Register::ConfigGeneration) => Some(grown.into()),
        Read::Config(config::CAPACITY) if grown => Some(0),
        Read::Config(config::CAPACITY) => {
            grown = true;
            Some(u32::MAX)
        }
        Read::Config(offset) if offset == config::CAPACITY + 4 => Some(grown.into()),
        _ => None,
    }));
    let block = Block::new(&mut host, &Options::default(), &mut ram.arena()).unwrap();
    assert_eq!(block.info().capacity, 1 << 32);
}

#[test]
fn a_request_that_completes_without_a_status_has_none_that_is_valid() {
    let mut ram = Ram::new();
    let mut host = Host::new(&ram, &empty_disk(), Notify::Trap, false);
    host.careless = true;
    let mut arena = ram.arena();
    let buffer = arena.alloc(SECTOR, SECTOR_SIZE).unwrap();
    let options = Options {
        event_idx: false,
        ..Options::default()
    };
    let mut block = Block::new(&mut host, &options, &mut arena).unwrap();
    for _ in 0..100 {
        assert_eq!(block.read(0, buffer), Err(Error::Status(0xff)));
    }
}

#[test]
fn a_driver_that_gives_up_says_so_to_the_device() {
    let mut ram = Ram::new();
    let mut host = Host::new(&ram, &empty_disk(), Notify::Trap, false);
    host.forge(Read::Register(Register::QueueNumMax), 0);
    assert!(Block::new(&mut host, &Options::default(), &mut ram.arena()).is_err());
    assert!(host.status().contains(DeviceStatus::FAILED));
}

#[test]
fn a_driver_that_leaves_resets_the_device() {
    let mut ram = Ram::new();
    let mut host = Host::new(&ram, &empty_disk(), Notify::Trap, false);
    let block = Block::new(&mut host, &Options::default(), &mut ram.arena()).unwrap();
    drop(block);
    assert_eq!(host.status(), DeviceStatus::empty());
}

#[test]
fn every_16_bit_index_wraps() {
    for options in all_options() {
        let disk = empty_disk();
        let mut ram = Ram::new();
        let mut host = Host::new(&ram, &disk, Notify::Trap, false);
        let mut arena = ram.arena();
        let buffer = arena.alloc(SECTOR, SECTOR_SIZE).unwrap();
        let mut block = Block::new(&mut host, &options, &mut arena).unwrap();
        for i in 0..66_000u64 {
            let result = block.read(i % SECTORS, buffer);
            assert_eq!(result, Ok(()), "request {i}, {options:?}");
        }
    }
}

#[test]
fn a_driver_that_polls_is_not_interrupted() {
    for options in all_options().filter(|options| options.wait == Wait::Poll) {
        let mut ram = Ram::new();
        let mut host = Host::new(&ram, &empty_disk(), Notify::Trap, false);
        let mut arena = ram.arena();
        let buffer = arena.alloc(SECTOR, SECTOR_SIZE).unwrap();
        let mut block = Block::new(&mut host, &options, &mut arena).unwrap();
        // With EVENT_IDX, what suppresses interrupts does so for half a turn of the index.
        for _ in 0..0x8000 + 100 {
            block.read(0, buffer).unwrap();
        }
        drop(block);
        assert_eq!(host.edges.count(), 0, "{options:?}");
    }
}

#[test]
fn a_wait_that_begins_before_the_request_is_done_is_ended_by_its_interrupt() {
    for options in all_options().filter(|options| options.wait == Wait::Irq) {
        let disk = empty_disk();
        let mut ram = Ram::new();
        let mut host = Host::new(&ram, &disk, Notify::IoEventFd, false);
        let (on_wait, mut waits) = mpsc::channel();
        host.on_wait = Some(on_wait);
        let mut arena = ram.arena();
        let buffer = arena.alloc(SECTOR, SECTOR_SIZE).unwrap();
        let mut block = Block::new(&mut host, &options, &mut arena).unwrap();

        for i in 0..20 {
            let (held, is_held) = mpsc::channel();
            let (disk, waits) = (&disk, &mut waits);
            thread::scope(|scope| {
                let waits = &mut *waits;
                // The device cannot get at the disk before the driver waits.
                scope.spawn(move || {
                    let bytes = disk.bytes();
                    held.send(()).unwrap();
                    let begun = waits.recv_timeout(Duration::from_secs(20));
                    drop(bytes);
                    begun.unwrap();
                });
                is_held.recv().unwrap();
                assert_eq!(block.read(0, buffer), Ok(()), "request {i}, {options:?}");
            });
            // The driver may have waited more than once.
            waits.try_iter().for_each(drop);
        }
        drop(block);
        assert!(host.edges.count() >= 20, "{options:?}");
    }
}

#[test]
fn a_batch_costs_one_notification_and_one_interrupt() {
    for options in all_options().filter(|options| options.wait == Wait::Irq) {
        let mut ram = Ram::new();
        let mut host = Host::new(&ram, &empty_disk(), Notify::Trap, false);
        let mut arena = ram.arena();
        let buffer = arena.alloc(SECTOR, SECTOR_SIZE).unwrap();
        let mut block = Block::new(&mut host, &options, &mut arena).unwrap();
        let header = RequestHeader {
            request_type: request_type::IN,
            sector: 0,
        };
        for _ in 0..5 {
            block.submit(header, &[Buffer::writable(buffer)]).unwrap();
        }
        block.notify();
        for _ in 0..5 {
            assert_eq!(block.wait().unwrap().status, status::OK);
        }
        assert_eq!(block.wait(), Err(Error::NothingInFlight));
        drop(block);
        assert_eq!(
            (host.notifications, host.edges.count()),
            (1, 1),
            "{options:?}"
        );
    }
}

#[test]
fn a_device_that_needs_a_reset_ends_the_wait_and_works_after_it() {
    for (notify, wait) in [
        (Notify::Trap, Wait::Irq),
        (Notify::Trap, Wait::Poll),
        (Notify::IoEventFd, Wait::Irq),
        (Notify::IoEventFd, Wait::Poll),
        (Notify::Poll, Wait::Irq),
        (Notify::Poll, Wait::Poll),
    ] {
        let options = Options {
            wait,
            ..Options::default()
        };
        let mut ram = Ram::new();
        let memory = ram.memory.clone();
        let mut host = Host::new(&ram, &empty_disk(), notify, false);

        // Where a driver puts its rings is the same each time.
        drop(Block::new(&mut host, &options, &mut ram.arena()).unwrap());
        let [low, high] = host.driver_area.map(u64::from);
        let driver_area = high << 32 | low;
        assert!(ram.contains(driver_area));

        // A thread of the device's that watches the queue may see the request before its index is
        // changed: then it has served it, and it is tried again.
        let ended = (0..1000).find_map(|_| {
            let mut arena = ram.arena();
            let mut block = Block::new(&mut host, &options, &mut arena).unwrap();
            let buffer = arena.alloc(SECTOR, SECTOR_SIZE).unwrap();
            let header = RequestHeader {
                request_type: request_type::IN,
                sector: 0,
            };
            block.submit(header, &[Buffer::writable(buffer)]).unwrap();
            // An index that no driver could have reached.
            let idx = GuestAddress(driver_area + RING_IDX);
            memory.write_obj(1000u16.to_le(), idx).unwrap();
            block.notify();
            match block.wait() {
                Ok(_) if notify != Notify::Trap => None,
                ended => Some(ended),
            }
        });
        assert_eq!(ended, Some(Err(Error::NeedsReset)), "{notify:?}, {wait:?}");

        let mut arena = ram.arena();
        let buffer = arena.alloc(SECTOR, SECTOR_SIZE).unwrap();
        let mut block = Block::new(&mut host, &options, &mut arena).unwrap();
        assert_eq!(block.read(0, buffer), Ok(()));
    }
}
