//! A block job, checked for sense. Knows nothing of how requests are made.

use spec::bench::{BlockJob, Positions};
use spec::block::SECTOR_SIZE;

use super::Failure;
use crate::virtio::block::Wait;
use crate::virtio::{MAX_QUEUES, Options};

/// The most requests in flight.
pub(super) const MAX_DEPTH: u64 = 128;
/// The largest request, in bytes.
const MAX_BLOCK_SIZE: u64 = 1 << 20;

/// A job that can be done.
#[derive(Debug)]
pub(super) struct Job {
    /// Whether it writes.
    pub write: bool,
    /// Whether it looks for completions again and again.
    pub poll: bool,
    /// Size of a request, in bytes.
    pub block_size: usize,
    /// How many requests are in flight.
    pub depth: usize,
    /// Where they go.
    pub positions: Positions,
    /// How many queues are used, each by a CPU of its own.
    pub queues: usize,
}

impl Job {
    /// How it waits for completions.
    pub(super) const fn wait(&self) -> Wait {
        if self.poll { Wait::Poll } else { Wait::Irq }
    }

    /// How the disk is to be driven for it.
    pub(super) fn options(&self) -> Options {
        Options {
            wait: self.wait(),
            ..Options::default()
        }
    }

    /// How many bytes are in flight in each queue.
    pub(super) const fn data_size(&self) -> usize {
        self.depth * self.block_size
    }

    /// The job that the VMM describes so.
    pub(super) fn new<'e>(job: &BlockJob) -> Result<Self, Failure<'e>> {
        let yes_or_no = |value, or| match value {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Failure::BadCommand(or)),
        };
        if !(1..=MAX_BLOCK_SIZE).contains(&job.block_size)
            || !job.block_size.is_multiple_of(SECTOR_SIZE)
        {
            return Err(Failure::BadCommand(
                "the block size is not a multiple of 512 up to 1 MiB",
            ));
        }
        if !(1..=MAX_DEPTH).contains(&job.depth) {
            return Err(Failure::BadCommand("the depth is not from 1 to 128"));
        }
        if job.more_queues >= MAX_QUEUES as u64 {
            return Err(Failure::BadCommand("there are more queues than 8"));
        }
        yes_or_no(job.random, "random is neither 0 nor 1")?;
        Ok(Self {
            write: yes_or_no(job.write, "write is neither 0 nor 1")?,
            poll: yes_or_no(job.poll, "poll is neither 0 nor 1")?,
            block_size: job.block_size as usize,
            depth: job.depth as usize,
            positions: Positions::new(job)
                .ok_or(Failure::BadCommand("not one block fits into the sectors"))?,
            queues: 1 + job.more_queues as usize,
        })
    }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
