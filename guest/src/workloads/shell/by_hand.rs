//! The commands for a queue that is worked by hand: descriptors, heads and notifications just as they
//! are typed, right or wrong, to see what the device makes of them. Nothing is checked but that what
//! is written here goes to the queue and its buffers.

use alloc::string::ToString;
use core::ops::RangeInclusive;

use spec::block::{REQUEST_QUEUE, RequestHeader, request_type};
use spec::mmio::{DeviceStatus, Register};
use spec::queue::{DESC_SIZE, DescFlags, Descriptor};

use super::arguments::parse;
use super::hand::{Hand, NOT_WRITTEN, QUEUE_SIZE};
use super::show::{self, Status};
use super::{Arguments, Disk, Next, Setting, Shell, Wrong};
use crate::hexdump::Hexdump;

/// How many moments a device has that has been notified: about a second.
const NOTIFIED: u32 = 50_000;

/// What a field of 16 bits may be.
const FIELD: RangeInclusive<u64> = 0..=u16::MAX as u64;

/// The disk whose queue is worked by hand: commands that need it are carried out only with it.
fn by_hand<'a, 'd, 'm>(disk: &'a mut Disk<'d, 'm>) -> Result<&'a mut Hand<'d, 'm>, Wrong> {
    match disk {
        Disk::ByHand(hand) => Ok(hand),
        _ => Err(Wrong::NotOpen),
    }
}

/// What a field of 16 bits is to be: the last word there is.
fn field(arguments: &mut Arguments<'_>) -> Result<u16, Wrong> {
    let number = arguments.number(FIELD)?;
    arguments.end()?;
    Ok(number as u16)
}

/// The flags of a descriptor, and the next one: `next`, `next=N`, `write`, `indirect`, `flags=N`.
fn flags(arguments: &mut Arguments<'_>, index: u16) -> Result<(DescFlags, u16), Wrong> {
    let (mut flags, mut next) = (DescFlags::empty(), 0);
    while let Some(word) = arguments.word() {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || parse(value, FIELD).map(|number| number as u16);
        match (name, value.is_empty()) {
            ("next", _) => {
                flags |= DescFlags::NEXT;
                next = match value {
                    "" => index.wrapping_add(1),
                    _ => number()?,
                };
            }
            ("write", true) => flags |= DescFlags::WRITE,
            ("indirect", true) => flags |= DescFlags::INDIRECT,
            ("flags", false) => flags |= DescFlags::from_bits_retain(number()?),
            _ => {
                return Err(Wrong::Choice {
                    word: word.into(),
                    choices: "next next=INDEX write indirect flags=BITS",
                });
            }
        }
    }
    Ok((flags, next))
}

/// The types of requests that have a name here.
const TYPES: [(&str, u32); 6] = [
    ("in", request_type::IN),
    ("out", request_type::OUT),
    ("flush", request_type::FLUSH),
    ("get_id", request_type::GET_ID),
    ("discard", request_type::DISCARD),
    ("write_zeroes", request_type::WRITE_ZEROES),
];

