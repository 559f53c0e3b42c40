//! `run=clear lba=L count=N how=H`: makes sectors zeros, with (`unmap`) or without (`zeroes`) their
//! being deallocated, or discards them (`discard`), and flushes.

use spec::block::{SECTOR_SIZE, SEGMENT_SIZE, Segment, segment_flags};

use super::extent::Extent;
use super::params::Parameters;
use super::{Environment, Failure, open_chosen, writable};

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let (console, machine, arena) = environment.parts();
    let (lba, count) = parameters.sectors()?;
    let how = parameters.choice("how", &["zeroes", "unmap", "discard"])?;
    let mut block = open_chosen(parameters, machine, arena)?;
    writable(block.info())?;
    let failed = |lba, error| Failure::Request {
        what: how,
        lba,
        error,
    };
    let discards = how == "discard";
    let limits = if discards {
        block.info().discard_limits()
    } else {
        block.info().write_zeroes_limits()
    };
    let max_sectors = limits.map_err(|error| failed(lba, error))?.max_sectors;
    let requests = Extent::cut(block.info(), lba, count, max_sectors.into())?;
    let memory = arena.alloc(SEGMENT_SIZE, SEGMENT_SIZE as u64)?;
    for (lba, len) in requests {
        let segments = [Segment {
            sector: lba,
            num_sectors: (len as u64 / SECTOR_SIZE) as u32,
            flags: if how == "unmap" {
                segment_flags::UNMAP
            } else {
                0
            },
        }];
        let done = if discards {
            block.discard(&segments, memory)
        } else {
            block.write_zeroes(&segments, memory)
        };
        done.map_err(|error| failed(lba, error))?;
    }
    block.flush().map_err(|error| failed(lba, error))?;
    writeln!(console, "clear lba={lba} count={count} how={how} ok")?;
    Ok(())
}
