//! `run=verify lba=L count=N seed=S depth=D queues=Q`: writes a pattern that tells its seed and its
//! place, flushes, reads it back and compares, with up to `depth` requests in flight in each queue.
//! Every CPU has its share of the sectors, and as far as there are queues, one of its own.

use spec::block::{RequestHeader, SECTOR_SIZE, request_type};

use super::extent::Extent;
use super::params::Parameters;
use super::together::{self, with_queues};
use super::{Environment, Failure, find, writable};
use crate::dma::Region;
use crate::rng::pattern;
use crate::virtio::block::Token;
use crate::virtio::queue::{Buffer, MAX_QUEUE_SIZE};
use crate::virtio::{Block, Error, MAX_QUEUES, Queues, Transport};

/// Size of a request, in bytes.
const REQUEST: usize = 4096;
const DEFAULT_DEPTH: u64 = 8;
/// How many requests a CPU makes before it leaves a queue, that is not its own, to others.
const TURN: u64 = 64;

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let Environment {
        command_line,
        console,
        machine,
        arena,
        ram,
    } = environment;
    let (lba, count) = parameters.sectors()?;
    let seed = parameters.number("seed", 1, 0..=u64::MAX)?;
    let options = parameters.options()?;
    let cpus = machine.cpus();
    let most = parameters.number("queues", cpus as u64, 1..=u16::MAX.into())?;
    let most = cpus.min(MAX_QUEUES).min(most as usize);
    // One queue is small enough for any machine.
    let arena = if most == 1 { arena } else { ram };
    let window = find(*command_line, &mut **machine, parameters.disk()?)?;
    let of_disk = (window, &options, most);
    let (depth, queues) = with_queues(&mut **machine, of_disk, arena, |machine, queues, arena| {
        writable(queues.info())?;
        let most = u64::from(queues.capacity(1));
        let depth = parameters.number("depth", DEFAULT_DEPTH.min(most), 1..=most)?;
        let verification = Verification {
            queues,
            requests: Extent::new(queues.info(), lba, count, REQUEST)?,
            buffers: arena.alloc(queues.count() * queues.size() * REQUEST, REQUEST as u64)?,
            cpus,
            depth: depth as u16,
            seed,
        };
        together::work(machine, window, cpus, &|cpu, transport| {
            verification.share(cpu, transport)
        })?;
        Ok((depth, queues.count()))
    })?;
    write!(
        console,
        "verify lba={lba} count={count} seed={seed} depth={depth}"
    )?;
    if cpus > 1 {
        write!(console, " cpus={cpus} queues={queues}")?;
    }
    writeln!(console, " ok")?;
    Ok(())
}

/// What the CPUs share: nothing of it changes.
struct Verification<'v, 'm> {
    queues: &'v Queues<'m>,
    requests: Extent,
    /// For each queue, a buffer for each token.
    buffers: Region<'m>,
    cpus: usize,
    depth: u16,
    seed: u64,
}

impl<'m> Verification<'_, 'm> {
    /// What CPU number `cpu` does.
    fn share<'e>(&self, cpu: usize, transport: &mut dyn Transport) -> Result<(), Failure<'e>> {
        let requests = self.requests.share(cpu, self.cpus);
        self.in_turns(cpu, transport, requests.clone(), |pass, requests| {
            pass.write(requests)
        })?;
        self.turn(cpu, transport, |pass| {
            let flushed = pass.block.flush();
            flushed.map_err(Failure::request("flush", requests.lba()))
        })?;
        self.in_turns(cpu, transport, requests, |pass, requests| {
            pass.read(requests)
        })
    }

    /// Has `work` done with all of `requests`: at once by a CPU whose queue is its own.
    fn in_turns<'e>(
        &self,
        cpu: usize,
        transport: &mut dyn Transport,
        mut requests: Extent,
        work: fn(&mut Pass<'_, '_, 'm>, Extent) -> Result<(), Failure<'e>>,
    ) -> Result<(), Failure<'e>> {
        let most = match self.cpus > self.queues.count() {
            true => TURN,
            false => u64::MAX,
        };
        while !requests.is_empty() {
            let some = requests.split_off(most);
            self.turn(cpu, transport, |pass| work(pass, some))?;
        }
        Ok(())
    }

    /// Has `work` done with the CPU's queue. There is none any more where another CPU has failed
    /// with it, which is that one's to tell.
    fn turn<'e>(
        &self,
        cpu: usize,
        transport: &mut dyn Transport,
        work: impl FnOnce(&mut Pass<'_, '_, 'm>) -> Result<(), Failure<'e>>,
    ) -> Result<(), Failure<'e>> {
        let size = self.buffers.len() / self.queues.count();
        let buffers = self.buffers.part(self.queues.of(cpu) * size, size);
        let done = self.queues.with_queue(cpu, transport, |block| {
            work(&mut Pass {
                block,
                buffers,
                depth: self.depth,
                seed: self.seed,
                in_flight: [(0, 0); MAX_QUEUE_SIZE as usize],
            })
        });
        done.unwrap_or(Ok(()))
    }
}

/// One way over some sectors.
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
