//! What a 4 KiB request costs, in time per request: `Request::parse`, `QueueWorker::process_queue`
//! on a disk in memory, and beside them the bare copy of the 4 KiB, the part that no device could
//! do without. The driver's part of a drain is two stores, and is timed with it. Time is that of
//! the thread, which other work of the machine does not count in; but for direct I/O, which is waited
//! for, and so timed by the clock.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use devices::virtio::block::BlockBackend;
use devices::virtio::block::QUEUE_SIZE;
use devices::virtio::block::backend::{FileBackend, MemoryBackend};
use devices::virtio::block::disk::Disk;
use devices::virtio::block::engine::{Engine, IoUringEngine};
use devices::virtio::block::request::{Buffers, Geometry, Request};
use devices::virtio::block::stats::{QueueRecorder, SharedQueueStats};
use devices::virtio::block::worker::QueueWorker;
use devices::virtio::queue::{QueueLayout, QueueRegisters, SplitQueue};
use devices::virtio::{Drain, Interrupt, InterruptState};
use rustix::time::{ClockId, clock_gettime};
use spec::Features;
use spec::block::{HEADER_SIZE, ID_SIZE, RequestHeader, SECTOR_SIZE, request_type, status};
use spec::queue::{self, DESC_SIZE, DescFlags, Descriptor};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileMemory};

/// Data of a request, in bytes.
const DATA_SIZE: u64 = 4096;
const DEPTHS: [u16; 2] = [1, 32];
/// Size of the file that engines read, in blocks of [`DATA_SIZE`].
const BLOCKS: u64 = 32 << 10;

// Where the driver puts things.
const RAM: usize = 128 << 20;
const DESC: u64 = 0x1_0000;
const AVAIL: u64 = 0x1_2000;
const USED: u64 = 0x1_4000;
const HEADERS: u64 = 0x2_0000;
const STATUSES: u64 = 0x3_0000;
const TABLES: u64 = 0x4_0000;
const DATA: u64 = 0x10_0000;

/// An interrupt that nobody hears.
struct Unheard;

impl Interrupt for Unheard {
    fn signal(&self) -> io::Result<()> {
        Ok(())
    }
}

/// What the requests of a driver are like, all of them.
#[derive(Clone, Copy)]
struct Requests {
    /// How many are in flight at a time.
    depth: u16,
    request_type: u32,
    indirect: bool,
}

/// A driver with a ring in which each request has its place for ever, and a worker that serves it.
struct Driver {
    worker: QueueWorker,
    memory: &'static GuestMemoryMmap,
    requests: Requests,
    avail_idx: &'static AtomicU16,
    used_event: &'static AtomicU16,
}

/// RAM as a machine has it by default.
fn memory() -> &'static GuestMemoryMmap {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM)]).unwrap();
    Box::leak(Box::new(memory))
}

fn disk() -> MemoryBackend {
    MemoryBackend::new(vec![0x5a; DATA_SIZE as usize * 32])
}

/// Header, data and status of request `index`.
fn chain(index: u16, request_type: u32) -> [Descriptor; 3] {
    let index = u64::from(index);
    let descriptor = |addr, len, flags| Descriptor {
        addr,
        len,
        flags,
        next: 0,
    };
    let data = match request_type {
        request_type::IN => DescFlags::WRITE,
        _ => DescFlags::empty(),
    };
    [
        descriptor(
            HEADERS + HEADER_SIZE as u64 * index,
            HEADER_SIZE as u32,
            DescFlags::empty(),
        ),
        descriptor(DATA + DATA_SIZE * index, DATA_SIZE as u32, data),
        descriptor(STATUSES + index, 1, DescFlags::WRITE),
    ]
}

fn put_header(memory: &GuestMemoryMmap, index: u16, request_type: u32, block: u64) {
    let header = RequestHeader {
        request_type,
        sector: block * DATA_SIZE / SECTOR_SIZE,
    };
    let addr = GuestAddress(HEADERS + HEADER_SIZE as u64 * u64::from(index));
    memory.write_slice(&header.to_bytes(), addr).unwrap();
}

/// Puts `chain` into the table at `base`, from descriptor `first` on.
fn put_chain(memory: &GuestMemoryMmap, base: u64, first: u16, chain: &mut [Descriptor]) {
    let last = chain.len() - 1;
    for (index, descriptor) in (first..).zip(chain.iter_mut()) {
        if usize::from(index - first) < last {
            descriptor.flags |= DescFlags::NEXT;
            descriptor.next = index + 1;
        }
        let addr = GuestAddress(base + DESC_SIZE * u64::from(index));
        memory.write_slice(&descriptor.to_bytes(), addr).unwrap();
    }
}

