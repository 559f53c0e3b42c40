//! A disk with several request queues: each is served by itself, in every notify mode, and what the
//! disk promises holds for all of them together.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use common::queues::{MQ, QUEUES, Queues};
use common::*;
use devices::virtio::block::backend::MemoryBackend;
use devices::virtio::block::stats::RequestKind;
use devices::virtio::block::throttle::Limits;
use devices::virtio::block::{
    Block, BlockBackend, BlockError, BlockOptions, NotifyMode, QUEUES_MAX,
};
use devices::{BusDevice, Response};
use spec::Features;
use spec::block::{request_type, status};
use spec::mmio::{CONFIG_OFFSET, Register};
use spec::queue;

#[test]
fn a_device_tells_how_many_queues_it_has_and_no_more_are_there() {
    let mut queues = Queues::new(Mode::Trap, Box::new(default_disk()), |block| block);
    let driver = &mut queues.driver;
    assert!(driver.offered().contains(Features::VIRTIO_BLK_F_MQ));
    let mut num_queues = [0; 2];
    driver.transport.read(CONFIG_OFFSET + 34, &mut num_queues);
    assert_eq!(u16::from_le_bytes(num_queues), QUEUES);
    for (index, size) in [(0, 512), (2, 512), (3, 0), (0x1_0002, 0), (u32::MAX, 0)] {
        driver.write(Register::QueueSel, index);
        assert_eq!(driver.read(Register::QueueNumMax), size, "queue {index:#x}");
    }
}

#[test]
fn a_device_with_one_queue_does_not_speak_of_several() {
    let mut driver = Driver::new(Mode::Trap);
    assert!(!driver.offered().contains(Features::VIRTIO_BLK_F_MQ));
    let mut num_queues = [0xff; 2];
    driver.transport.read(CONFIG_OFFSET + 34, &mut num_queues);
    assert_eq!(num_queues, [0; 2]);
}

#[test]
fn no_device_has_less_than_one_queue_or_more_than_64() {
    for (count, fits) in [(0, false), (1, true), (64, true), (65, false)] {
        let options = BlockOptions {
            read_only: false,
            id: String::new(),
            notify: (0..count).map(|_| NotifyMode::Trap).collect(),
        };
        match Block::new(Box::new(default_disk()), options) {
            Ok(block) => assert!(fits && usize::from(block.queue_count()) == count),
            Err(error) => assert!(!fits && matches!(error, BlockError::Queues(n) if n == count)),
        }
    }
    assert_eq!(QUEUES_MAX, 64);
}

#[test]
fn each_queue_serves_what_is_in_it_and_counts_that_as_its_own() {
    in_every_mode(|mode| {
        let mut queues = Queues::live(mode, Box::new(default_disk()));
        for round in 0..20 {
            for index in 0..3 {
                queues.offer(index, request_type::OUT, 10 + index as u64 * 15 + round);
            }
            (0..3).for_each(|index| queues.notify(index));
            for index in 0..3 {
                assert_eq!(queues.wait(index), status::OK, "queue {index}");
            }
        }
        queues.assert_serves(1);
        queues.driver.reset();
        for (index, reads) in [(0, 0), (1, 1), (2, 0)] {
            let stats = queues.lanes[index].stats.snapshot();
            assert_eq!(stats.requests(RequestKind::Out).count(), 20);
            assert_eq!(stats.requests(RequestKind::In).count(), reads);
        }
    });
}

#[test]
fn what_was_made_available_in_any_queue_before_driver_ok_is_served() {
    in_every_mode(|mode| {
        let mut queues = Queues::new(mode, Box::new(default_disk()), |block| block);
        queues.set_up();
        for index in [0, 2] {
            queues.offer(index, request_type::IN, 1);
        }
        queues.driver.write(Register::Status, 15);
        for index in [0, 2] {
            assert_eq!(queues.wait(index), status::OK);
        }
    });
}

#[test]
fn notifications_of_queues_that_are_not_there_are_ignored() {
    in_every_mode(|mode| {
        let mut queues = Queues::live(mode, Box::new(default_disk()));
        for value in [3, 63, 64, 0xffff, 0x1_0000, 0x1_0001, u32::MAX] {
            let response = queues.driver.try_write(Register::QueueNotify, value);
            assert!(matches!(response, Response::Done), "{response:?}");
        }
        (0..3).for_each(|index| queues.assert_serves(index));
    });
}

