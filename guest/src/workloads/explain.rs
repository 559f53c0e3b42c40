//! `run=explain lba=L`: reads a block, writes back what it read, and says before and after each what
//! it does and what came of it, for `vmm explain`, which follows both from the outside.

use spec::Features;
use spec::block::{RequestHeader, SECTOR_SIZE, request_type, status};
use spec::explain::WOKEN;

use super::extent::Extent;
use super::params::Parameters;
use super::{Environment, Failure, open_chosen};
use crate::virtio::queue::Buffer;

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let (console, machine, arena) = environment.parts();
    let lba = parameters.number("lba", 0, 0..=u64::MAX)?;
    let mut block = open_chosen(parameters, machine, arena)?;
    let count = u64::from(block.info().blk_size.unwrap_or_default()).max(SECTOR_SIZE) / SECTOR_SIZE;
    let len = Extent::new(block.info(), lba, count, (count * SECTOR_SIZE) as usize)?.largest();
    let buffer = arena.alloc(len, SECTOR_SIZE)?;
    buffer.fill(0);
    let read_only = block.info().accepted.contains(Features::VIRTIO_BLK_F_RO);

    for (what, request_type, data, refusal) in [
        ("read", request_type::IN, Buffer::writable(buffer), None),
        (
            "write",
            request_type::OUT,
            Buffer::readable(buffer),
            read_only.then_some(status::IOERR),
        ),
    ] {
        writeln!(console, "{what} lba={lba} len={len}")?;
        let header = RequestHeader {
            request_type,
            sector: lba,
        };
        let completion = block
            .execute_asleep(header, &[data])
            .map_err(Failure::request(what, lba))?;
        writeln!(
            console,
            "{WOKEN} {what}: head={} written={} status={}",
            completion.token, completion.written, completion.status
        )?;
        // That a disk that is read-only takes no write is what is to be seen.
        if Some(completion.status) != refusal {
            completion.ok().map_err(Failure::request(what, lba))?;
        }
    }
    writeln!(console, "explain lba={lba} ok")?;
    Ok(())
}