impl Driver {
    fn new(requests: Requests) -> Self {
        Self::on(Box::new(disk()), None, requests)
    }

    /// The driver of a disk whose transfers `engine` makes, or else the backend.
    fn on(
        backend: Box<dyn BlockBackend>,
        engine: Option<Box<dyn Engine>>,
        requests: Requests,
    ) -> Self {
        let memory = memory();
        let heads: Vec<u16> = (0..requests.depth)
            .map(|index| put_request(memory, index, requests))
            .collect();
        for (idx, head) in (0..QUEUE_SIZE).zip(heads.iter().cycle()) {
            let entry = GuestAddress(AVAIL + queue::avail_entry(idx, QUEUE_SIZE));
            memory.write_obj(*head, entry).unwrap();
        }

        let registers = QueueRegisters {
            num: QUEUE_SIZE.into(),
            desc: DESC,
            driver: AVAIL,
            device: USED,
        };
        let features = Features::VIRTIO_F_VERSION_1
            | Features::VIRTIO_F_EVENT_IDX
            | Features::VIRTIO_F_INDIRECT_DESC
            | Features::VIRTIO_BLK_F_FLUSH;
        let layout = QueueLayout::new(&registers, QUEUE_SIZE, memory).unwrap();
        let queue = SplitQueue::new(layout, features);
        let interrupt = Arc::new(InterruptState::new(Arc::new(Unheard)));
        let disk = Disk::new(backend, false, [0; ID_SIZE]);
        let engine = engine.unwrap_or_else(|| disk.engine());
        let index = |addr| {
            let slice = memory.get_slice(GuestAddress(addr), 2).unwrap();
            let index: *const AtomicU16 = slice.get_atomic_ref::<AtomicU16>(0).unwrap();
            // SAFETY: it points into the memory, which is never unmapped.
            unsafe { &*index }
        };
        Self {
            worker: QueueWorker::new(
                (disk, engine),
                memory.clone(),
                (0, queue),
                features,
                interrupt,
            ),
            memory,
            requests,
            avail_idx: index(AVAIL + queue::RING_IDX),
            used_event: index(AVAIL + queue::used_event(QUEUE_SIZE)),
        }
    }

    /// Makes all requests available, wants an interrupt for the first, and has them served.
    fn drain(&mut self) {
        let idx = self.avail_idx.load(Ordering::Relaxed);
        self.used_event.store(idx, Ordering::Relaxed);
        let next = idx.wrapping_add(self.requests.depth);
        self.avail_idx.store(next, Ordering::Release);
        assert_eq!(self.worker.process_queue().unwrap(), Drain::Complete);
        assert!(!self.worker.rearm_notifications());
    }

    /// That all requests have been served, and went well.
    fn check(&self) {
        let used: u16 = self
            .memory
            .read_obj(GuestAddress(USED + queue::RING_IDX))
            .unwrap();
        assert_eq!(used, self.avail_idx.load(Ordering::Relaxed));
        let mut statuses = vec![0xff; self.requests.depth.into()];
        let addr = GuestAddress(STATUSES);
        self.memory.read_slice(&mut statuses, addr).unwrap();
        assert!(statuses.iter().all(|byte| *byte == status::OK));
    }
}

/// Puts request `index` into memory, and returns its head.
fn put_request(memory: &GuestMemoryMmap, index: u16, requests: Requests) -> u16 {
    put_header(memory, index, requests.request_type, index.into());
    let mut chain = chain(index, requests.request_type);
    if !requests.indirect {
        let head = 3 * index;
        put_chain(memory, DESC, head, &mut chain);
        return head;
    }
    let table = TABLES + DESC_SIZE * 3 * u64::from(index);
    put_chain(memory, table, 0, &mut chain);
    let mut descriptor = [Descriptor {
        addr: table,
        len: DESC_SIZE as u32 * 3,
        flags: DescFlags::INDIRECT,
        next: 0,
    }];
    put_chain(memory, DESC, index, &mut descriptor);
    index
}

/// For how long this thread has run.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// Times `batch`, which does `depth` of what is measured, so that an iteration is one of them.
fn per_item(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    depth: u16,
    mut batch: impl FnMut(),
) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|items| {
            let batches = items.div_ceil(depth.into());
            let start = cpu_time();
            for _ in 0..batches {
                batch();
            }
            let elapsed = cpu_time() - start;
            elapsed.mul_f64(items as f64 / (batches * u64::from(depth)) as f64)
        });
    });
}