impl Shell<'_, '_, '_> {
    /// `hand`
    pub fn hand(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let size = arguments.number_or(QUEUE_SIZE.into(), 1..=256)?;
        arguments.end()?;
        if !size.is_power_of_two() {
            return Err(Wrong::Choice {
                word: size.to_string(),
                choices: "1 2 4 8 16 32 64 128 256",
            });
        }
        Ok(Next::Open {
            setting: Setting {
                by_hand: Some(size as u16),
                ..self.setting
            },
            again: false,
        })
    }

    /// `driver`
    pub fn driver(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        arguments.end()?;
        Ok(Next::Open {
            setting: Setting {
                by_hand: None,
                ..self.setting
            },
            again: false,
        })
    }

    /// `reset`
    pub fn reset(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        arguments.end()?;
        let (before, after) = match &mut self.disk {
            Disk::ByHand(hand) => {
                let before = hand.driver.transport.status();
                hand.reset()?;
                (before, hand.driver.transport.status())
            }
            Disk::Driven(driven) => {
                let before = driven.block.transport().status();
                writeln!(self.console, "  status was{}", show::Named(before))?;
                writeln!(self.console, "reset ok")?;
                return Ok(Next::Open {
                    setting: self.setting,
                    again: false,
                });
            }
            Disk::Closed => return Err(Wrong::NotOpen),
        };
        writeln!(self.console, "  status was{}", show::Named(before))?;
        writeln!(self.console, "  status is{}", show::Named(after))?;
        writeln!(self.console, "reset ok: the rings are empty")?;
        Ok(Next::Prompt)
    }

    /// `header`
    pub fn header(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let hand = by_hand(&mut self.disk)?;
        let word = arguments.needed()?;
        let named = TYPES.iter().find(|(name, _)| *name == word);
        let request_type = match named {
            Some((_, request_type)) => *request_type,
            None if word.starts_with(|char: char| char.is_ascii_digit()) => {
                parse(word, 0..=u64::from(u32::MAX))? as u32
            }
            None => {
                return Err(Wrong::Choice {
                    word: word.into(),
                    choices: "in out flush get_id discard write_zeroes, or a number",
                });
            }
        };
        let sector = arguments.number_or(0, 0..=u64::MAX)?;
        arguments.end()?;
        let header = RequestHeader {
            request_type,
            sector,
        };
        hand.header.write(0, &header.to_bytes());
        writeln!(
            self.console,
            "header at {:#x}: type {request_type}, sector {sector}",
            hand.header.addr()
        )?;
        Ok(Next::Prompt)
    }

    /// `put`
    pub fn put(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let hand = by_hand(&mut self.disk)?;
        let buffer = hand.buffer(arguments.needed()?)?;
        let mut bytes = alloc::vec![arguments.number(0..=0xff)? as u8];
        while let Some(word) = arguments.word() {
            bytes.push(parse(word, 0..=0xff)? as u8);
        }
        if bytes.len() > buffer.len() {
            return Err(Wrong::Number {
                word: bytes.len().to_string(),
                range: 1..=buffer.len() as u64,
            });
        }
        buffer.write(0, &bytes);
        writeln!(
            self.console,
            "put bytes={} at {:#x} ok",
            bytes.len(),
            buffer.addr()
        )?;
        Ok(Next::Prompt)
    }

    /// `dump`
    pub fn dump(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let hand = by_hand(&mut self.disk)?;
        let buffer = hand.buffer(arguments.needed()?)?;
        let most = buffer.len() as u64;
        let len = arguments.number_or(most.min(512), 1..=most)? as usize;
        arguments.end()?;
        let mut bytes = alloc::vec![0; len];
        buffer.read(0, &mut bytes);
        if len < 16 {
            writeln!(self.console, "{:08x}  {bytes:02x?}", buffer.addr())?;
            return Ok(Next::Prompt);
        }
        let mut dump = Hexdump::new(buffer.addr());
        dump.feed(self.console, &bytes)?;
        dump.finish(self.console)?;
        Ok(Next::Prompt)
    }

    /// `desc`
    pub fn desc(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let hand = by_hand(&mut self.disk)?;
        let Some(word) = arguments.word() else {
            show::table(self.console, "", hand.driver.queue.desc, &hand.buffers())?;
            return Ok(Next::Prompt);
        };
        let slot = hand.slot(word)?;
        if let Some(address) = arguments.word() {
            let addr = hand.address(address)?;
            let len = arguments.number(0..=u64::from(u32::MAX))? as u32;
            let (flags, next) = flags(arguments, slot.index)?;
            let descriptor = Descriptor {
                addr,
                len,
                flags,
                next,
            };
            slot.memory.write(0, &descriptor.to_bytes());
        }
        let mut bytes = [0; DESC_SIZE as usize];
        slot.memory.read(0, &mut bytes);
        let descriptor = Descriptor::from_bytes(bytes);
        show::descriptor(self.console, "", slot.index, descriptor, &hand.buffers())?;
        Ok(Next::Prompt)
    }

    /// `avail`
    pub fn avail(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let hand = by_hand(&mut self.disk)?;
        let queue = &mut hand.driver.queue;
        match arguments.word() {
            None => {}
            Some("idx") => {
                queue.avail_idx = field(arguments)?;
                queue.set_avail_idx(queue.avail_idx);
                hand.kicked = false;
            }
            Some("flags") => queue.set_avail_flags(field(arguments)?),
            Some("event") => queue.set_used_event(field(arguments)?),
            Some(head) => {
                let mut heads = alloc::vec![parse(head, FIELD)? as u16];
                while let Some(head) = arguments.word() {
                    heads.push(parse(head, FIELD)? as u16);
                }
                // What it is afterwards is what the device has made it.
                hand.status.fill(NOT_WRITTEN);
                heads.into_iter().for_each(|head| queue.offer(head));
                hand.kicked = false;
            }
        }
        show::available(self.console, &hand.driver.queue)?;
        Ok(Next::Prompt)
    }

    /// `kick`
    pub fn kick(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        let most = match self.disk {
            Disk::ByHand(_) => u32::MAX,
            _ => REQUEST_QUEUE.into(),
        };
        let number = arguments.number_or(0, 0..=most.into())? as u32;
        arguments.end()?;
        let Disk::ByHand(hand) = &mut self.disk else {
            return self.kick_driven();
        };
        hand.driver.kick(number);
        hand.kicked = true;
        writeln!(
            self.console,
            "kick queue={number} ok: {number} was written to QueueNotify at +{:#x}",
            Register::QueueNotify.offset()
        )?;
        Ok(Next::Prompt)
    }

    /// `used`
    pub fn used(&mut self, arguments: &mut Arguments<'_>) -> Result<Next, Wrong> {
        arguments.end()?;
        let hand = by_hand(&mut self.disk)?;
        let driver = &mut hand.driver;
        for _ in 0..NOTIFIED {
            let queue = &driver.queue;
            let idx = queue.used_idx();
            let done = idx == queue.avail_idx || !hand.kicked;
            if done
                || driver
                    .transport
                    .status()
                    .contains(DeviceStatus::DEVICE_NEEDS_RESET)
            {
                break;
            }
            driver.transport.pause();
        }
        let mut entries = 0;
        while let Some(used) = driver.queue.take_used() {
            let idx = driver.queue.used_seen.wrapping_sub(1);
            let refused = if used.len == 0 {
                ": nothing was written"
            } else {
                ""
            };
            writeln!(
                self.console,
                "  entry {idx}  id {} len {}{refused}",
                used.id, used.len
            )?;
            entries += 1;
        }
        let mut status = [0];
        hand.status.read(0, &mut status);
        let events = driver.transport.take_events();
        let device = driver.transport.status();
        writeln!(
            self.console,
            "  used.idx {}, avail.idx {}{}\n  status byte {}\n  interrupts since the last look:{}",
            driver.queue.used_idx(),
            driver.queue.avail_idx,
            if hand.kicked { "" } else { ", not kicked" },
            Status(status[0]),
            show::Named(events)
        )?;
        if device.contains(DeviceStatus::DEVICE_NEEDS_RESET) {
            writeln!(
                self.console,
                "  device status{}: `reset` brings it back",
                show::Named(device)
            )?;
        }
        writeln!(self.console, "used entries={entries} ok")?;
        Ok(Next::Prompt)
    }
}
