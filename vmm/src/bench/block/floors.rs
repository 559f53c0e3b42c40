//! The floors of a matrix: for each kind of I/O in it the same by system calls, in every round.

use std::fs::File;
use std::time::Duration;

use spec::bench::BlockJob;

use super::super::error::BenchError;
use super::super::host_io::{HostSample, Limit, by_calls, by_io_uring};
use super::super::report::Throughput;
use super::Round;
use super::disk::Disk;
use super::plan::{Io, Plan};
use super::rounds::Rounds;
use crate::vm::io_uring_reason;

/// How long a floor is measured in a round, if a cell is not measured for less.
const TIME: Duration = Duration::from_millis(50);

/// How I/O is done without a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// One system call at a time.
    Calls,
    /// As many requests in flight as in the guest.
    IoUring,
}

impl Way {
    const fn name(self, io: Io) -> &'static str {
        match self {
            Self::Calls if io.rw.writes() => "pwrite",
            Self::Calls => "pread",
            Self::IoUring => "io_uring",
        }
    }

    fn run(self, file: &File, job: &BlockJob, limit: Limit) -> Result<HostSample, String> {
        match self {
            Self::Calls => by_calls(file, job, limit).map_err(|error| error.to_string()),
            Self::IoUring => by_io_uring(file, job, limit).map_err(|error| io_uring_reason(&error)),
        }
    }
}

/// All floors of a matrix.
#[derive(Debug, Default)]
pub(super) struct Floors(Vec<HostFloor>);

#[derive(Debug)]
struct HostFloor {
    way: Way,
    io: Io,
    /// What has been measured, or why nothing can be.
    found: Result<Rounds, String>,
}

impl Floors {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut floors: Vec<HostFloor> = Vec::new();
        for io in plan.cells.iter().map(|cell| cell.io) {
            for (way, io) in [(Way::Calls, one_at_a_time(io)), (Way::IoUring, io)] {
                if !floors
                    .iter()
                    .any(|floor| (floor.way, floor.io) == (way, io))
                {
                    let found = Ok(Rounds::default());
                    floors.push(HostFloor { way, io, found });
                }
            }
        }
        Self(floors)
    }

    /// Measures each floor on `disk`, where the round is one for times.
    ///
    /// # Errors
    /// Somebody else has the disk.
    pub(super) fn measure(&mut self, disk: &Disk, round: Round) -> Result<(), BenchError> {
        if round.counting {
            return Ok(());
        }
        let limit = Limit {
            time: round.limit.time.min(TIME),
            ..round.limit
        };
        for HostFloor { way, io, found } in &mut self.0 {
            let job = io.job(disk.sectors, round.seed);
            if let Ok(rounds) = found {
                match disk.with_file(|file| way.run(file, &job, limit))? {
                    Ok(sample) => {
                        let seconds = sample.elapsed.as_secs_f64();
                        let latencies = sample.latencies.iter().copied().map(u64::from);
                        rounds.iops.push(latencies.len() as f64 / seconds.max(1e-9));
                        rounds.latencies.extend(latencies);
                    }
                    Err(reason) => *found = Err(reason),
                }
            }
        }
        Ok(())
    }

    /// The floors of a cell that does `io`, by name.
    pub(super) fn of(&self, io: Io) -> Vec<(String, Result<Throughput, String>)> {
        let alike = |floor: &&HostFloor| match floor.way {
            Way::Calls => floor.io == one_at_a_time(io),
            Way::IoUring => floor.io == io,
        };
        let floors = self.0.iter().filter(alike);
        floors
            .map(|floor| {
                let found = floor.found.as_ref().map_err(Clone::clone);
                (floor.way.name(io).to_owned(), found.map(Rounds::throughput))
            })
            .collect()
    }
}

const fn one_at_a_time(io: Io) -> Io {
    Io { depth: 1, ..io }
}

#[cfg(test)]
mod tests {
    use super::super::options::{Amount, BlockOptions};
    use super::*;

    fn plan() -> Plan {
        let options = BlockOptions {
            size: Some(1 << 20),
            block_sizes: vec![4096, 512],
            depths: vec![1, 2],
            amount: Amount::Requests(30),
            ..Default::default()
        };
        options.plan().unwrap()
    }

    #[test]
    fn a_cell_has_the_floor_of_its_own_size_and_depth() {
        let (plan, round) = (plan(), |counting| Round {
            counting,
            seed: 1,
            limit: Amount::Requests(10).limit(1),
        });
        let disk = Disk::open(&plan).unwrap();
        let mut floors = Floors::new(&plan);
        assert_eq!(floors.0.len(), 2 + 4);
        floors.measure(&disk, round(true)).unwrap();
        floors.measure(&disk, round(false)).unwrap();
        floors.measure(&disk, round(false)).unwrap();
        for cell in plan.cells {
            let found = floors.of(cell.io);
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["pread", "io_uring"]);
            let pread = found[0].1.as_ref().unwrap();
            assert_eq!((pread.iops.samples.len(), pread.latency.count), (2, 20));
            if let Ok(ring) = &found[1].1 {
                assert_eq!((ring.iops.samples.len(), ring.latency.count), (2, 20));
            }
        }
    }
}