fn copy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("copy");
    for depth in DEPTHS {
        let (memory, disk) = (memory(), disk());
        let mut disk = disk.bytes();
        let size = DATA_SIZE as usize;
        let data: Vec<_> = (0..u64::from(depth))
            .map(|index| memory.get_slice(GuestAddress(DATA + DATA_SIZE * index), size))
            .map(Result::unwrap)
            .collect();
        per_item(&mut group, &format!("read, depth {depth}"), depth, || {
            for (slice, part) in data.iter().zip(disk.chunks_mut(size)) {
                slice.copy_from(black_box(part));
            }
        });
        per_item(&mut group, &format!("write, depth {depth}"), depth, || {
            for (slice, part) in data.iter().zip(disk.chunks_mut(size)) {
                slice.copy_to(black_box(part));
            }
        });
    }
}

fn process_queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("process_queue");
    for depth in DEPTHS {
        for (direction, request_type) in [("read", request_type::IN), ("write", request_type::OUT)]
        {
            for (table, indirect) in [("direct", false), ("indirect", true)] {
                let mut driver = Driver::new(Requests {
                    depth,
                    request_type,
                    indirect,
                });
                let name = format!("{direction} {table}, depth {depth}");
                per_item(&mut group, &name, depth, || driver.drain());
                driver.check();
            }
        }
        let mut driver = Driver::new(Requests {
            depth,
            request_type: request_type::IN,
            indirect: false,
        });
        let recorder = QueueRecorder::new(SharedQueueStats::default());
        driver.worker.observe(Box::new(recorder));
        let name = format!("read direct with statistics, depth {depth}");
        per_item(&mut group, &name, depth, || driver.drain());
        driver.check();
    }
}

/// Random reads of a file, by each engine, through the host's cache and past it.
fn engine(criterion: &mut Criterion) {
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let content: Vec<u8> = (0..BLOCKS * DATA_SIZE).map(|at| (at % 251) as u8).collect();
    fs::write(file.path(), content).unwrap();
    file.as_file().sync_all().unwrap();
    let open = |direct| -> Option<Box<dyn BlockBackend>> {
        match direct {
            false => Some(Box::new(FileBackend::open(file.path(), true).unwrap())),
            true => Some(Box::new(FileBackend::open_direct(file.path(), true).ok()?)),
        }
    };
    let mut group = criterion.benchmark_group("engine");
    for (cache, direct) in [("cached", false), ("direct", true)] {
        for depth in DEPTHS {
            // What a thread of the kernel does while this one waits is no time of this one.
            let polled = direct.then_some("io_uring polled");
            for engine in ["sync", "io_uring"].into_iter().chain(polled) {
                let (Some(disk), Some(other)) = (open(direct), open(direct)) else {
                    continue;
                };
                let by = match engine {
                    "sync" => None,
                    polled => match IoUringEngine::new(other.into(), true, polled != "io_uring") {
                        Ok(engine) => Some(Box::new(engine) as _),
                        Err(error) => {
                            eprintln!("no io_uring: {error}");
                            continue;
                        }
                    },
                };
                let request_type = request_type::IN;
                let mut driver = Driver::on(
                    disk,
                    by,
                    Requests {
                        depth,
                        request_type,
                        indirect: false,
                    },
                );
                let mut seed = 1_u64;
                let name = format!("{engine}, {cache}, depth {depth}");
                group.bench_function(name, |bencher| {
                    bencher.iter_custom(|items| {
                        let batches = items.div_ceil(depth.into());
                        let (start, cpu) = (Instant::now(), cpu_time());
                        for _ in 0..batches {
                            for index in 0..depth {
                                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                                put_header(
                                    driver.memory,
                                    index,
                                    request_type,
                                    (seed >> 33) % BLOCKS,
                                );
                            }
                            driver.drain();
                        }
                        let share = items as f64 / (batches * u64::from(depth)) as f64;
                        let elapsed = if direct {
                            start.elapsed()
                        } else {
                            cpu_time() - cpu
                        };
                        elapsed.mul_f64(share)
                    });
                });
                driver.check();
            }
        }
    }
}

fn parse(criterion: &mut Criterion) {
    let memory = memory();
    put_header(memory, 0, request_type::IN, 0);
    let descriptors = chain(0, request_type::IN);
    let geometry = Geometry {
        capacity: 1 << 20,
        ..Geometry::default()
    };
    let mut group = criterion.benchmark_group("Request");
    per_item(&mut group, "parse", 1, || {
        let buffers = Buffers {
            memory,
            descriptors: black_box(&descriptors),
        };
        black_box(Request::parse(&buffers, &geometry).is_ok());
    });
}

criterion_group! {
    name = block;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    targets = copy, parse, process_queue, engine
}
criterion_main!(block);
