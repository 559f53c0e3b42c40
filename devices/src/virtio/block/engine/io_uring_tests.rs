use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use spec::queue::{DescFlags, Descriptor};
use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::*;
use crate::virtio::block::backend::{AlignedBackend, FileBackend, MemoryBackend};
use crate::virtio::block::engine::SyncEngine;
use crate::virtio::chain::Run;

/// Size of the disk and of the memory, in bytes.
const SIZE: usize = 1 << 20;
const BLOCK: usize = 4096;
/// Where a second region of the memory begins.
const BORDER: u64 = SIZE as u64 / 2;

fn image(content: &[u8]) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("disk.img");
    fs::write(&path, content).unwrap();
    (dir, path)
}

/// A ring on `backend`; `None`, which is told, where this machine has none.
fn ring(backend: Arc<dyn BlockBackend>, polled: bool) -> Option<IoUringEngine> {
    match IoUringEngine::new(backend, false, polled) {
        Ok(engine) => Some(engine),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            eprintln!("no io_uring: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn disk(content: &[u8]) -> (TempDir, PathBuf, Arc<FileBackend>) {
    let (dir, path) = image(content);
    let backend = Arc::new(FileBackend::open(&path, false).unwrap());
    (dir, path, backend)
}

fn memory(byte: u8) -> Arc<GuestMemoryMmap> {
    let half = SIZE / 2;
    let regions = [(GuestAddress(0), half), (GuestAddress(BORDER), half)];
    let memory = GuestMemoryMmap::from_ranges(&regions).unwrap();
    memory
        .write_slice(&vec![byte; SIZE], GuestAddress(0))
        .unwrap();
    Arc::new(memory)
}

fn content(memory: &GuestMemoryMmap) -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
    bytes
}

/// A transfer between the disk and pieces of memory, each an address and a length.
fn transfer(
    memory: &Arc<GuestMemoryMmap>,
    direction: Direction,
    position: usize,
    pieces: &[(usize, usize)],
) -> Box<Transfer> {
    let descriptor = |&(addr, len): &(usize, usize)| Descriptor {
        addr: addr as u64,
        len: len as u32,
        flags: DescFlags::empty(),
        next: 0,
    };
    let descriptors: Vec<Descriptor> = pieces.iter().map(descriptor).collect();
    let data = Run::new(memory, &descriptors).unwrap();
    Box::new(Transfer::of(memory, (direction, position as u64), data))
}

/// Waits for the next of those in flight.
fn wait(engine: &mut dyn Engine) -> Ended {
    engine.enter(true).unwrap();
    engine.reap().expect("nothing is in flight")
}

/// What a failure tells: how far it came, and why no further.
fn failure(ended: Ended) -> (u64, io::Error) {
    let error = ended.result.unwrap_err();
    (error.transferred, error.source)
}

#[derive(Clone, Debug)]
struct Job {
    out: bool,
    /// Which block of the disk, and of the memory, it begins with.
    block: usize,
    /// Lengths of its pieces of memory, in sectors, with a gap of a sector between them.
    pieces: Vec<usize>,
}

impl Job {
    fn transfer(&self, memory: &Arc<GuestMemoryMmap>) -> Box<Transfer> {
        let direction = if self.out {
            Direction::Out
        } else {
            Direction::In
        };
        let mut at = self.block * BLOCK;
        let pieces = self.pieces.iter().map(|sectors| {
            let piece = (at, sectors * 512);
            at += piece.1 + 512;
            piece
        });
        transfer(
            memory,
            direction,
            self.block * BLOCK,
            &pieces.collect::<Vec<_>>(),
        )
    }
}

/// Jobs of which no two touch the same block: these may be in flight together.
fn jobs() -> impl Strategy<Value = Vec<Job>> {
    // Each has four blocks to itself.
    let blocks: Vec<usize> = (0..SIZE / BLOCK / 4).map(|index| 4 * index).collect();
    let job = (any::<bool>(), prop::collection::vec(1_usize..8, 1..4));
    let jobs = prop::collection::vec(job, 1..48);
    (Just(blocks).prop_shuffle(), jobs).prop_map(|(blocks, jobs)| {
        let jobs = jobs.into_iter().zip(blocks);
        jobs.map(|((out, pieces), block)| Job { out, block, pieces })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn transfers_in_flight_together_come_to_what_they_come_to_one_after_the_other(
        rounds in prop::collection::vec(jobs(), 1..4),
        polled in any::<bool>(),
        unit in prop_oneof![Just(None), Just(Some(4096_u32))],
    ) {
        let bytes: Vec<u8> = (0..SIZE).map(|at| (at / 512 * 7 + at % 509) as u8).collect();
        let mut found = Vec::new();
        for by_ring in [false, true] {
            let (_dir, path) = image(&bytes);
            let file = FileBackend::open(&path, false).unwrap();
            let backend: Arc<dyn BlockBackend> = match unit {
                None => Arc::new(file),
                Some(unit) => Arc::new(AlignedBackend::new(file, unit).unwrap()),
            };
            let mut engine: Box<dyn Engine> = match by_ring {
                false => Box::new(SyncEngine::new(backend)),
                true => match ring(backend, polled) {
                    Some(engine) => Box::new(engine),
                    None => return Ok(()),
                },
            };
            let memory = memory(0xee);
            for jobs in &rounds {
                for job in jobs {
                    engine.submit(job.transfer(&memory));
                }
                for _ in jobs {
                    wait(&mut *engine).result.unwrap();
                }
                prop_assert!(engine.reap().is_none());
            }
            found.push((fs::read(&path).unwrap(), content(&memory)));
        }
        prop_assert!(found[0] == found[1]);
    }
}

#[test]
fn as_many_as_an_engine_has_at_most_are_in_flight_at_once_and_all_end() {
    for polled in [false, true] {
        let (_dir, path, backend) = disk(&vec![0; SIZE]);
        let Some(mut engine) = ring(backend, polled) else {
            return;
        };
        let memory = memory(0x5a);
        for round in 0..3 {
            for index in 0..TRANSFERS_MAX {
                let at = index * BLOCK;
                engine.submit(transfer(&memory, Direction::Out, at, &[(at, BLOCK)]));
            }
            let mut seen = Vec::new();
            for _ in 0..TRANSFERS_MAX {
                let ended = wait(&mut engine);
                ended.result.unwrap();
                seen.push(ended.transfer.position());
            }
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), TRANSFERS_MAX, "round {round}");
            assert!(engine.reap().is_none() && !engine.has_flights());
        }
        let written = TRANSFERS_MAX * BLOCK;
        assert!(
            fs::read(&path).unwrap()[..written]
                .iter()
                .all(|byte| *byte == 0x5a)
        );
    }
}

#[test]
fn one_more_than_that_is_refused_and_harms_none_of_the_others() {
    let (_dir, _path, backend) = disk(&vec![1; SIZE]);
    let Some(mut engine) = ring(backend, false) else {
        return;
    };
    let memory = memory(0);
    for _ in 0..=TRANSFERS_MAX {
        engine.submit(transfer(&memory, Direction::In, 0, &[(0, 512)]));
    }
    let (transferred, error) = failure(wait(&mut engine));
    assert_eq!(
        (transferred, error.kind()),
        (0, io::ErrorKind::ResourceBusy)
    );
    for _ in 0..TRANSFERS_MAX {
        wait(&mut engine).result.unwrap();
    }
}

#[test]
fn the_event_is_readable_when_the_host_has_done_with_one_and_not_before() {
    let (_dir, _path, backend) = disk(&vec![1; SIZE]);
    let Some(mut engine) = ring(backend, false) else {
        return;
    };
    let readable = |engine: &IoUringEngine, seconds| {
        let event = engine.event().unwrap();
        let limit = Timespec {
            tv_sec: seconds,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::from_borrowed_fd(event.as_fd(), PollFlags::IN)];
        poll(&mut fds, Some(&limit)).unwrap() == 1
    };
    assert!(!engine.has_ended() && !readable(&engine, 0));
    let memory = memory(0);
    engine.submit(transfer(&memory, Direction::In, 0, &[(0, BLOCK)]));
    assert!(!engine.has_ended() && !readable(&engine, 0));
    // What `enter` does, and no look at what has completed.
    engine.ring.submit().unwrap();
    assert!(readable(&engine, 10));
    assert!(engine.has_ended());
    engine.reap().unwrap().result.unwrap();
    assert!(!engine.has_ended() && !readable(&engine, 0));
    assert_eq!(content(&memory)[..BLOCK], [1; BLOCK]);
}

#[test]
fn what_has_nothing_to_move_ends_at_once() {
    let (_dir, _path, backend) = disk(&vec![1; SIZE]);
    let Some(mut engine) = ring(backend, false) else {
        return;
    };
    engine.submit(transfer(&memory(0), Direction::In, 0, &[]));
    assert!(engine.has_ended());
    engine.reap().unwrap().result.unwrap();
}

#[test]
fn where_the_image_has_become_shorter_a_read_tells_how_far_it_came_and_a_write_makes_nothing_longer()
 {
    let (_dir, path, backend) = disk(&vec![1; SIZE]);
    let Some(mut engine) = ring(backend, false) else {
        return;
    };
    let end = SIZE as u64 - 6144;
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(end).unwrap();
    let (memory, position) = (memory(0xee), SIZE - 2 * BLOCK);
    let pieces = [(0, 1024), (8192, 7168)];
    engine.submit(transfer(&memory, Direction::In, position, &pieces));
    let (transferred, error) = failure(wait(&mut engine));
    assert_eq!(
        (transferred, error.kind()),
        (2048, io::ErrorKind::UnexpectedEof)
    );
    let bytes = content(&memory);
    assert!(
        bytes[..1024]
            .iter()
            .chain(&bytes[8192..9216])
            .all(|byte| *byte == 1)
    );
    assert_eq!(bytes.iter().filter(|byte| **byte == 1).count(), 2048);

    engine.submit(transfer(&memory, Direction::Out, position, &pieces));
    let (transferred, error) = failure(wait(&mut engine));
    assert_eq!(transferred, 0);
    assert_eq!(error.to_string(), "the image is shorter than it was");
    assert_eq!(fs::metadata(&path).unwrap().len(), end);
}

#[test]
fn more_segments_than_one_operation_has_are_all_transferred() {
    let (_dir, path, backend) = disk(&vec![0; SIZE]);
    let Some(mut engine) = ring(backend, false) else {
        return;
    };
    let memory = memory(0x77);
    let pieces: Vec<_> = (0..1500).map(|index| (index * 600, 512)).collect();
    engine.submit(transfer(&memory, Direction::Out, 0, &pieces));
    wait(&mut engine).result.unwrap();
    let bytes = fs::read(&path).unwrap();
    assert_eq!(
        bytes.iter().filter(|byte| **byte == 0x77).count(),
        1500 * 512
    );
    assert!(bytes[..1500 * 512].iter().all(|byte| *byte == 0x77));
}

#[test]
fn an_operation_that_is_cut_short_or_interrupted_goes_on_where_it_was() {
    let memory = memory(0);
    let mut flight = Flight {
        transfer: transfer(&memory, Direction::In, 8192, &[(0, 1024), (4096, 1024)]),
        segments: Segments::default(),
        transferred: 0,
        in_thread: false,
    };
    let left = |flight: &mut Flight| -> Vec<(usize, usize)> {
        let base = flight.transfer.slices()[0].ptr_guard().as_ptr().addr();
        let segments = flight
            .segments
            .after(flight.transferred, flight.transfer.slices());
        let segment = |segment: &libc::iovec| (segment.iov_base.addr() - base, segment.iov_len);
        segments.iter().map(segment).collect()
    };
    assert_eq!(left(&mut flight), [(0, 1024), (4096, 1024)]);
    assert!(matches!(flight.completed(-libc::EINTR), Next::GoOn));
    assert!(matches!(flight.completed(1000), Next::GoOn));
    assert_eq!(left(&mut flight), [(1000, 24), (4096, 1024)]);
    assert!(matches!(flight.completed(100), Next::GoOn));
    assert_eq!(left(&mut flight), [(4172, 948)]);
    // Once in a thread of the kernel, and no more.
    assert!(matches!(flight.completed(-libc::EAGAIN), Next::GoOn));
    assert!(flight.in_thread);
    let Next::End(Some(error)) = flight.completed(-libc::EAGAIN) else {
        panic!("it goes on for ever");
    };
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN));
    assert_eq!(flight.transferred, 1100);
    assert!(matches!(flight.completed(948), Next::End(None)));
}

