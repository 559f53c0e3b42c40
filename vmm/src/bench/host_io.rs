//! The floor of block I/O: the requests of a [`BlockJob`] by system calls on the same file, with no
//! guest and no device between. It must not do them in any other order than the guest does.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};
use spec::bench::{self, BlockJob, Positions};
use spec::block::SECTOR_SIZE;

/// When a job ends: as soon as it reaches either.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// How many requests.
    pub requests: u64,
    /// The time after which no other request is submitted.
    pub time: Duration,
}

/// What came of a job.
#[derive(Clone, Debug, Default)]
pub struct HostSample {
    /// From the first submission to the last completion.
    pub elapsed: Duration,
    /// The latency of each request, in nanoseconds.
    pub latencies: Vec<u32>,
}

/// Does `job` by pread or pwrite, one request at a time, whatever its depth. The latency of a
/// request is that of its call.
///
/// # Errors
/// That of a call, or the job has no request.
pub fn by_calls(file: &File, job: &BlockJob, limit: Limit) -> io::Result<HostSample> {
    let mut positions = positions(job)?;
    let mut buffer = vec![0; block_size(job)?];
    bench::fill_data(&mut buffer);
    let mut latencies = Vec::new();

    let start = Instant::now();
    let mut last = start;
    while more(&latencies, last, start, limit) {
        let offset = positions.next() * SECTOR_SIZE;
        if job.write == 0 {
            file.read_exact_at(&mut buffer, offset)?;
        } else {
            file.write_all_at(&buffer, offset)?;
        }
        let now = Instant::now();
        latencies.push(nanoseconds(now - last));
        last = now;
    }
    let elapsed = last - start;
    Ok(HostSample { elapsed, latencies })
}

/// Does `job` by io_uring, with as many requests in flight as it says. The latency of a request is
/// from when it was put into the submission queue to when its completion was seen.
///
/// # Errors
/// There is no io_uring, a request failed, or the job has none.
pub fn by_io_uring(file: &File, job: &BlockJob, limit: Limit) -> io::Result<HostSample> {
    let depth = u32::try_from(job.depth).map_err(io::Error::other)?;
    let ring = IoUring::new(depth.next_power_of_two())?;
    let mut data = vec![0; bench::DATA_SIZE];
    bench::fill_data(&mut data);
    let blocks = data.chunks_exact(block_size(job)?).cycle();
    let buffers: Vec<Vec<u8>> = blocks.take(depth as usize).map(<[u8]>::to_vec).collect();
    let mut flight = Flight {
        ring,
        file,
        write: job.write != 0,
        positions: positions(job)?,
        starts: vec![Instant::now(); buffers.len()],
        buffers,
        in_flight: 0,
    };
    flight.run(limit)
}

/// Requests in an io_uring, each with a slot of its own: a buffer, and when it was submitted.
struct Flight<'f> {
    ring: IoUring,
    file: &'f File,
    write: bool,
    positions: Positions,
    starts: Vec<Instant>,
    buffers: Vec<Vec<u8>>,
    in_flight: usize,
}

impl Flight<'_> {
    /// Keeps all slots busy until `limit`, then waits for those in flight.
    fn run(&mut self, limit: Limit) -> io::Result<HostSample> {
        let mut latencies = Vec::new();
        let start = Instant::now();
        let mut last = start;
        let mut submitted = 0;
        let mut free: Vec<usize> = (0..self.buffers.len()).collect();
        loop {
            while submitted < limit.requests && (last - start) < limit.time {
                let Some(slot) = free.pop() else { break };
                self.push(slot)?;
                submitted += 1;
            }
            if self.in_flight == 0 {
                let elapsed = last - start;
                return Ok(HostSample { elapsed, latencies });
            }
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            last = Instant::now();
            for completion in self.ring.completion() {
                self.in_flight -= 1;
                let slot = completion.user_data() as usize;
                let (Some(begun), Some(buffer)) = (self.starts.get(slot), self.buffers.get(slot))
                else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                match usize::try_from(completion.result()) {
                    Ok(moved) if moved == buffer.len() => {}
                    Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Err(_) => return Err(io::Error::from_raw_os_error(-completion.result())),
                }
                latencies.push(nanoseconds(last - *begun));
                free.push(slot);
            }
        }
    }

    /// Puts the next request into the submission queue.
    fn push(&mut self, slot: usize) -> io::Result<()> {
        let (Some(buffer), Some(start)) = (self.buffers.get_mut(slot), self.starts.get_mut(slot))
        else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let fd = types::Fd(self.file.as_raw_fd());
        let len = u32::try_from(buffer.len()).map_err(io::Error::other)?;
        let offset = self.positions.next() * SECTOR_SIZE;
        let entry = if self.write {
            let write = opcode::Write::new(fd, buffer.as_ptr(), len);
            write.offset(offset).build()
        } else {
            let read = opcode::Read::new(fd, buffer.as_mut_ptr(), len);
            read.offset(offset).build()
        };
        *start = Instant::now();
        // SAFETY: the file outlives `self`, and the buffer is neither moved, touched nor given
        // back while the request is in flight: its slot is not used again before, and `drop` keeps
        // what is in flight to the end.
        unsafe { self.ring.submission().push(&entry.user_data(slot as u64)) }
            .map_err(io::Error::other)?;
        self.in_flight += 1;
        Ok(())
    }
}

impl Drop for Flight<'_> {
    /// After a failure requests may still be in flight, and the kernel may write to their buffers
    /// even when the ring is closed.
    fn drop(&mut self) {
        if self.in_flight > 0 {
            mem::forget(mem::take(&mut self.buffers));
        }
    }
}

fn more(latencies: &[u32], now: Instant, start: Instant, limit: Limit) -> bool {
    (latencies.len() as u64) < limit.requests && (now - start) < limit.time
}

fn positions(job: &BlockJob) -> io::Result<Positions> {
    Positions::new(job).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn block_size(job: &BlockJob) -> io::Result<usize> {
    usize::try_from(job.block_size).map_err(io::Error::other)
}

fn nanoseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "host_io_tests.rs"]
mod tests;
