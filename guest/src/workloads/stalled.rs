//! `run=stalled disk=D beside=B rounds=N`: makes requests to a disk that is slow, and does not wait
//! for them: another disk is read, with interrupts, ports are used and time passes, as often as it is
//! told to. It fails where the first disk has answered all by then: it was not slow.

use spec::Features;
use spec::block::{HEADER_SIZE, RequestHeader, SECTOR_SIZE, request_type};
use spec::mmio::DEVICE_ID_BLOCK;
use spec::queue::{self, DESC_SIZE, DescFlags, Descriptor};

use super::params::Parameters;
use super::{Environment, Failure, Machine, find, open};
use crate::cmdline::Window;
use crate::dma::{Arena, Region};
use crate::virtio::raw::{RawDriver, RawQueue};
use crate::virtio::{Error, Options, Width};

/// How many requests the slow disk has at once.
const IN_FLIGHT: u16 = 8;
/// Descriptors of each.
const CHAIN: u16 = 3;
/// Size of its queue, in descriptors.
const QUEUE_SIZE: u16 = 32;
/// An I/O port where nothing is.
const NO_PORT: u16 = 0x5a5a;

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let (console, machine, arena) = environment.parts();
    let (command_line, disk) = (parameters.command_line(), parameters.disk()?);
    let rounds = parameters.number("rounds", 1, 1..=u64::MAX)?;
    let beside = parameters.number("beside", 1, 0..=u64::MAX)?;
    let window = find(command_line, machine, disk)?;
    let slow = |error| Failure::Device { window, error };
    let mut arena = arena.scope();
    let mut queue = submit(machine, window, &mut arena).map_err(slow)?;
    let buffer = arena.alloc(SECTOR_SIZE as usize, SECTOR_SIZE)?;
    for _ in 0..rounds {
        let mut room = arena.scope();
        let options = Options::default();
        let mut block = open(command_line, machine, beside, &options, &mut room)?;
        block.read(0, buffer).map_err(Failure::request("read", 0))?;
        drop(block);
        _ = machine.read_port(NO_PORT, Width::One);
        let transport = machine.device(window).map_err(slow)?;
        _ = transport.status();
        transport.pause();
    }
    let answered = core::iter::from_fn(|| queue.take_used()).count();
    // The device is left at it: a reset would wait for what it has begun.
    if answered == usize::from(IN_FLIGHT) {
        return Err(Failure::NotSlow);
    }
    writeln!(
        console,
        "stalled disk={disk} beside={beside} rounds={rounds} ok"
    )?;
    Ok(())
}

/// Brings the device at `window` up and has it read the first sector, many times at once.
fn submit<'m>(
    machine: &mut dyn Machine,
    window: Window,
    arena: &mut Arena<'m>,
) -> Result<RawQueue<'m>, Error> {
    let mut area = |len: u64| arena.alloc(len as usize, DESC_SIZE);
    let areas = [
        area(queue::desc_table_size(QUEUE_SIZE))?,
        area(queue::avail_ring_size(QUEUE_SIZE))?,
        area(queue::used_ring_size(QUEUE_SIZE))?,
    ];
    let (header, data, status) = (area(HEADER_SIZE as u64)?, area(SECTOR_SIZE)?, area(1)?);
    let read = RequestHeader {
        request_type: request_type::IN,
        sector: 0,
    };
    header.write(0, &read.to_bytes());
    let transport = machine.device(window)?;
    transport.check(DEVICE_ID_BLOCK)?;
    let mut driver = RawDriver {
        transport,
        queue: RawQueue::new(QUEUE_SIZE, areas),
    };
    driver.bring_up(Features::VIRTIO_F_VERSION_1)?;
    let buffer = |region: Region<'_>, flags, next| Descriptor {
        addr: region.addr(),
        len: region.len() as u32,
        flags,
        next,
    };
    for head in (0..IN_FLIGHT).map(|request| CHAIN * request) {
        let chain = [
            buffer(header, DescFlags::NEXT, head + 1),
            buffer(data, DescFlags::NEXT | DescFlags::WRITE, head + 2),
            buffer(status, DescFlags::WRITE, 0),
        ];
        for (index, descriptor) in (head..).zip(chain) {
            driver.queue.set_desc(index, descriptor);
        }
        driver.queue.offer(head);
    }
    driver.kick(0);
    Ok(driver.queue)
}
