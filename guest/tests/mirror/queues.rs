//! Several CPUs on one disk, threads in their part, in every notify mode: each by a queue of its own,
//! or in turns where there are too few, and asleep only as long as its own queue has nothing for it.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use devices::virtio::block::BlockBackend;
use devices::virtio::block::backend::{MemoryBackend, TransferError};
use guest::rng::pattern;
use guest::virtio::queue::Buffer;
use guest::virtio::{Error, Options, Queues, Transport};
use spec::block::{RequestHeader, request_type};
use spec::mmio::{DeviceStatus, Register};
use spec::queue::RING_IDX;
use vm_memory::{Bytes, GuestAddress, VolatileSlice};

use crate::host::{Host, Notify, Ram, Read, run, run_on};
use crate::workloads::{NOTIFY, disk};

/// Has `cpus` CPUs verify nearly all of a disk with `queues` queues; what they print last.
fn verify(notify: Notify, queues: usize, cpus: usize, parameters: &str) -> String {
    let disk = disk();
    let mut expected = disk.bytes().clone();
    pattern(7, 5, &mut expected[5 * 512..505 * 512]);
    let mut ram = Ram::new();
    let mut hosts = [Host::with_queues(&ram, &disk, (notify, queues), false)];
    let parameters = format!("run=verify lba=5 count=500 seed=7 {parameters}");
    let (ok, console) = run_on(cpus, &mut ram, &mut hosts, &parameters);
    assert!(ok, "{notify:?}, {queues} queues, {cpus} CPUs: {console}");
    assert!(
        *disk.bytes() == expected,
        "{notify:?}, {queues} queues, {cpus} CPUs"
    );
    assert_eq!(hosts[0].status(), DeviceStatus::empty());
    console
}

#[test]
fn verify_covers_its_sectors_with_any_number_of_cpus_and_queues() {
    for notify in NOTIFY {
        for (queues, cpus, used) in [(4, 4, 4), (4, 2, 2), (2, 4, 2), (1, 4, 1), (3, 4, 3)] {
            for wait in ["irq", "poll"] {
                let line = verify(notify, queues, cpus, &format!("depth=8 wait={wait}"));
                let told =
                    format!("verify lba=5 count=500 seed=7 depth=8 cpus={cpus} queues={used} ok\n");
                assert_eq!(line, told);
            }
        }
    }
}

#[test]
fn verify_with_one_cpu_uses_one_queue_and_says_nothing_of_it() {
    for notify in NOTIFY {
        let line = verify(notify, 4, 1, "");
        assert_eq!(line, "verify lba=5 count=500 seed=7 depth=8 ok\n");
    }
}

#[test]
fn verify_uses_no_more_queues_than_it_is_told() {
    for (limit, used) in [(1, 1), (3, 3), (4, 4), (65535, 4)] {
        let line = verify(Notify::IoEventFd, 4, 4, &format!("queues={limit}"));
        assert!(
            line.ends_with(&format!("cpus=4 queues={used} ok\n")),
            "{line}"
        );
    }
}

#[test]
fn verify_with_fewer_sectors_than_cpus_writes_those_and_no_other() {
    let disk = disk();
    let mut expected = disk.bytes().clone();
    pattern(1, 3, &mut expected[3 * 512..4 * 512]);
    let mut ram = Ram::new();
    let mut hosts = [Host::with_queues(&ram, &disk, (Notify::Poll, 4), false)];
    let (ok, console) = run(&mut ram, &mut hosts, "run=verify lba=3");
    assert!(ok, "{console}");
    assert!(*disk.bytes() == expected);
}

/// A disk that knows which threads have read it, and changes a byte by the time of a flush.
#[derive(Clone)]
struct Watched(MemoryBackend, Arc<Mutex<HashSet<ThreadId>>>, Option<usize>);

impl BlockBackend for Watched {
    fn capacity(&self) -> u64 {
        self.0.capacity()
    }

    fn read_at(&self, to: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.1.lock().unwrap().insert(thread::current().id());
        self.0.read_at(to, position)
    }

