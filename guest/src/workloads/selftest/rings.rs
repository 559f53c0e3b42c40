//! Many requests: in flight at once, one after the other around the ring, and left behind by a
//! reset.

use spec::block::{RequestHeader, request_type, status};

use super::{Bench, Case, DiskKind, Modes, SECTOR, promise};
use crate::virtio::Error;
use crate::virtio::block::Token;
use crate::virtio::queue::{Buffer, MAX_QUEUE_SIZE};
use crate::workloads::failure::Reason;

/// How many times a small ring is gone around.
const TURNS: u64 = 16;
const SMALL_QUEUE: u16 = 4;

const fn case(
    name: &'static str,
    modes: Modes,
    queue_size: Option<u16>,
    run: fn(&mut Bench<'_, '_, '_>) -> Result<(), Reason>,
) -> Case {
    Case {
        name,
        disk: DiskKind::Any,
        modes,
        queue_size,
        run,
    }
}

pub(super) const CASES: [Case; 4] = [
    case("queue full", Modes::Descriptors, None, queue_full),
    case(
        "as many requests as a small queue holds",
        Modes::All,
        Some(16),
        queue_full,
    ),
    case("around a small ring", Modes::All, Some(SMALL_QUEUE), around),
    case(
        "reset with requests in flight",
        Modes::Descriptors,
        None,
        reset_in_flight,
    ),
];

/// Fills the queue before the device is notified once; each request comes back once.
fn queue_full(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let capacity = bench.block.capacity(1);
    // Twice: the second time with a free list that is no longer in order.
    for _ in 0..2 {
        let mut in_flight = [false; MAX_QUEUE_SIZE as usize];
        for i in 0..capacity {
            let token = submit(bench, i)?;
            let twice = core::mem::replace(&mut in_flight[usize::from(token)], true);
            promise(!twice, "a token was given out twice")?;
        }
        promise(
            submit(bench, 0) == Err(Error::QueueFull),
            "a full queue took a request",
        )?;
        bench.block.notify();
        for _ in 0..capacity {
            let done = bench.block.wait()?;
            promise(done.status == status::OK, "a read failed")?;
            let known = core::mem::replace(&mut in_flight[usize::from(done.token)], false);
            promise(known, "a request completed twice")?;
        }
    }
    promise(
        bench.block.in_flight() == 0,
        "there are more completions than requests",
    )
}

/// One read at a time, so that every index passes the end of the ring again and again.
fn around(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    for lba in 0..TURNS * u64::from(SMALL_QUEUE) {
        bench.block.read(lba, bench.data.part(0, SECTOR))?;
    }
    Ok(())
}

/// Leaves with requests that the device has seen, and some that it has not been told of. That
/// the next case finds a device that works is the test.
fn reset_in_flight(bench: &mut Bench<'_, '_, '_>) -> Result<(), Reason> {
    let capacity = bench.block.capacity(1);
    for i in 0..capacity {
        submit(bench, i)?;
        if i == capacity / 2 {
            bench.block.notify();
        }
    }
    Ok(())
}

/// Submits a read of the sector `i` into a buffer of its own.
fn submit(bench: &mut Bench<'_, '_, '_>, i: u16) -> Result<Token, Error> {
    let header = RequestHeader {
        request_type: request_type::IN,
        sector: i.into(),
    };
    let buffer = bench.data.part(usize::from(i) * SECTOR, SECTOR);
    bench.block.submit(header, &[Buffer::writable(buffer)])
}
