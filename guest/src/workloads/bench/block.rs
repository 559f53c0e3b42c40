//! Block I/O: a number of requests in flight, each replaced when it completes, until there have
//! been enough or the time is over; or one by one, for what lies between notification and
//! interrupt. Guest instructions are dear on a software KVM, so that all that can be done once for
//! a request is done before, and what is left is the driver's and a few lines here.

use spec::bench::{BlockJob, Command, Kind, Outcome, Positions, outcome};
use spec::block::request_type;

use super::job::{Job, MAX_DEPTH};
use super::{Clock, Failure, Latencies, Machine};
use crate::cmdline::CommandLine;
use crate::dma::{Arena, Region};
use crate::virtio::block::{Token, Wait};
use crate::virtio::queue::{Buffer, MAX_QUEUE_SIZE};
use crate::virtio::{Block, Error, Info};
use crate::workloads::{open, writable};

/// Where buffers begin, in bytes: at pages, or next to each other where they are smaller.
pub(super) const ALIGN: u64 = 4096;
/// The most segments of a request.
const MAX_SEGMENTS: usize = 16;
/// How often a device that is polled is asked whether it can go on, as that is an exit, and how long
/// one is waited for that does not want to be notified, in ticks: about a second.
const PATIENCE: u64 = 1 << 31;

/// Does the job that `command` is about, on the first disk, as `kind` says. What it writes is `data`.
pub(super) fn run<'e, 'm>(
    kind: Kind,
    command_line: CommandLine<'e>,
    machine: &mut dyn Machine,
    mut arena: Arena<'m>,
    data: Region<'m>,
    command: &Command,
    latencies: &mut Latencies<'_>,
) -> Result<Outcome, Failure<'e>> {
    let clock = machine.probes().clock();
    let job = Job::new(&command.block)?;
    let mut block = open(command_line, machine, 0, &job.options(), &mut arena)?;
    check_disk(block.info(), command)?;
    let memory = match job.write {
        true => data,
        false => arena.alloc(job.data_size(), ALIGN)?,
    };
    let tokens = make_requests(&mut block, &job, memory)?;
    let interrupts = block.interrupts();
    let depth = job.depth;
    let mut run = Run::new(&mut block, job, clock, command.iterations, latencies);
    let ticks = match (kind, &tokens[..depth]) {
        (Kind::BlockNotify, &[token, ..]) => run.one_by_one(token, command.ticks)?,
        (_, tokens) => run.go(tokens, command.ticks)?,
    };
    Ok(Outcome {
        status: outcome::DONE,
        iterations: latencies.count(),
        ticks,
        latencies: latencies.addr(),
        latency_count: latencies.count(),
        interrupts: block.interrupts() - interrupts,
        notifications: block.notifications(),
    })
}

/// Sees that what `command` is about can be done with the disk.
pub(super) fn check_disk<'e>(info: &Info, command: &Command) -> Result<(), Failure<'e>> {
    let BlockJob { write, sectors, .. } = command.block;
    if write != 0 {
        writable(info)?;
    }
    if sectors > info.capacity {
        return Err(Failure::PastEnd {
            lba: 0,
            count: sectors,
            capacity: info.capacity,
        });
    }
    Ok(())
}

/// Makes the requests that are to be in flight, in as many segments as the device wants, of the parts
/// of `memory`, one after the other: there are as many as requests, or it is what is written.
pub(super) fn make_requests<'e, 'm>(
    block: &mut Block<'_, 'm>,
    job: &Job,
    memory: Region<'m>,
) -> Result<[Token; MAX_DEPTH as usize], Failure<'e>> {
    let (request_type, buffer): (u32, fn(Region<'m>) -> Buffer<'m>) = match job.write {
        true => (request_type::OUT, Buffer::readable),
        false => (request_type::IN, Buffer::writable),
    };
    let size_max = block
        .info()
        .size_max
        .map_or(usize::MAX, |size| size as usize);
    let segment_size = size_max.clamp(1, job.block_size);
    let segments = job.block_size.div_ceil(segment_size);
    if segments > block.max_segments().min(MAX_SEGMENTS) {
        return Err(Failure::Driver(Error::ChainLength(segments)));
    }
    if job.depth > usize::from(block.capacity(segments as u16)) {
        return Err(Failure::BadCommand("the queue is too small for the depth"));
    }
    let parts = memory.len() / job.block_size;
    let mut buffers = [buffer(memory); MAX_SEGMENTS];
    let mut tokens = [0; MAX_DEPTH as usize];
    for (i, token) in tokens[..job.depth].iter_mut().enumerate() {
        let memory = memory.part(i % parts * job.block_size, job.block_size);
        for (segment, part) in buffers[..segments].iter_mut().enumerate() {
            let offset = segment * segment_size;
            let len = segment_size.min(memory.len() - offset);
            *part = buffer(memory.part(offset, len));
        }
        *token = block.keep(request_type, &buffers[..segments])?;
    }
    Ok(tokens)
}

