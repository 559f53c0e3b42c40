//! Where a job goes, and which jobs there can be.

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

fn job() -> BlockJob {
    BlockJob {
        block_size: 4096,
        depth: 1,
        sectors: 80,
        ..BlockJob::default()
    }
}

fn sectors(job: &BlockJob, count: usize) -> Vec<u64> {
    let mut positions = Job::new(job).unwrap().positions;
    (0..count).map(|_| positions.next()).collect()
}

#[test]
fn in_order_goes_round_and_leaves_out_what_is_no_whole_block() {
    let job = BlockJob {
        sectors: 31,
        ..job()
    };
    assert_eq!(sectors(&job, 7), [0, 8, 16, 0, 8, 16, 0]);
}

#[test]
fn at_random_goes_everywhere_and_nowhere_else() {
    let job = BlockJob { random: 1, ..job() };
    let mut seen = sectors(&job, 1000);
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (0..10).map(|i| 8 * i).collect::<Vec<_>>());
}

#[test]
fn a_seed_stands_for_one_sequence() {
    let with_seed = |seed| {
        let random = BlockJob {
            random: 1,
            seed,
            sectors: 1 << 30,
            ..job()
        };
        sectors(&random, 100)
    };
    assert_eq!(with_seed(1), with_seed(1));
    assert_ne!(with_seed(1), with_seed(2));
}

#[test]
fn a_job_that_makes_no_sense_is_refused_by_its_reason() {
    let size = "the block size is not a multiple of 512 up to 1 MiB";
    let depth = "the depth is not from 1 to 128";
    for (change, reason) in [
        (
            BlockJob {
                block_size: 0,
                ..job()
            },
            size,
        ),
        (
            BlockJob {
                block_size: 513,
                ..job()
            },
            size,
        ),
        (
            BlockJob {
                block_size: (1 << 20) + 512,
                ..job()
            },
            size,
        ),
        (BlockJob { depth: 0, ..job() }, depth),
        (
            BlockJob {
                depth: 129,
                ..job()
            },
            depth,
        ),
        (
            BlockJob {
                sectors: 7,
                ..job()
            },
            "not one block fits into the sectors",
        ),
        (
            BlockJob {
                more_queues: 8,
                ..job()
            },
            "there are more queues than 8",
        ),
        (BlockJob { write: 2, ..job() }, "write is neither 0 nor 1"),
        (BlockJob { random: 2, ..job() }, "random is neither 0 nor 1"),
        (BlockJob { poll: 2, ..job() }, "poll is neither 0 nor 1"),
    ] {
        assert_eq!(Job::new(&change).unwrap_err(), Failure::BadCommand(reason));
    }
}

proptest! {
    #[test]
    fn no_request_leaves_the_sectors(
        block in 1..=2048u64,
        sectors in prop_oneof![1..100_000u64, any::<u64>()],
        random in 0..=1u64,
        seed: u64,
    ) {
        prop_assume!(sectors >= block);
        let job = BlockJob { random, block_size: block * 512, depth: 1, sectors, seed, ..job() };
        for first in self::sectors(&job, 100) {
            prop_assert!(first.is_multiple_of(block));
            prop_assert!(first.checked_add(block).is_some_and(|end| end <= sectors));
        }
    }
}
