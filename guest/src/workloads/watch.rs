//! `run=watch count=N`: prints the capacity of a disk, and again each time that it changes, N times,
//! each time after a read of the last sector and one past it. It halts meanwhile, and never writes.

use spec::block::SECTOR_SIZE;

use super::params::Parameters;
use super::{Environment, Failure, open_chosen};
use crate::dma::Region;
use crate::virtio::{Block, Error};

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let (console, machine, arena) = environment.parts();
    let count = parameters.number("count", 1, 0..=u64::MAX)?;
    let mut block = open_chosen(parameters, machine, arena)?;
    let memory = arena.alloc(SECTOR_SIZE as usize, SECTOR_SIZE)?;
    for changes in 0..=count {
        let capacity = block.info().capacity;
        check_end(&mut block, capacity, memory)?;
        writeln!(console, "watch capacity={capacity}")?;
        if changes < count {
            block.wait_for_change(capacity)?;
        }
    }
    writeln!(console, "watch count={count} ok")?;
    Ok(())
}

/// Sees that a disk of `capacity` sectors ends there, unless it does not have them any more.
fn check_end<'e, 'm>(
    block: &mut Block<'_, 'm>,
    capacity: u64,
    memory: Region<'m>,
) -> Result<(), Failure<'e>> {
    let lba = capacity.saturating_sub(1);
    let last = block.read(lba, memory);
    let past = block.read(capacity, memory);
    if block.read_capacity() != capacity {
        return Ok(());
    }
    last.map_err(Failure::request("read", lba))?;
    match past {
        Err(Error::Status(_)) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => Err(Failure::ReadPastEnd { lba: capacity }),
    }
}
