//! That the floors do what the job says, in its order: told by what they have written.

use std::io::Write;

use super::*;

const BLOCK: usize = 1024;
const BLOCKS: usize = 16;

fn job() -> BlockJob {
    BlockJob {
        write: 0,
        random: 1,
        block_size: BLOCK as u64,
        depth: 4,
        sectors: (BLOCK * BLOCKS) as u64 / SECTOR_SIZE,
        seed: 7,
        poll: 0,
        more_queues: 0,
    }
}

fn limit(requests: u64) -> Limit {
    Limit {
        requests,
        time: Duration::from_secs(60),
    }
}

fn disk() -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[0xff; BLOCK * BLOCKS]).unwrap();
    file
}

/// The first sectors of the blocks of `file` that have been written: with one of the first blocks of
/// what the guest writes.
fn written(file: &File) -> Vec<u64> {
    let mut bytes = vec![1; BLOCK * BLOCKS];
    file.read_exact_at(&mut bytes, 0).unwrap();
    let mut data = [0; BLOCK * 4];
    bench::fill_data(&mut data);
    let blocks = bytes.chunks(BLOCK).zip((0..).step_by(BLOCK / 512));
    let touched = blocks.filter(|(block, _)| data.chunks(BLOCK).any(|data| data == *block));
    touched.map(|(_, sector)| sector).collect()
}

/// The sectors of the first `requests` of `job`, each once and in order.
fn expected(job: &BlockJob, requests: usize) -> Vec<u64> {
    let mut positions = Positions::new(job).unwrap();
    let mut sectors: Vec<u64> = (0..requests).map(|_| positions.next()).collect();
    sectors.sort_unstable();
    sectors.dedup();
    sectors
}

fn writes_where_the_guest_would(floor: fn(&File, &BlockJob, Limit) -> io::Result<HostSample>) {
    for (random, requests) in [(0, 3), (1, 5)] {
        let file = disk();
        let job = BlockJob {
            write: 1,
            random,
            ..job()
        };
        let sample = floor(&file, &job, limit(requests)).unwrap();
        assert_eq!(sample.latencies.len() as u64, requests);
        assert_eq!(written(&file), expected(&job, requests as usize));
    }
}

#[test]
fn calls_write_where_the_guest_would() {
    writes_where_the_guest_would(by_calls);
}

#[test]
fn io_uring_writes_where_the_guest_would() {
    match IoUring::new(1) {
        Ok(_) => writes_where_the_guest_would(by_io_uring),
        Err(error) => println!("no io_uring: {error}"),
    }
}

#[test]
fn reads_change_nothing_and_end_in_time() {
    let file = disk();
    let limit = Limit {
        requests: u64::MAX,
        time: Duration::from_millis(5),
    };
    for sample in [
        by_calls(&file, &job(), limit),
        by_io_uring(&file, &job(), limit),
    ] {
        let Ok(sample) = sample else {
            assert!(IoUring::new(1).is_err());
            continue;
        };
        assert!(!sample.latencies.is_empty());
        assert!(sample.elapsed >= limit.time);
    }
    assert!(written(&file).is_empty());
}

#[test]
fn a_file_that_ends_early_is_an_error_even_with_requests_in_flight() {
    let job = BlockJob {
        sectors: job().sectors * 2,
        random: 0,
        ..job()
    };
    let file = disk();
    let short = |result: io::Result<HostSample>| result.unwrap_err().kind();
    let eof = io::ErrorKind::UnexpectedEof;
    assert_eq!(short(by_calls(&file, &job, limit(100))), eof);
    if IoUring::new(1).is_ok() {
        assert_eq!(short(by_io_uring(&file, &job, limit(100))), eof);
    }
}

#[test]
fn a_job_without_requests_is_an_error() {
    let job = BlockJob {
        sectors: 1,
        ..job()
    };
    assert!(by_calls(&disk(), &job, limit(1)).is_err());
    assert!(by_io_uring(&disk(), &job, limit(1)).is_err());
}
