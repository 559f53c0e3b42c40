//! A disk as the driver has it, and the commands that make requests. What is shown of its queue is
//! in `show`.

use core::fmt::{self, Write};

use crc32fast::Hasher;
use spec::Features;
use spec::block::{REQUEST_QUEUE, RequestHeader, SECTOR_SIZE, request_type};

use super::super::extent::Extent;
use super::super::{Failure, writable};
use super::{Arguments, Disk, Next, Shell, Wrong};
use crate::dma::{Arena, Region};
use crate::hexdump::Hexdump;
use crate::virtio::block::{Completion, Wait};
use crate::virtio::queue::Buffer;
use crate::virtio::{Block, Error, Options, Transport};

/// Size of the buffer for data, in bytes: that of the largest request.
pub const BUFFER_SIZE: usize = 64 << 10;
/// Size of a sector, in bytes.
const SECTOR: usize = SECTOR_SIZE as usize;
/// How many moments a device has that is not notified, and may look by itself: some ten
/// milliseconds.
const UNNOTIFIED: u32 = 1000;
/// The most requests of a benchmark.
const BENCH_MAX: u64 = 1_000_000;

/// A disk that the driver has.
pub struct Driven<'d, 'm> {
    pub block: Block<'d, 'm>,
    /// For the data of the request that is in flight.
    pub buffer: Region<'m>,
    /// How the driver waits.
    wait: Wait,
    /// Whether the device is notified of requests.
    notifies: bool,
    counts: Counts,
}

/// What has been done since the device was brought up.
#[derive(Default)]
struct Counts {
    requests: u64,
    failed: u64,
    read: u64,
    written: u64,
}

impl<'d, 'm> Driven<'d, 'm> {
    /// Brings the device up.
    pub fn new(
        transport: &'d mut dyn Transport,
        options: &Options,
        arena: &mut Arena<'m>,
    ) -> Result<Self, Error> {
        let block = Block::new(transport, options, arena)?;
        Ok(Self {
            block,
            buffer: arena.alloc(BUFFER_SIZE, SECTOR_SIZE)?,
            wait: options.wait,
            notifies: true,
            counts: Counts::default(),
        })
    }

    /// Reads `len` bytes from the sector `lba` on into the buffer.
    pub fn read(&mut self, lba: u64, len: usize) -> Result<(), Wrong> {
        let data = [Buffer::writable(self.buffer.part(0, len))];
        self.request("read", request_type::IN, lba, &data)?;
        self.counts.read += len as u64;
        Ok(())
    }

    /// Writes the first `len` bytes of the buffer to the sectors from `lba` on.
    fn write(&mut self, lba: u64, len: usize) -> Result<(), Wrong> {
        let data = [Buffer::readable(self.buffer.part(0, len))];
        self.request("write", request_type::OUT, lba, &data)?;
        self.counts.written += len as u64;
        Ok(())
    }

    /// Commits what has been written to stable storage, where the device has a flush.
    fn flush(&mut self) -> Result<(), Wrong> {
        let accepted = self.block.info().accepted;
        match accepted.contains(Features::VIRTIO_BLK_F_FLUSH) {
            true => self.request("flush", request_type::FLUSH, 0, &[]),
            false => Ok(()),
        }
    }

    /// Makes one request and waits for it.
    fn request(
        &mut self,
        what: &'static str,
        request_type: u32,
        sector: u64,
        data: &[Buffer<'m>],
    ) -> Result<(), Wrong> {
        self.check_idle()?;
        self.counts.requests += 1;
        let header = RequestHeader {
            request_type,
            sector,
        };
        let completion = self.block.submit(header, data).and_then(|_| self.wait());
        match completion.and_then(|done| done.map(Completion::ok).transpose()) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Wrong::NotNotified),
            Err(error) => {
                self.counts.failed += 1;
                Err(Failure::request(what, sector)(error).into())
            }
        }
    }

    /// Waits for the request that has been submitted; none where the device does not come to it as
    /// it has not been notified.
    fn wait(&mut self) -> Result<Option<Completion>, Error> {
        if self.notifies {
            self.block.notify();
            return self.block.wait().map(Some);
        }
        for _ in 0..UNNOTIFIED {
            if let Some(completion) = self.block.poll()? {
                return Ok(Some(completion));
            }
            self.block.transport().pause();
        }
        Ok(None)
    }

    /// Sees that no request is in flight, whose buffer would be used for another.
    fn check_idle(&self) -> Result<(), Wrong> {
        match self.block.in_flight() {
            0 => Ok(()),
            _ => Err(Error::Busy.into()),
        }
    }
}

