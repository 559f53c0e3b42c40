//! What a request costs in the device itself: a [`Block`] on a disk in memory serves a queue in the
//! RAM of no machine, and the copy of the data, which no device could do without, is taken off.
//! There is no KVM here, and no I/O.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use devices::virtio::block::backend::MemoryBackend;
use devices::virtio::block::{Block, BlockError, BlockOptions, NotifyMode, QUEUE_SIZE};
use devices::virtio::queue::{LayoutError, QueueLayout, QueueRegisters};
use devices::virtio::{Activation, Interrupt, InterruptState, VirtioDevice};
use devices::{DeviceError, Response};
use spec::Features;
use spec::block::{HEADER_SIZE, REQUEST_QUEUE, RequestHeader, SECTOR_SIZE, request_type, status};
use spec::queue::{
    DESC_SIZE, DescFlags, Descriptor, RING_IDX, avail_entry, avail_event, used_event,
};
use thiserror::Error;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap, VolatileSlice,
};

use super::report::{Series, Target};

/// Data of a request, in bytes.
const DATA_SIZE: usize = 4096;
/// Requests in a drain.
const DEPTH: u16 = 32;
/// Drains in a sample.
const DRAINS: u16 = 64;
/// How long samples are taken.
const TIME: Duration = Duration::from_millis(200);
/// What a request is to cost at most beyond the copy, in nanoseconds.
const LIMIT: f64 = 150.0;

// Where the driver puts things.
const RAM: usize = 1 << 20;
const DESC: u64 = 0x1000;
const AVAIL: u64 = 0x3000;
const USED: u64 = 0x8000;
const TABLES: u64 = 0x4000;
const HEADERS: u64 = 0x6000;
const STATUSES: u64 = 0x7000;
const DATA: u64 = 0x1_0000;

