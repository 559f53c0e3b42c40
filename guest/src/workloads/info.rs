//! `run=info`: shows the machine and its devices, with the first sector of each disk. Never
//! writes to a disk.

use core::fmt::{self, Write};

use spec::Features;
use spec::block::{ID_SIZE, SECTOR_SIZE};
use spec::mmio::{DEVICE_ID_BLOCK, Register};

use super::params::Parameters;
use super::{Environment, Failure, find};
use crate::cmdline::Window;
use crate::dma::Arena;
use crate::hexdump::Hexdump;
use crate::virtio::{Block, ClearLimits, Error, Transport};

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let (console, machine, arena) = environment.parts();
    let options = parameters.options()?;
    let only = match parameters.only_disk()? {
        None => None,
        Some(disk) => Some(find(parameters.command_line(), machine, disk)?),
    };
    writeln!(console, "machine")?;
    machine.describe(console)?;
    writeln!(console, "  command line  {}", parameters.command_line().0)?;

    let mut devices = 0;
    for window in parameters.command_line().devices() {
        let window = window.map_err(Failure::BadDevice)?;
        if only.is_some_and(|only| only != window) {
            continue;
        }
        let cannot_be_driven = |error| Failure::Device { window, error };
        let transport = machine.device(window).map_err(cannot_be_driven)?;
        let device = match transport.check(DEVICE_ID_BLOCK) {
            Err(Error::DeviceId { id: 0 }) => continue,
            result => result,
        };
        devices += 1;
        print_device(console, transport, window)?;
        match device {
            Err(Error::DeviceId { .. }) => (),
            Err(error) => return Err(cannot_be_driven(error)),
            Ok(()) => {
                let mut arena = arena.scope();
                let mut block =
                    Block::new(transport, &options, &mut arena).map_err(cannot_be_driven)?;
                print_disk(console, &mut block)?;
                print_contents(console, &mut block, &mut arena)?;
            }
        }
    }
    if devices == 0 {
        writeln!(console, "no devices")?;
    }
    writeln!(console, "info devices={devices} ok")?;
    Ok(())
}

/// What can be known of a disk only by asking for it: its identity and its first sector.
fn print_contents<'m, 'e>(
    out: &mut dyn Write,
    block: &mut Block<'_, 'm>,
    arena: &mut Arena<'m>,
) -> Result<(), Failure<'e>> {
    let buffer = arena.alloc(SECTOR_SIZE as usize, SECTOR_SIZE)?;
    match block.get_id(buffer.part(0, ID_SIZE)) {
        Ok(id) => print_id(out, &id)?,
        // A device need not know the request.
        Err(Error::Status(_)) => (),
        Err(error) => return Err(Failure::request("get id", 0)(error)),
    }
    if block.info().capacity == 0 {
        return Ok(());
    }
    block.read(0, buffer).map_err(Failure::request("read", 0))?;
    let mut sector = [0; SECTOR_SIZE as usize];
    buffer.read(0, &mut sector);
    writeln!(out, "  sector 0")?;
    let mut dump = Hexdump::new(0);
    dump.feed(out, &sector)?;
    dump.finish(out)?;
    Ok(())
}

/// What every virtio-mmio device tells.
fn print_device(out: &mut dyn Write, transport: &mut dyn Transport, window: Window) -> fmt::Result {
    let Window { base, size, gsi } = window;
    writeln!(out, "device at {base:#x}, {size} bytes, GSI {gsi}")?;
    let id = transport.read(Register::DeviceID);
    let kind = if id == DEVICE_ID_BLOCK {
        " (block)"
    } else {
        ""
    };
    writeln!(out, "  device id     {id}{kind}")?;
    let vendor = transport.read(Register::VendorID);
    write!(out, "  vendor id     {vendor:#010x}")?;
    print_quoted(out, &vendor.to_le_bytes())?;
    out.write_char('\n')
}

/// What a disk tells.
fn print_disk(out: &mut dyn Write, block: &mut Block<'_, '_>) -> fmt::Result {
    let writeback = block.writeback();
    let info = block.info();
    let sectors_per_mib = (1 << 20) / SECTOR_SIZE;
    let hundredths = info.capacity % sectors_per_mib * 100 / sectors_per_mib;
    writeln!(
        out,
        "  capacity      {} sectors, {}.{hundredths:02} MiB",
        info.capacity,
        info.capacity / sectors_per_mib
    )?;
    let limits = [
        ("blk_size      ", info.blk_size, "bytes"),
        ("seg_max       ", info.seg_max, "segments a request"),
        ("size_max      ", info.size_max, "bytes a segment"),
    ];
    for (name, value, unit) in limits {
        if let Some(value) = value {
            writeln!(out, "  {name}{value} {unit}")?;
        }
    }
    if let Some((cylinders, heads, sectors)) = info.geometry {
        writeln!(
            out,
            "  geometry      {cylinders} cylinders, {heads} heads, {sectors} sectors"
        )?;
    }
    if let Some(exponent) = info.physical_block_exp {
        writeln!(out, "  physical      2^{exponent} blocks")?;
    }
    if let Some(writeback) = writeback {
        let mode = if writeback { "back" } else { "through" };
        writeln!(out, "  cache         write {mode}")?;
    }
    if let Some(limits) = info.discard {
        print_clear_limits(out, "discard       ", limits)?;
        let alignment = info.discard_sector_alignment.unwrap_or(1);
        writeln!(out, ", best aligned to {alignment}")?;
    }
    if let Some(limits) = info.write_zeroes {
        print_clear_limits(out, "write zeroes  ", limits)?;
        let may_unmap = info.write_zeroes_may_unmap == Some(true);
        writeln!(out, "{}", if may_unmap { ", may unmap" } else { "" })?;
    }
    if let Some(queues) = info.num_queues {
        writeln!(out, "  queues        {queues}")?;
    }
    writeln!(
        out,
        "  queue 0       {} descriptors of at most {}",
        block.queue_size(),
        info.queue_num_max
    )?;
    print_features(out, "  accepted      ", info.accepted)?;
    print_features(out, "  not accepted  ", info.offered - info.accepted)
}

fn print_clear_limits(out: &mut dyn Write, name: &str, limits: ClearLimits) -> fmt::Result {
    let ClearLimits {
        max_seg,
        max_sectors,
    } = limits;
    write!(out, "  {name}{max_seg} segments of {max_sectors} sectors")
}

/// The features, one to a line, the first behind `title`.
fn print_features(out: &mut dyn Write, title: &str, features: Features) -> fmt::Result {
    let mut title = title;
    for (name, _) in features.iter_names() {
        writeln!(out, "{title:16}{name}")?;
        title = "";
    }
    let unnamed = features.bits() & !Features::all().bits();
    for bit in (0..u64::BITS).filter(|bit| unnamed >> bit & 1 != 0) {
        writeln!(out, "{title:16}bit {bit}")?;
        title = "";
    }
    Ok(())
}

fn print_id(out: &mut dyn Write, id: &[u8; ID_SIZE]) -> fmt::Result {
    write!(out, "  id           ")?;
    print_quoted(out, id)?;
    out.write_char('\n')
}

/// Text that comes from a device, up to its NUL: whatever it is, it does no harm to a terminal.
fn print_quoted(out: &mut dyn Write, text: &[u8]) -> fmt::Result {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    write!(out, " \"{}\"", text.escape_ascii())
}