#[test]
fn a_queue_that_is_stopped_rests_and_the_others_go_on() {
    in_every_mode(|mode| {
        let mut queues = Queues::live(mode, Box::new(default_disk()));
        queues.driver.write(Register::QueueSel, 1);
        queues.driver.write(Register::QueueReady, 0);
        queues.offer(1, request_type::IN, 3);
        queues.notify(1);
        queues.assert_serves(0);
        queues.assert_serves(2);
        assert!(!queues.is_done(1), "served");
        queues.driver.reset();
        queues.initialize();
        queues.assert_serves(1);
    });
}

#[test]
fn a_ring_that_cannot_be_understood_is_its_queues_alone() {
    in_every_mode(|mode| {
        let mut queues = Queues::live(mode, Box::new(default_disk()));
        let idx = queues.lanes[1].avail() + queue::RING_IDX;
        queues.driver.store_u16(idx, SIZE + 1);
        queues.notify(1);
        let edges = queues.driver.edges.clone();
        edges.wait_until(|| queues.driver.read(Register::Status) & 64 != 0);
        queues.assert_serves(0);
        queues.assert_serves(2);
    });
}

/// A disk whose first read tells that it has begun, and then waits for a word.
fn slow_at_first() -> (Box<dyn BlockBackend>, Receiver<()>, Sender<()>) {
    let (backend, hooks) = backend::hooked();
    let (began, has_begun) = channel();
    let (go, may_go) = channel::<()>();
    let mut first = true;
    hooks.lock().unwrap().before_read = Some(Box::new(move || {
        if std::mem::take(&mut first) {
            began.send(()).unwrap();
            may_go.recv_timeout(LIMIT).unwrap();
        }
    }));
    (Box::new(backend), has_begun, go)
}

#[test]
fn a_slow_request_from_before_driver_ok_stalls_no_other_queue() {
    let (backend, has_begun, go) = slow_at_first();
    let mut queues = Queues::new(Mode::Trap, backend, |block| block);
    queues.set_up();
    queues.offer(0, request_type::IN, 0);
    queues.offer(2, request_type::IN, 0);
    let status_register = Register::Status.offset();
    let left = (queues.driver.transport).write(status_register, &15_u32.to_le_bytes());
    let slow = thread::spawn(|| left.worked());
    has_begun.recv_timeout(LIMIT).unwrap();
    assert_eq!(queues.driver.read(Register::Status), 15);
    assert_eq!(queues.request(1, request_type::OUT, 9), status::OK);
    assert!(!queues.is_done(0));
    go.send(()).unwrap();
    assert!(matches!(slow.join().unwrap(), Response::Done));
    assert_eq!([0, 2].map(|index| queues.wait(index)), [status::OK; 2]);
}

#[test]
fn a_slow_request_stalls_its_own_queue_alone_and_a_reset_waits_for_it() {
    in_every_mode(|mode| {
        let (backend, has_begun, go) = slow_at_first();
        let mut queues = Queues::live(mode, backend);
        queues.offer(0, request_type::IN, 0);
        let slow = match mode {
            Mode::Trap | Mode::Mapped => {
                // What a vCPU's thread is left with when it has let go of the device.
                let notify = Register::QueueNotify.offset();
                let left = queues.driver.transport.write(notify, &[0; 4]);
                Some(thread::spawn(|| left.worked()))
            }
            _ => {
                queues.notify(0);
                None
            }
        };
        has_begun.recv_timeout(LIMIT).unwrap();
        for _ in 0..3 {
            assert_eq!(queues.request(1, request_type::FLUSH, 0), status::OK);
            assert_eq!(queues.request(2, request_type::OUT, 9), status::OK);
        }
        assert!(!queues.is_done(0));
        let resetting = thread::spawn(move || {
            queues.driver.reset();
            queues
        });
        go.send(()).unwrap();
        let queues = resetting.join().unwrap();
        assert!(queues.is_done(0), "dropped by the reset");
        if let Some(slow) = slow {
            slow.join().unwrap();
        }
    });
}

#[test]
fn work_that_comes_after_a_reset_touches_nothing() {
    let mut queues = Queues::live(Mode::Trap, Box::new(default_disk()));
    queues.offer(1, request_type::IN, 0);
    let notify = Register::QueueNotify.offset();
    let left = queues.driver.transport.write(notify, &1_u32.to_le_bytes());
    assert!(matches!(left, Response::Work(_)), "{left:?}");
    queues.driver.reset();
    assert!(matches!(left.worked(), Response::Done));
    assert!(!queues.is_done(1));
}

