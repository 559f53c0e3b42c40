//! A block job, checked for sense, and the sectors that it goes to. Knows nothing of how requests
//! are made.

use spec::bench::BlockJob;
use spec::block::SECTOR_SIZE;

use super::Failure;
use crate::rng::Rng;

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
    pub sectors: Sectors,
}

impl Job {
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
        let random = yes_or_no(job.random, "random is neither 0 nor 1")?;
        Ok(Self {
            write: yes_or_no(job.write, "write is neither 0 nor 1")?,
            poll: yes_or_no(job.poll, "poll is neither 0 nor 1")?,
            block_size: job.block_size as usize,
            depth: job.depth as usize,
            sectors: Sectors::new(
                job.sectors,
                job.block_size / SECTOR_SIZE,
                random.then_some(job.seed),
            )?,
        })
    }
}

/// The first sectors of one request after the other, without end.
#[derive(Debug)]
pub(super) struct Sectors {
    blocks: u64,
    sectors_per_block: u64,
    order: Order,
}

#[derive(Debug)]
enum Order {
    /// The block that is next.
    InOrder(u64),
    Random(Rng),
}

impl Sectors {
    /// Requests for a block each, in the first `sectors` sectors of the disk: in order, or at
    /// random with this seed.
    fn new<'e>(
        sectors: u64,
        sectors_per_block: u64,
        seed: Option<u64>,
    ) -> Result<Self, Failure<'e>> {
        let blocks = sectors / sectors_per_block;
        if blocks == 0 {
            return Err(Failure::BadCommand("not one block fits into the sectors"));
        }
        Ok(Self {
            blocks,
            sectors_per_block,
            order: seed.map_or(Order::InOrder(0), |seed| Order::Random(Rng::new(seed))),
        })
    }

    /// The first sector of the next request.
    pub(super) fn next(&mut self) -> u64 {
        let block = match &mut self.order {
            Order::InOrder(next) => {
                let block = *next;
                *next += 1;
                if *next == self.blocks {
                    *next = 0;
                }
                block
            }
            // As far among the blocks as the number is among all numbers.
            Order::Random(rng) => {
                ((u128::from(rng.next()) * u128::from(self.blocks)) >> u64::BITS) as u64
            }
        };
        block * self.sectors_per_block
    }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