#[test]
fn an_engine_that_is_dropped_has_waited_for_what_it_had() {
    for polled in [false, true] {
        let (_dir, path, backend) = disk(&vec![0; SIZE]);
        let Some(mut engine) = ring(backend, polled) else {
            return;
        };
        let memory = memory(0x5a);
        for index in 0..64 {
            let at = index * BLOCK;
            engine.submit(transfer(&memory, Direction::Out, at, &[(at, BLOCK)]));
        }
        drop(engine);
        assert_eq!(Arc::strong_count(&memory), 1);
        assert!(
            fs::read(&path).unwrap()[..64 * BLOCK]
                .iter()
                .all(|byte| *byte == 0x5a)
        );
    }
}

#[test]
fn an_image_is_free_as_soon_as_its_engine_is_gone() {
    let (_dir, path) = image(&vec![0; SIZE]);
    for round in 0..50 {
        let backend = Arc::new(FileBackend::open(&path, false).unwrap());
        let Some(mut engine) = ring(backend, round % 2 == 1) else {
            return;
        };
        engine.submit(transfer(&memory(0), Direction::In, 0, &[(0, BLOCK)]));
    }
}

/// Whoever gets hold of a ring can do nothing else with it.
#[test]
fn a_ring_does_nothing_but_read_and_write_the_image() {
    let (_dir, path, backend) = disk(&vec![0; SIZE]);
    let Some(engine) = ring(backend, false) else {
        return;
    };
    let mut byte = 0_u8;
    let segment = libc::iovec {
        iov_base: (&raw mut byte).cast(),
        iov_len: 1,
    };
    let other = File::open(&path).unwrap();
    let name = c"/etc/passwd";
    let run = |mut engine: IoUringEngine, entry: Entry| {
        // SAFETY: what the entry points to lives until it has completed, right here.
        unsafe { engine.ring.submission().push(&entry) }.unwrap();
        engine.ring.submit_and_wait(1).unwrap();
        let result = engine.ring.completion().next().unwrap().result();
        (engine, result)
    };
    let (engine, read) = run(engine, opcode::Readv::new(IMAGE, &segment, 1).build());
    assert_eq!(read, 1);
    let (engine, write) = run(engine, opcode::Writev::new(IMAGE, &segment, 1).build());
    assert_eq!(write, 1);
    let here = types::Fd(libc::AT_FDCWD);
    let forbidden = [
        opcode::Readv::new(types::Fd(other.as_raw_fd()), &segment, 1).build(),
        opcode::OpenAt::new(here, name.as_ptr()).build(),
        opcode::Fsync::new(IMAGE).build(),
        opcode::Nop::new().build(),
    ];
    let mut engine = engine;
    for entry in forbidden {
        let (same, result) = run(engine, entry);
        assert_eq!(result, -libc::EACCES);
        engine = same;
    }
    let other = [other.as_raw_fd()];
    let registered = engine.ring.submitter().register_files_update(0, &other);
    assert_eq!(registered.unwrap_err().raw_os_error(), Some(libc::EACCES));

    // Where the image is only to be read that is all there is.
    drop(engine);
    let backend = Arc::new(FileBackend::open(&path, true).unwrap());
    let engine = IoUringEngine::new(backend, true, false).unwrap();
    let (engine, read) = run(engine, opcode::Readv::new(IMAGE, &segment, 1).build());
    assert_eq!(read, 1);
    let (_engine, write) = run(engine, opcode::Writev::new(IMAGE, &segment, 1).build());
    assert_eq!(write, -libc::EACCES);
}

