//! `run=fill lba=L count=N byte=B retry=on|off`: writes one byte all over sectors, and flushes.

use spec::block::SECTOR_SIZE;

use super::extent::Extent;
use super::params::Parameters;
use super::retry::Retry;
use super::{Environment, Failure, open_chosen, writable};

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let (console, machine, arena) = environment.parts();
    let (lba, count) = parameters.sectors()?;
    let retry = Retry::new(parameters)?;
    let byte = parameters.number("byte", 0, 0..=0xff)? as u8;
    let mut block = open_chosen(parameters, machine, arena)?;
    writable(block.info())?;
    let requests = Extent::large(block.info(), lba, count)?;
    let buffer = arena.alloc(requests.largest(), SECTOR_SIZE)?;
    buffer.fill(byte);

    for (lba, len) in requests {
        retry.request(console, ("write", lba), || {
            block.write(lba, buffer.part(0, len))
        })?;
    }
    // Not made again: one that succeeds after one that failed says nothing of what was lost.
    block.flush().map_err(Failure::request("flush", lba))?;
    writeln!(console, "fill lba={lba} count={count} byte={byte:#04x} ok")?;
    Ok(())
}