/// A job that is being done.
pub(super) struct Run<'r, 'd, 'm, 'l> {
    block: &'r mut Block<'d, 'm>,
    clock: Clock,
    wait: Wait,
    positions: Positions,
    /// How many requests more may be submitted.
    left: u64,
    /// When none is submitted any more.
    end: u64,
    /// For each token, when its request was submitted.
    started: [u64; MAX_QUEUE_SIZE as usize],
    latencies: &'r mut Latencies<'l>,
}

impl<'r, 'd, 'm, 'l> Run<'r, 'd, 'm, 'l> {
    /// `job` on `block`, with up to `requests` requests.
    pub(super) fn new(
        block: &'r mut Block<'d, 'm>,
        job: Job,
        clock: Clock,
        requests: u64,
        latencies: &'r mut Latencies<'l>,
    ) -> Self {
        Self {
            block,
            clock,
            wait: job.wait(),
            positions: job.positions,
            left: requests,
            end: 0,
            started: [0; MAX_QUEUE_SIZE as usize],
            latencies,
        }
    }

    /// Keeps the requests of `tokens` in flight, for `ticks` at most. Returns how long it took up
    /// to the last completion. There is one at least, whatever keeps the guest from its CPU, unless
    /// there is to be none.
    pub(super) fn go<'e>(&mut self, tokens: &[Token], ticks: u64) -> Result<u64, Failure<'e>> {
        let begin = (self.clock)();
        self.end = begin.saturating_add(ticks);
        let (mut last, mut looked_after) = (begin, begin);
        if let Some((&first, others)) = tokens.split_first() {
            self.submit(first, begin);
            for &token in others {
                self.submit(token, (self.clock)());
            }
        }
        self.block.notify();
        while self.block.in_flight() > 0 {
            let completed = self.latencies.count();
            // All that has completed is taken, and replaced, before the device hears of it: once.
            while let Some(completion) = self.block.poll()? {
                let token = completion.ok()?.token;
                last = (self.clock)();
                self.latencies.push(last - self.started[usize::from(token)]);
                self.submit(token, last);
            }
            if self.latencies.count() != completed {
                self.block.notify();
                continue;
            }
            match self.wait {
                // Half of what is in flight at a time: the device always has some to do, and few
                // interrupts do for many requests.
                Wait::Irq => self.block.sleep((self.block.in_flight() / 2).max(1))?,
                Wait::Poll => {
                    let now = (self.clock)();
                    if now - looked_after > PATIENCE {
                        looked_after = now;
                        self.block.check_alive()?;
                    }
                }
            }
        }
        Ok(last - begin)
    }

    /// Makes the request of `token` again and again for `ticks` at most, waiting for each. Returns
    /// how long it took.
    fn one_by_one<'e>(&mut self, token: Token, ticks: u64) -> Result<u64, Failure<'e>> {
        let begin = (self.clock)();
        self.end = begin.saturating_add(ticks);
        let mut now = begin;
        while self.may_submit(now) {
            self.wait_until_notifiable()?;
            let sector = self.positions.next();
            self.latencies.push(self.block.time_kept(token, sector)?);
            let completion = self.block.poll()?.ok_or(Error::NoInterrupt)?;
            completion.ok()?;
            now = (self.clock)();
        }
        Ok(now - begin)
    }

    /// Waits until the device wants to be notified: when it has interrupted, it has yet to ask.
    fn wait_until_notifiable<'e>(&self) -> Result<(), Failure<'e>> {
        let begin = (self.clock)();
        loop {
            // The time comes before the look: it may have been another's for longer than that.
            let late = (self.clock)() - begin > PATIENCE;
            if self.block.wants_notification() {
                return Ok(());
            }
            if late {
                return Err(Failure::Unsupported(
                    "the device does not want to be notified",
                ));
            }
        }
    }

    /// Submits a request, if there is to be another.
    fn submit(&mut self, token: Token, now: u64) {
        if self.may_submit(now) {
            self.started[usize::from(token)] = now;
            let sector = self.positions.next();
            self.block.submit_kept(token, sector);
        }
    }

    /// Whether there is to be another request, which is then counted.
    fn may_submit(&mut self, now: u64) -> bool {
        let may = self.left > 0 && now < self.end;
        self.left -= u64::from(may);
        may
    }
}
