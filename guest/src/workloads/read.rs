//! `run=read lba=L count=N retry=on|off`: prints sectors as `hexdump -C` does, and their CRC-32.

use crc32fast::Hasher;
use spec::block::SECTOR_SIZE;

use super::extent::Extent;
use super::params::Parameters;
use super::retry::Retry;
use super::{Environment, Failure, open_chosen};
use crate::hexdump::Hexdump;

/// How many bytes are taken out of the device's buffer at a time.
const PIECE: usize = SECTOR_SIZE as usize;

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let (console, machine, arena) = environment.parts();
    let (lba, count) = parameters.sectors()?;
    let retry = Retry::new(parameters)?;
    let mut block = open_chosen(parameters, machine, arena)?;
    let transfers = Extent::large(block.info(), lba, count)?;
    let buffer = arena.alloc(transfers.largest(), SECTOR_SIZE)?;

    let mut dump = Hexdump::new(lba * SECTOR_SIZE);
    let mut crc = Hasher::new();
    for (lba, len) in transfers {
        retry.request(console, ("read", lba), || {
            block.read(lba, buffer.part(0, len))
        })?;
        let mut piece = [0; PIECE];
        for offset in (0..len).step_by(PIECE) {
            buffer.read(offset, &mut piece);
            crc.update(&piece);
            dump.feed(console, &piece)?;
        }
    }
    dump.finish(console)?;
    writeln!(
        console,
        "read lba={lba} count={count} crc32={:08x} ok",
        crc.finalize()
    )?;
    Ok(())
}