/// The disk that the driver has: commands that need it are carried out only with it.
fn driven<'a, 'd, 'm>(disk: &'a mut Disk<'d, 'm>) -> Result<&'a mut Driven<'d, 'm>, Wrong> {
    match disk {
        Disk::Driven(driven) => Ok(driven),
        _ => Err(Wrong::NotOpen),
    }
}

/// Takes `LBA [COUNT]`.
fn sectors(arguments: &mut Arguments<'_>) -> Result<(u64, u64), Wrong> {
    let lba = arguments.number(0..=u64::MAX)?;
    Ok((lba, arguments.number_or(1, 1..=u64::MAX)?))
}

impl Shell<'_, '_, '_> {
    /// `read`
    pub fn read(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let (lba, count) = sectors(arguments)?;
        arguments.end()?;
        let mut dump = Hexdump::new(lba.saturating_mul(SECTOR_SIZE));
        let crc = self.each_sector(lba, count, |console, sector| dump.feed(console, sector))?;
        dump.finish(self.console)?;
        writeln!(
            self.console,
            "read lba={lba} count={count} crc32={crc:08x} ok"
        )?;
        Ok(Next::Prompt)
    }

    /// `crc`
    pub fn crc(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let (lba, count) = sectors(arguments)?;
        arguments.end()?;
        let crc = self.each_sector(lba, count, |_, _| Ok(()))?;
        writeln!(
            self.console,
            "crc lba={lba} count={count} crc32={crc:08x} ok"
        )?;
        Ok(Next::Prompt)
    }

    /// Reads sectors, has each of them seen, and returns the CRC-32 of them all.
    fn each_sector(
        &mut self,
        lba: u64,
        count: u64,
        mut see: impl FnMut(&mut dyn Write, &[u8]) -> fmt::Result,
    ) -> Result<u32, Wrong> {
        let driven = driven(&mut self.disk)?;
        let mut crc = Hasher::new();
        for (lba, len) in Extent::large(driven.block.info(), lba, count)? {
            driven.read(lba, len)?;
            let mut sector = [0; SECTOR];
            for offset in (0..len).step_by(SECTOR) {
                driven.buffer.read(offset, &mut sector);
                crc.update(&sector);
                see(self.console, &sector)?;
            }
        }
        Ok(crc.finalize())
    }

    /// `write`
    pub fn write(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let lba = arguments.number(0..=u64::MAX)?;
        let text = arguments.rest();
        if text.is_empty() {
            return Err(Wrong::Words);
        }
        let driven = driven(&mut self.disk)?;
        writable(driven.block.info())?;
        let count = text.len().div_ceil(SECTOR);
        for (i, (lba, _)) in
            Extent::new(driven.block.info(), lba, count as u64, SECTOR)?.enumerate()
        {
            driven.check_idle()?;
            let piece = &text.as_bytes()[i * SECTOR..];
            driven.buffer.part(0, SECTOR).fill(0);
            driven.buffer.write(0, &piece[..piece.len().min(SECTOR)]);
            driven.write(lba, SECTOR)?;
        }
        driven.flush()?;
        writeln!(
            self.console,
            "write lba={lba} count={count} bytes={} ok",
            text.len()
        )?;
        Ok(Next::Prompt)
    }

    /// `fill`
    pub fn fill(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let lba = arguments.number(0..=u64::MAX)?;
        let count = arguments.number(1..=u64::MAX)?;
        let byte = arguments.number_or(0, 0..=0xff)? as u8;
        arguments.end()?;
        let driven = driven(&mut self.disk)?;
        writable(driven.block.info())?;
        let requests = Extent::large(driven.block.info(), lba, count)?;
        driven.check_idle()?;
        driven.buffer.fill(byte);
        for (lba, len) in requests {
            driven.write(lba, len)?;
        }
        driven.flush()?;
        writeln!(
            self.console,
            "fill lba={lba} count={count} byte={byte:#04x} ok"
        )?;
        Ok(Next::Prompt)
    }

    /// `notify`
    pub fn notify(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let driven = driven(&mut self.disk)?;
        let notifies = match arguments.word() {
            None => driven.notifies,
            Some("on") => true,
            Some("off") => false,
            Some(word) => {
                return Err(Wrong::Choice {
                    word: word.into(),
                    choices: "on off",
                });
            }
        };
        arguments.end()?;
        driven.notifies = notifies;
        let notifies = if notifies { "on" } else { "off" };
        writeln!(self.console, "notify {notifies}")?;
        Ok(Next::Prompt)
    }

    /// `irq`
    pub fn irq(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        self.set_wait(arguments, Wait::Irq)
    }

    /// `poll`
    pub fn poll(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        self.set_wait(arguments, Wait::Poll)
    }

    fn set_wait(&mut self, arguments: &mut Arguments<'_>, wait: Wait) -> Result<Next, Wrong> {
        arguments.end()?;
        let driven = driven(&mut self.disk)?;
        driven.wait = wait;
        driven.block.set_wait(wait);
        self.setting.options.wait = wait;
        let how = match wait {
            Wait::Irq => "halts until the device interrupts",
            Wait::Poll => "looks at the used ring, and wants no interrupts",
        };
        writeln!(self.console, "the driver {how}")?;
        Ok(Next::Prompt)
    }

    /// `stats`
    pub fn stats(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        arguments.end()?;
        let Driven {
            block,
            wait,
            notifies,
            counts,
            ..
        } = driven(&mut self.disk)?;
        let Counts {
            requests,
            failed,
            read,
            written,
        } = counts;
        let in_flight = block.in_flight();
        writeln!(
            self.console,
            "  requests       {requests}, {failed} failed, {in_flight} in flight\n  \
             data           {read} bytes read, {written} written\n  \
             notifications  {}{}\n  \
             interrupts     {} since the machine was started\n  \
             waiting        {}",
            block.notifications(),
            if *notifies { "" } else { ", off" },
            block.interrupts(),
            match wait {
                Wait::Irq => "for interrupts",
                Wait::Poll => "by polling",
            }
        )?;
        Ok(Next::Prompt)
    }

    /// `bench`
    pub fn bench(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let requests = arguments.number_or(100, 1..=BENCH_MAX)?;
        let count = arguments.number_or(8, 1..=(BUFFER_SIZE / SECTOR) as u64)?;
        arguments.end()?;
        let clock = self.clock;
        let driven = driven(&mut self.disk)?;
        // Sees that there is a whole request on the disk, and that the device takes it.
        let mut request = Extent::large(driven.block.info(), 0, count)?;
        let len = request.next().map_or(0, |(_, len)| len);
        let places = driven.block.info().capacity / count;
        let interrupts = driven.block.interrupts();
        let notifications = driven.block.notifications();
        let (mut least, mut most, mut sum) = (u64::MAX, 0, 0_u64);
        for i in 0..requests {
            let begin = clock();
            driven.read(i % places * count, len)?;
            let ticks = clock().saturating_sub(begin);
            (least, most) = (least.min(ticks), most.max(ticks));
            sum = sum.saturating_add(ticks);
        }
        let interrupts = driven.block.interrupts() - interrupts;
        let notifications = driven.block.notifications() - notifications;
        writeln!(
            self.console,
            "  ticks of the TSC a request: {} on average, {least} to {most}\n  \
             {notifications} notifications, {interrupts} interrupts\n\
             bench requests={requests} bytes={len} ok",
            sum / requests
        )?;
        Ok(Next::Prompt)
    }

    /// `kick`, of the queue that the driver has.
    pub fn kick_driven(&mut self) -> Result<Next, Wrong> {
        let driven = driven(&mut self.disk)?;
        driven.block.transport().notify(REQUEST_QUEUE);
        if driven.block.in_flight() == 0 {
            writeln!(
                self.console,
                "kick queue={REQUEST_QUEUE} ok: nothing was in flight"
            )?;
            return Ok(Next::Prompt);
        }
        let Completion {
            token,
            written,
            status,
        } = driven.block.wait()?;
        let status = super::show::Status(status);
        writeln!(
            self.console,
            "  head {token} has been used: {written} bytes written, status {status}\n\
             kick queue={REQUEST_QUEUE} ok"
        )?;
        Ok(Next::Prompt)
    }
}
