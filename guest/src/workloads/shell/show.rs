//! What is shown of a device and its queue: registers, features, and the three areas as they stand.
//! Changes nothing but what DeviceFeatures shows.

use core::fmt::{self, Display, Formatter, Write};

use bitflags::Flags;
use spec::Features;
use spec::block::{config, status};
use spec::mmio::{DeviceStatus, InterruptStatus, Register};
use spec::queue::{AVAIL_F_NO_INTERRUPT, DESC_SIZE, DescFlags, Descriptor, USED_F_NO_NOTIFY};

use super::{Arguments, Disk, Next, Shell, Wrong};
use crate::dma::Region;
use crate::virtio::Transport;
use crate::virtio::raw::RawQueue;

/// How many entries of a ring are shown, up to the newest.
const ENTRIES: u16 = 8;

/// Flags by their names, each after a space; bits without a name as a number; a dash for none.
pub struct Named<F>(pub F);

impl<F: Flags<Bits: fmt::LowerHex + PartialEq> + Copy> Display for Named<F> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.bits() == F::empty().bits() {
            return f.write_str(" -");
        }
        let mut names = self.0.iter_names();
        names.try_for_each(|(name, _)| write!(f, " {name}"))?;
        let rest = names.remaining().bits();
        if rest != F::empty().bits() {
            write!(f, " {rest:#x}")?;
        }
        Ok(())
    }
}

/// A status byte.
pub struct Status(pub u8);

impl Display for Status {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            status::OK => "OK",
            status::IOERR => "IOERR",
            status::UNSUPP => "UNSUPP",
            0xff => "not written",
            _ => "no status",
        };
        write!(f, "{:#04x} ({name})", self.0)
    }
}

/// Buffers by their names.
pub type Names<'n, 'm> = &'n [(&'static str, Region<'m>)];

/// One descriptor, in a line.
pub fn descriptor(
    out: &mut dyn Write,
    indent: &str,
    index: u16,
    descriptor: Descriptor,
    names: Names<'_, '_>,
) -> fmt::Result {
    let Descriptor {
        addr,
        len,
        flags,
        next,
    } = descriptor;
    write!(
        out,
        "  {indent}{index:<4}addr {addr:#012x} len {len:<6} flags{}",
        Named(flags)
    )?;
    if flags.contains(DescFlags::NEXT) {
        write!(out, " next {next}")?;
    }
    let place = names.iter().find_map(|(name, region)| {
        let offset = addr.checked_sub(region.addr())?;
        (offset < region.len() as u64).then_some((name, offset))
    });
    match place {
        None => writeln!(out),
        Some((name, 0)) => writeln!(out, " ({name})"),
        Some((name, offset)) => writeln!(out, " ({name}+{offset})"),
    }
}

/// A table of descriptors, without those that are all zeros.
pub fn table(
    out: &mut dyn Write,
    indent: &str,
    table: Region<'_>,
    names: Names<'_, '_>,
) -> fmt::Result {
    let mut bytes = [0; DESC_SIZE as usize];
    for index in 0..table.len() / bytes.len() {
        table.read(index * bytes.len(), &mut bytes);
        if bytes != [0; DESC_SIZE as usize] {
            let one = Descriptor::from_bytes(bytes);
            descriptor(out, indent, index as u16, one, names)?;
        }
    }
    Ok(())
}

/// The Driver Area.
pub fn available(out: &mut dyn Write, queue: &RawQueue<'_>) -> fmt::Result {
    let [flags, idx, used_event] = queue.avail();
    let name = match flags {
        0 => "",
        AVAIL_F_NO_INTERRUPT => " NO_INTERRUPT",
        _ => " (undefined)",
    };
    writeln!(
        out,
        "  flags {flags}{name}, idx {idx}, used_event {used_event}"
    )?;
    for idx in newest(idx, queue.size) {
        let (slot, head) = (idx % queue.size, queue.avail_entry(idx));
        writeln!(out, "  entry {idx:<5} [{slot}]  head {head}")?;
    }
    Ok(())
}

/// The Device Area.
fn used(out: &mut dyn Write, queue: &RawQueue<'_>) -> fmt::Result {
    let (flags, idx, avail_event) = (queue.used_flags(), queue.used_idx(), queue.avail_event());
    let name = match flags {
        0 => "",
        USED_F_NO_NOTIFY => " NO_NOTIFY",
        _ => " (undefined)",
    };
    writeln!(
        out,
        "  flags {flags}{name}, idx {idx}, avail_event {avail_event}"
    )?;
    for idx in newest(idx, queue.size) {
        let (slot, entry) = (idx % queue.size, queue.used_entry(idx));
        writeln!(
            out,
            "  entry {idx:<5} [{slot}]  id {} len {}",
            entry.id, entry.len
        )?;
    }
    Ok(())
}

/// The running indices of the newest entries of a ring whose index is `idx`.
fn newest(idx: u16, size: u16) -> impl Iterator<Item = u16> {
    let count = idx.min(size).min(ENTRIES);
    (1..=count).rev().map(move |back| idx.wrapping_sub(back))
}