#[test]
fn every_queue_is_held_to_a_new_size_and_the_driver_is_told_once() {
    in_every_mode(|mode| {
        let disk = default_disk();
        let mut queues = Queues::live(mode, Box::new(disk.clone()));
        let before = queues.driver.edges.count();
        disk.bytes().truncate(8 * 512);
        queues.driver.transport.refresh().unwrap();
        queues.driver.edges.wait_for(before + 1);
        for index in 0..3 {
            assert_eq!(queues.request(index, request_type::IN, 8), status::IOERR);
            queues.assert_serves(index);
        }
        assert_eq!(queues.driver.edges.count(), before + 7);
    });
}

#[test]
fn a_request_that_no_engine_does_is_finished_before_another_queue_looks_at_the_size() {
    for mode in THREADS {
        let (backend, hooks) = backend::hooked();
        let disk = backend.disk.clone();
        let mut queues = Queues::new(mode, Box::new(backend), |block| block);
        queues.features = MQ | Features::VIRTIO_BLK_F_WRITE_ZEROES;
        queues.initialize();
        // Dropped before the device, which would wait for ever where this fails.
        let (began, has_begun) = channel();
        let (go, may_go) = channel::<()>();
        hooks.lock().unwrap().before_zeroes = Some(Box::new(move || {
            began.send(()).unwrap();
            let _ = may_go.recv();
        }));
        queues.assert_serves(0);
        queues.offer(1, request_type::WRITE_ZEROES, SECTORS - 1);
        queues.notify(1);
        has_begun.recv_timeout(LIMIT).unwrap();
        disk.bytes().resize(512 * 2 * SECTORS as usize, 0);
        let before = queues.driver.edges.count();
        queues.driver.transport.refresh().unwrap();
        // The thread of the first queue waits, and whoever comes to the disk later waits with it.
        queues.offer(2, request_type::IN, SECTORS);
        queues.notify(2);
        thread::sleep(Duration::from_millis(20));
        assert_eq!(queues.driver.read(Register::ConfigGeneration), 0);
        assert!(!queues.is_done(2));
        go.send(()).unwrap();
        assert_eq!(queues.wait(1), status::OK);
        assert_eq!(queues.wait(2), status::OK);
        queues.driver.edges.wait_for(before + 3);
        assert_eq!(queues.driver.read(Register::ConfigGeneration), 1);
    }
}

#[test]
fn a_size_that_the_stopped_queue_was_to_look_at_is_found_by_another() {
    let disk = default_disk();
    let mut queues = Queues::live(Mode::IoEventFd, Box::new(disk.clone()));
    for n in 1..50 {
        disk.bytes().resize(512 * (64 + n), 0);
        queues.driver.transport.refresh().unwrap();
        // The thread of the first queue may have looked by now, or not.
        queues.driver.write(Register::QueueSel, 0);
        queues.driver.write(Register::QueueReady, 0);
        let edges = queues.driver.edges.clone();
        let mut capacity = || {
            let mut capacity = [0; 8];
            queues.driver.transport.read(CONFIG_OFFSET, &mut capacity);
            u64::from_le_bytes(capacity)
        };
        edges.wait_until(|| capacity() == 64 + n as u64);
        queues.driver.reset();
        queues.initialize();
    }
}

#[test]
fn a_limit_is_for_all_queues_together() {
    let limits = Limits {
        iops: std::num::NonZeroU64::new(100),
        bps: None,
    };
    let disk: Box<MemoryBackend> = Box::new(default_disk());
    let mut queues = Queues::new(Mode::IoEventFd, disk, |block| block.with_limits(limits));
    queues.initialize();
    let start = std::time::Instant::now();
    for _ in 0..10 {
        for index in 0..3 {
            queues.offer(index, request_type::IN, 0);
            queues.notify(index);
        }
        for index in 0..3 {
            assert_eq!(queues.wait(index), status::OK);
        }
    }
    // 30 requests, of which 10 may be saved up and three begin at once.
    let least = Duration::from_millis(160);
    assert!(start.elapsed() >= least, "{:?}", start.elapsed());
}
