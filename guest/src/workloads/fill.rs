//! `run=fill lba=L count=N byte=B`: writes one byte all over sectors, and flushes.

use spec::Features;
use spec::block::SECTOR_SIZE;

use super::extent::Extent;
use super::params::Parameters;
use super::{Environment, Failure, open};

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let Environment {
        command_line,
        console,
        machine,
        arena,
        ..
    } = environment;
    let (disk, (lba, count)) = (parameters.disk()?, parameters.sectors()?);
    let byte = parameters.number("byte", 0, 0..=0xff)? as u8;
    let mut block = open(
        *command_line,
        &mut **machine,
        disk,
        &parameters.options()?,
        arena,
    )?;
    if block.info().accepted.contains(Features::VIRTIO_BLK_F_RO) {
        return Err(Failure::ReadOnly);
    }
    let requests = Extent::large(&block, lba, count)?;
    let buffer = arena.alloc(requests.largest(), SECTOR_SIZE)?;
    buffer.fill(byte);

    for (lba, len) in requests {
        block
            .write(lba, buffer.part(0, len))
            .map_err(|error| Failure::Request {
                what: "write",
                lba,
                error,
            })?;
    }
    block.flush().map_err(|error| Failure::Request {
        what: "flush",
        lba,
        error,
    })?;
    writeln!(console, "fill lba={lba} count={count} byte={byte:#04x} ok")?;
    Ok(())
}