    fn write_at(&self, from: &[VolatileSlice<'_>], position: u64) -> Result<(), TransferError> {
        self.0.write_at(from, position)
    }

    fn flush(&self) -> io::Result<()> {
        if let Some(byte) = self.2 {
            self.0.bytes()[byte] = 0xee;
        }
        Ok(())
    }
}

#[test]
fn each_cpu_has_its_requests_served_from_its_own_queue() {
    let disk = Watched(disk(), Arc::default(), None);
    let mut ram = Ram::new();
    let mut hosts = [Host::with_queues(
        &ram,
        &disk,
        (Notify::IoEventFd, 4),
        false,
    )];
    let (ok, console) = run(&mut ram, &mut hosts, "run=verify count=400");
    assert!(ok, "{console}");
    // One thread serves each queue.
    assert_eq!(disk.1.lock().unwrap().len(), 4);
}

#[test]
fn a_byte_that_one_cpu_finds_wrong_is_told_and_ends_the_run_of_all() {
    for (queues, cpus) in [(4, 4), (1, 4), (2, 4)] {
        // In the share of the last CPU, whose requests begin with sector 300.
        let disk = Watched(disk(), Arc::default(), Some(333 * 512 + 9));
        let mut ram = Ram::new();
        let mut hosts = [Host::with_queues(
            &ram,
            &disk,
            (Notify::IoEventFd, queues),
            false,
        )];
        let (ok, console) = run_on(cpus, &mut ram, &mut hosts, "run=verify count=400");
        assert!(!ok, "{console}");
        assert!(
            console.contains("lba=333 byte 9: 0xee was read"),
            "{console}"
        );
        assert_eq!(hosts[0].status(), DeviceStatus::empty());
    }
}

#[test]
fn a_device_that_needs_a_reset_ends_the_wait_of_all_cpus() {
    let disk = disk();
    let mut ram = Ram::new();
    let memory = ram.memory.clone();
    let mut host = Host::with_queues(&ram, &disk, (Notify::IoEventFd, 2), false);
    let mut arena = ram.arena();
    let buffer = arena.alloc(512, 512).unwrap();
    let queues = Queues::new(&mut host, &Options::default(), 2, &mut arena).unwrap();
    // The queue that was set up last.
    let [low, high] = host.driver_area.map(u64::from);
    let idx = GuestAddress((high << 32 | low) + RING_IDX);
    let ports = [host.port(), host.port()];
    // Nothing is read from the disk while this is held.
    let held = disk.bytes();
    thread::scope(|threads| {
        let queues = &queues;
        let ends = ports.into_iter().enumerate().map(|(cpu, mut port)| {
            let memory = &memory;
            threads.spawn(move || {
                queues.with_queue(cpu, &mut port, |block| {
                    let header = RequestHeader {
                        request_type: request_type::IN,
                        sector: 0,
                    };
                    block.submit(header, &[Buffer::writable(buffer)])?;
                    if cpu == 1 {
                        // An index that no driver could have reached.
                        memory.write_obj(1000u16.to_le(), idx).unwrap();
                    }
                    block.notify();
                    block.wait()
                })
            })
        });
        for end in ends.collect::<Vec<_>>() {
            assert_eq!(end.join().unwrap(), Some(Err(Error::NeedsReset)));
        }
        drop(held);
    });
    host.reset().unwrap();
}

#[test]
fn a_queue_that_a_cpu_leaves_with_an_error_is_nobodys() {
    let mut ram = Ram::new();
    let mut host = Host::new(&ram, &disk(), Notify::Trap, false);
    let mut arena = ram.arena();
    let queues = Queues::new(&mut host, &Options::default(), 4, &mut arena).unwrap();
    assert_eq!((queues.count(), queues.of(3)), (1, 0));
    let mut port = host.port();
    let left = queues.with_queue(0, &mut port, |_| Ok::<_, Error>(1));
    assert_eq!(left, Some(Ok(1)));
    let left = queues.with_queue(1, &mut port, |_| Err::<(), _>(Error::Busy));
    assert_eq!(left, Some(Err(Error::Busy)));
    let left = queues.with_queue(2, &mut port, |_| Ok::<_, Error>(1));
    assert_eq!(left, None);
    host.reset().unwrap();
}

#[test]
fn a_device_of_which_a_queue_cannot_be_set_up_is_given_up() {
    let mut ram = Ram::new();
    let mut host = Host::with_queues(&ram, &disk(), (Notify::Trap, 3), false);
    // The third is in use already, whoever asks.
    let mut asked = 0;
    host.forge = Some(Box::new(move |read| {
        if read != Read::Register(Register::QueueNumMax) {
            return None;
        }
        asked += 1;
        (asked == 3).then_some(0)
    }));
    let result = Queues::new(&mut host, &Options::default(), 4, &mut ram.arena());
    assert_eq!(result.err(), Some(Error::NoQueue(2)));
    assert!(host.status().contains(DeviceStatus::FAILED));
}
