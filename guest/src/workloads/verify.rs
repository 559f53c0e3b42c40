//! `run=verify lba=L count=N seed=S depth=D`: writes a pattern that tells its seed and its place,
//! flushes, reads it back and compares, with up to `depth` requests in flight.

use spec::block::{RequestHeader, SECTOR_SIZE, request_type};

use super::extent::Extent;
use super::params::Parameters;
use super::{Environment, Failure, open_chosen, writable};
use crate::dma::Region;
use crate::rng::pattern;
use crate::virtio::block::Token;
use crate::virtio::queue::{Buffer, MAX_QUEUE_SIZE};
use crate::virtio::{Block, Error};

/// Size of a request, in bytes.
const REQUEST: usize = 4096;
const DEFAULT_DEPTH: u64 = 8;

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let Environment {
        console,
        machine,
        arena,
        ..
    } = environment;
    let (lba, count) = parameters.sectors()?;
    let seed = parameters.number("seed", 1, 0..=u64::MAX)?;
    let mut block = open_chosen(parameters, &mut **machine, arena)?;
    writable(&block)?;
    let most = u64::from(block.capacity(1));
    let depth = parameters.number("depth", DEFAULT_DEPTH.min(most), 1..=most)?;
    let requests = Extent::new(&block, lba, count, REQUEST)?;
    let buffers = arena.alloc(usize::from(block.queue_size()) * REQUEST, REQUEST as u64)?;

    let mut pass = Pass {
        block: &mut block,
        buffers,
        depth: depth as u16,
        seed,
        in_flight: [(0, 0); MAX_QUEUE_SIZE as usize],
    };
    pass.write(requests.clone())?;
    pass.block.flush().map_err(Failure::request("flush", lba))?;
    pass.read(requests)?;
    writeln!(
        console,
        "verify lba={lba} count={count} seed={seed} depth={depth} ok"
    )?;
    Ok(())
}

/// One way over the disk.
struct Pass<'b, 'd, 'm> {
    block: &'b mut Block<'d, 'm>,
    /// A buffer for each token.
    buffers: Region<'m>,
    depth: u16,
    seed: u64,
    /// For each token, the first sector and the length of its request.
    in_flight: [(u64, usize); MAX_QUEUE_SIZE as usize],
}

impl<'m> Pass<'_, '_, 'm> {
    fn write<'e>(&mut self, requests: Extent) -> Result<(), Failure<'e>> {
        for (lba, len) in requests {
            while self.block.in_flight() >= self.depth {
                self.complete("write")?;
            }
            let buffer = self.next_buffer(lba, len)?;
            let mut sectors = [0; REQUEST];
            pattern(self.seed, lba, &mut sectors[..len]);
            buffer.write(0, &sectors[..len]);
            self.submit(request_type::OUT, lba, Buffer::readable(buffer))?;
        }
        while self.block.in_flight() > 0 {
            self.complete("write")?;
        }
        Ok(())
    }

    fn read<'e>(&mut self, requests: Extent) -> Result<(), Failure<'e>> {
        for (lba, len) in requests {
            while self.block.in_flight() >= self.depth {
                self.compare()?;
            }
            let buffer = self.next_buffer(lba, len)?;
            // What the device does not write must not look as if it had.
            buffer.fill(0);
            self.submit(request_type::IN, lba, Buffer::writable(buffer))?;
        }
        while self.block.in_flight() > 0 {
            self.compare()?;
        }
        Ok(())
    }

    /// The buffer of the next request, which will be about `len` bytes at `lba`.
    fn next_buffer(&mut self, lba: u64, len: usize) -> Result<Region<'m>, Error> {
        let token = self.block.next_token().ok_or(Error::QueueFull)?;
        self.in_flight[usize::from(token)] = (lba, len);
        Ok(self.buffer(token, len))
    }

    fn buffer(&self, token: Token, len: usize) -> Region<'m> {
        self.buffers.part(usize::from(token) * REQUEST, len)
    }

    fn submit(&mut self, request_type: u32, lba: u64, data: Buffer<'m>) -> Result<(), Error> {
        self.block.submit(
            RequestHeader {
                request_type,
                sector: lba,
            },
            &[data],
        )?;
        self.block.notify();
        Ok(())
    }

    /// Waits for a request to complete; returns its first sector and its buffer.
    fn complete<'e>(&mut self, what: &'static str) -> Result<(u64, Region<'m>), Failure<'e>> {
        let completion = self.block.wait()?;
        let (lba, len) = self.in_flight[usize::from(completion.token)];
        completion.ok().map_err(Failure::request(what, lba))?;
        Ok((lba, self.buffer(completion.token, len)))
    }

    /// Waits for a read to complete, and compares what it read with what was written.
    fn compare<'e>(&mut self) -> Result<(), Failure<'e>> {
        let (lba, buffer) = self.complete("read")?;
        let (mut expected, mut found) = ([0; REQUEST], [0; REQUEST]);
        let (expected, found) = (&mut expected[..buffer.len()], &mut found[..buffer.len()]);
        pattern(self.seed, lba, expected);
        buffer.read(0, found);
        if expected == found {
            return Ok(());
        }
        let differing = expected
            .iter()
            .zip(&*found)
            .position(|(a, b)| a != b)
            .unwrap_or(0);
        Err(Failure::Mismatch {
            lba: lba + differing as u64 / SECTOR_SIZE,
            offset: differing % SECTOR_SIZE as usize,
            expected: expected[differing],
            found: found[differing],
        })
    }
}