#[test]
fn a_disk_that_is_no_file_has_no_ring() {
    let backend = Arc::new(MemoryBackend::new(vec![0; SIZE]));
    let error = IoUringEngine::new(backend, false, false).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
}

/// A part of a unit is written by writing all of it, which must undo no write of the rest that another
/// queue has in flight.
#[test]
fn a_write_of_a_part_of_a_unit_undoes_no_write_of_the_rest() {
    let (_dir, path) = image(&vec![0; SIZE]);
    let file = FileBackend::open(&path, false).unwrap();
    let backend = Arc::new(AlignedBackend::new(file, BLOCK as u32).unwrap());
    let Some(mut whole) = ring(Arc::clone(&backend) as _, false) else {
        return;
    };
    let Some(mut part) = ring(backend, false) else {
        return;
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let memory = memory(0xff);
            while !done.load(SeqCst) {
                part.submit(transfer(&memory, Direction::Out, 0, &[(0, 512)]));
                wait(&mut part).result.unwrap();
            }
        });
        let read = File::open(&path).unwrap();
        for round in 0..500_u32 {
            let byte = (round % 250) as u8;
            let memory = memory(byte);
            // Several, so that there is always one in flight when another is submitted.
            for at in [0, BLOCK, 2 * BLOCK] {
                whole.submit(transfer(&memory, Direction::Out, at, &[(at, BLOCK)]));
            }
            for _ in 0..3 {
                wait(&mut whole).result.unwrap();
            }
            let mut rest = [0; BLOCK - 512];
            std::os::unix::fs::FileExt::read_exact_at(&read, &mut rest, 512).unwrap();
            assert!(rest.iter().all(|found| *found == byte), "round {round}");
        }
        done.store(true, SeqCst);
    });
}