/// Why a request cannot be measured.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// There is no memory for the queue.
    #[error("cannot allocate memory for a queue: {0}")]
    Memory(String),
    /// What the driver puts into memory does not fit there.
    #[error("cannot write a queue into memory: {0}")]
    Access(#[from] GuestMemoryError),
    /// The device does not take the queue.
    #[error("a block device refuses the benchmark's queue: {0}")]
    Queue(#[from] LayoutError),
    /// The device cannot be made.
    #[error("cannot make a block device: {0}")]
    Block(#[from] BlockError),
    /// The device cannot go on.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device has not served all requests.
    #[error("a block device has left requests of the benchmark's unanswered, or failed them")]
    Unanswered,
}

/// Measures what a 4 KiB read costs in the device beyond the copy of its data.
///
/// # Errors
/// See [`WorkerError`].
pub fn measure() -> Result<Target, WorkerError> {
    let ranges = [(GuestAddress(0), RAM)];
    let memory = GuestMemoryMmap::from_ranges(&ranges)
        .map_err(|error| WorkerError::Memory(error.to_string()))?;
    let disk = MemoryBackend::new(vec![0x5a; DATA_SIZE * usize::from(DEPTH)]);
    let mut driver = Driver::new(&memory, disk.clone())?;
    let data = (0..DEPTH)
        .map(|index| memory.get_slice(data_at(index), DATA_SIZE))
        .collect::<Result<Vec<_>, _>>()?;

    let (mut served, mut copied) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while start.elapsed() < TIME {
        served.push(per_request(|| driver.drain())?);
        copied.push(per_request(|| copy(&disk, &data))?);
    }
    driver.check()?;
    let (served, copied) = (Series::new(served).summary, Series::new(copied).summary);
    Ok(Target {
        name: "QueueWorker, 4 KiB read from memory, beyond the copy".into(),
        value: served.median - copied.median,
        limit: LIMIT,
        unit: "ns".into(),
        from: format!(
            "a drain of {DEPTH} requests in this process, without KVM, takes {:.0} ns per request \
             (at best {:.0}), and the copy alone {:.0} ns (at best {:.0}): medians of samples of \
             {DRAINS} drains, turn and turn about",
            served.median, served.min, copied.median, copied.min
        ),
    })
}

/// How long `drain` takes for one of its requests, in nanoseconds.
fn per_request(mut drain: impl FnMut() -> Result<(), WorkerError>) -> Result<f64, WorkerError> {
    let start = Instant::now();
    for _ in 0..DRAINS {
        drain()?;
    }
    let requests = f64::from(DRAINS) * f64::from(DEPTH);
    Ok(start.elapsed().as_nanos() as f64 / requests)
}

/// The copies that a drain makes, and nothing else.
fn copy(disk: &MemoryBackend, data: &[VolatileSlice<'_>]) -> Result<(), WorkerError> {
    let bytes = disk.bytes();
    for (slice, part) in data.iter().zip(bytes.chunks(DATA_SIZE)) {
        slice.copy_from(black_box(part));
    }
    Ok(())
}

/// A device, and a driver whose requests are in the ring for good: to make them available again
/// is to move the index.
struct Driver<'m> {
    block: Block,
    memory: &'m GuestMemoryMmap,
    interrupts: Arc<Counter>,
    avail_idx: u16,
}

/// An interrupt that is counted.
#[derive(Default)]
struct Counter(AtomicU64);

impl Interrupt for Counter {
    fn signal(&self) -> io::Result<()> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl<'m> Driver<'m> {
    fn new(memory: &'m GuestMemoryMmap, disk: MemoryBackend) -> Result<Self, WorkerError> {
        for index in 0..DEPTH {
            put_request(memory, index)?;
        }
        // The ring is a multiple of the requests, so that each has its entries for ever.
        for index in 0..QUEUE_SIZE {
            let entry = GuestAddress(AVAIL + avail_entry(index, QUEUE_SIZE));
            memory.write_obj((index % DEPTH).to_le(), entry)?;
        }
        let registers = QueueRegisters {
            num: QUEUE_SIZE.into(),
            desc: DESC,
            driver: AVAIL,
            device: USED,
        };
        let layout = QueueLayout::new(&registers, QUEUE_SIZE, memory)?;
        let options = BlockOptions {
            read_only: false,
            id: "bench".into(),
            notify: vec![NotifyMode::Trap],
        };
        let mut block = Block::new(Box::new(disk), options)?;
        let interrupts = Arc::new(Counter::default());
        block.activate(Activation {
            memory: memory.clone(),
            features: Features::VIRTIO_F_VERSION_1
                | Features::VIRTIO_F_EVENT_IDX
                | Features::VIRTIO_F_INDIRECT_DESC
                | Features::VIRTIO_BLK_F_FLUSH,
            queues: vec![Some(layout)],
            interrupt: Arc::new(InterruptState::new(Arc::clone(&interrupts) as _)),
        })?;
        Ok(Self {
            block,
            memory,
            interrupts,
            avail_idx: 0,
        })
    }

    /// Makes all requests available, wants an interrupt for the last, and has them served.
    fn drain(&mut self) -> Result<(), WorkerError> {
        let next = self.avail_idx.wrapping_add(DEPTH);
        let last = next.wrapping_sub(1).to_le();
        let used_event = GuestAddress(AVAIL + used_event(QUEUE_SIZE));
        self.memory.store(last, used_event, Ordering::Relaxed)?;
        let avail_idx = GuestAddress(AVAIL + RING_IDX);
        self.memory
            .store(next.to_le(), avail_idx, Ordering::Release)?;
        self.avail_idx = next;
        let work = self.block.notify(REQUEST_QUEUE)?;
        match work.map(|work| work.work()) {
            Some(Response::Done) => Ok(()),
            Some(Response::Failed(error)) => Err(error.into()),
            _ => Err(WorkerError::Unanswered),
        }
    }

    /// Makes sure that all requests have been served, and told of.
    fn check(&self) -> Result<(), WorkerError> {
        let memory = self.memory;
        let used_idx: u16 = memory.read_obj(GuestAddress(USED + RING_IDX))?;
        let rearmed: u16 = memory.read_obj(GuestAddress(USED + avail_event(QUEUE_SIZE)))?;
        let mut statuses = [0xff; DEPTH as usize];
        memory.read_slice(&mut statuses, GuestAddress(STATUSES))?;
        let all = [used_idx, rearmed].map(u16::from_le) == [self.avail_idx; 2]
            && statuses.iter().all(|byte| *byte == status::OK)
            && self.interrupts.0.load(Ordering::Relaxed) > 0;
        if all {
            Ok(())
        } else {
            Err(WorkerError::Unanswered)
        }
    }
}

/// Puts request `index` into memory, as Linux and the built-in guest do: a table of header, data
/// and status, and the descriptor of that table.
fn put_request(memory: &GuestMemoryMmap, index: u16) -> Result<(), WorkerError> {
    let header = RequestHeader {
        request_type: request_type::IN,
        sector: u64::from(index) * (DATA_SIZE as u64 / SECTOR_SIZE),
    };
    let at = |base: u64, size: usize| GuestAddress(base + size as u64 * u64::from(index));
    let header_at = at(HEADERS, HEADER_SIZE);
    memory.write_slice(&header.to_bytes(), header_at)?;

    let table = at(TABLES, 3 * DESC_SIZE as usize);
    let (next, write) = (DescFlags::NEXT, DescFlags::WRITE);
    let parts = [
        (header_at, HEADER_SIZE, next),
        (data_at(index), DATA_SIZE, next | write),
        (at(STATUSES, 1), 1, write),
    ];
    let put = |base: u64, number: u16, (addr, len, flags): (GuestAddress, usize, DescFlags)| {
        let descriptor = Descriptor {
            addr: addr.0,
            len: len as u32,
            flags,
            next: number + 1,
        };
        let place = GuestAddress(base + DESC_SIZE * u64::from(number));
        memory.write_slice(&descriptor.to_bytes(), place)
    };
    for (number, part) in (0..).zip(parts) {
        put(table.0, number, part)?;
    }
    let len = parts.len() * DESC_SIZE as usize;
    Ok(put(DESC, index, (table, len, DescFlags::INDIRECT))?)
}

fn data_at(index: u16) -> GuestAddress {
    GuestAddress(DATA + DATA_SIZE as u64 * u64::from(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_served_and_a_time_comes_out() {
        let target = measure().unwrap();
        assert!(target.value.is_finite(), "{target:?}");
        assert!(target.from.contains("per request"));
    }

    #[test]
    fn a_drain_reads_the_disk_into_the_memory_of_the_driver() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM)]).unwrap();
        let bytes: Vec<u8> = (0..DATA_SIZE * usize::from(DEPTH))
            .map(|n| (n / 7) as u8)
            .collect();
        let mut driver = Driver::new(&memory, MemoryBackend::new(bytes.clone())).unwrap();
        assert!(driver.check().is_err());
        driver.drain().unwrap();
        driver.check().unwrap();
        let mut read = vec![0; bytes.len()];
        memory.read_slice(&mut read, GuestAddress(DATA)).unwrap();
        assert_eq!(read, bytes);
        assert_eq!(driver.interrupts.0.load(Ordering::Relaxed), 1);
    }
}