impl Shell<'_, '_, '_> {
    /// `ring`
    pub fn ring(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        arguments.end()?;
        let out = &mut *self.console;
        match &self.disk {
            Disk::Driven(driven) => {
                let queue = driven.block.queue();
                let raw = RawQueue::new(queue.size(), queue.areas());
                ring(out, &raw, queue.tables(), &[("data", driven.buffer)])?;
            }
            Disk::ByHand(hand) => {
                let queue = &hand.driver.queue;
                ring(out, queue, Some(hand.table), &hand.buffers())?;
            }
            Disk::Closed => return Err(Wrong::NotOpen),
        }
        Ok(Next::Prompt)
    }

    /// `features`
    pub fn features(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        arguments.end()?;
        let (offered, accepted) = match &mut self.disk {
            Disk::Driven(driven) => {
                let info = driven.block.info();
                (info.offered, info.accepted)
            }
            Disk::ByHand(hand) => (hand.driver.transport.offered_features(), hand.features),
            Disk::Closed => return Err(Wrong::NotOpen),
        };
        for bit in (0..u64::BITS).filter(|bit| offered.bits() >> bit & 1 != 0) {
            let feature = Features::from_bits_retain(1 << bit);
            let verdict = match accepted.contains(feature) {
                true => "offered, accepted",
                false => "offered",
            };
            match feature.iter_names().next() {
                Some((name, _)) => writeln!(self.console, "  {bit:<4}{name:28}{verdict}")?,
                None => writeln!(self.console, "  {bit:<4}{:28}{verdict}", "(no name)")?,
            }
        }
        Ok(Next::Prompt)
    }

    /// `regs`
    pub fn regs(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        arguments.end()?;
        let transport = match &mut self.disk {
            Disk::Driven(driven) => driven.block.transport(),
            Disk::ByHand(hand) => &mut *hand.driver.transport,
            Disk::Closed => return Err(Wrong::NotOpen),
        };
        registers(self.console, transport)?;
        Ok(Next::Prompt)
    }

    /// `disks`
    pub fn disks(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        arguments.end()?;
        let open = match &mut self.disk {
            Disk::Driven(driven) => Some(driven.block.info().capacity),
            Disk::ByHand(hand) => Some(hand.driver.transport.read_config_64(config::CAPACITY)),
            Disk::Closed => None,
        };
        for (i, disk) in self.disks.iter().enumerate() {
            let window = disk.window;
            let open = open.filter(|_| i as u64 == self.setting.disk);
            write!(
                self.console,
                "  disk {i}  at {:#x}, GSI {}",
                window.base, window.gsi
            )?;
            match disk.found {
                Err(error) => write!(self.console, ": {error}")?,
                Ok((offered, capacity)) => {
                    let capacity = open.unwrap_or(capacity);
                    write!(self.console, ", {capacity} sectors")?;
                    if offered.contains(Features::VIRTIO_BLK_F_RO) {
                        write!(self.console, ", read-only")?;
                    }
                }
            }
            let open = if open.is_some() { ", open" } else { "" };
            writeln!(self.console, "{open}")?;
        }
        writeln!(self.console, "disks={} ok", self.disks.len())?;
        Ok(Next::Prompt)
    }
}

/// The three areas of a queue. Descriptors may refer to a table in `tables`.
fn ring(
    out: &mut dyn Write,
    queue: &RawQueue<'_>,
    tables: Option<Region<'_>>,
    names: Names<'_, '_>,
) -> fmt::Result {
    let [desc, driver, device] = queue.areas();
    writeln!(
        out,
        "Descriptor Area at {desc:#x}, {} descriptors",
        queue.size
    )?;
    for index in 0..queue.size {
        let one = queue.desc(index);
        if one == Descriptor::default() {
            continue;
        }
        descriptor(out, "", index, one, names)?;
        if !one.flags.contains(DescFlags::INDIRECT) {
            continue;
        }
        let inside = tables.and_then(|tables| {
            let offset = usize::try_from(one.addr.checked_sub(tables.addr())?).ok()?;
            let left = tables.len().checked_sub(offset)?;
            ((one.len as usize) <= left).then(|| tables.part(offset, one.len as usize))
        });
        if let Some(inside) = inside {
            table(out, "    ", inside, names)?;
        }
    }
    writeln!(out, "Driver Area at {driver:#x}, the available ring")?;
    available(out, queue)?;
    writeln!(out, "Device Area at {device:#x}, the used ring")?;
    used(out, queue)
}

/// What the registers read.
fn registers(out: &mut dyn Write, transport: &mut dyn Transport) -> fmt::Result {
    for register in Register::ALL {
        let offset = register.offset();
        write!(out, "  {offset:#05x}  ")?;
        if !register.is_readable() {
            writeln!(out, "{:20}(write-only)", Name(register))?;
            continue;
        }
        if register == Register::DeviceFeatures {
            let offered = transport.offered_features();
            writeln!(
                out,
                "{:20}{:#010x} and, for bits 32 to 63, {:#010x}",
                Name(register),
                offered.word(0),
                offered.word(1)
            )?;
            continue;
        }
        let value = transport.read(register);
        write!(out, "{:20}{value:#010x}", Name(register))?;
        match register {
            Register::Status => write!(out, "{}", Named(DeviceStatus::from_bits_retain(value)))?,
            Register::InterruptStatus => {
                write!(out, "{}", Named(InterruptStatus::from_bits_retain(value)))?;
            }
            Register::MagicValue => write!(out, " \"{}\"", value.to_le_bytes().escape_ascii())?,
            _ => {}
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The name of a register, in a column.
struct Name(Register);

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // The derived output is the name; as text it can be filled up.
        f.pad(&alloc::format!("{:?}", self.0))
    }
}
