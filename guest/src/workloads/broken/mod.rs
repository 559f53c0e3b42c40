//! `run=broken bug=N`: writes sectors one at a time and reads them back four at a time, by a driver
//! that makes the mistake of exercise N. It tells the symptom, as a user would see it, and never the
//! cause: `docs/src/broken.md` has that found.

use spec::Features;
use spec::block::{config, request_type};

use super::params::Parameters;
use super::{Environment, Failure, find};
use crate::virtio::Error;

mod driver;

use driver::{DEPTH, Driver, SECTOR};

/// How many mistakes there are.
const BUGS: u64 = 5;
/// How many of the first sectors of the disk are written.
const SECTORS: u64 = 16;

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let (console, machine, arena) = environment.parts();
    let bug = parameters.required_number("bug", 0..=BUGS)?;
    let window = find(parameters.command_line(), machine, parameters.disk()?)?;
    let cannot_be_driven = |error| Failure::Device { window, error };
    let transport = machine.device(window).map_err(cannot_be_driven)?;
    let capacity = transport.read_config_64(config::CAPACITY);
    if capacity < SECTORS {
        let needed = SECTORS;
        return Err(Failure::DiskTooSmall { capacity, needed });
    }
    if transport
        .offered_features()
        .contains(Features::VIRTIO_BLK_F_RO)
    {
        return Err(Failure::ReadOnly);
    }
    let mut driver = Driver::new(transport, bug, arena).map_err(cannot_be_driven)?;

    for lba in 0..SECTORS {
        driver.data(0).fill(contents(lba));
        transfer(&mut driver, ("write", request_type::OUT), lba, 1)?;
    }
    for lba in (0..SECTORS).step_by(DEPTH.into()) {
        transfer(&mut driver, ("read", request_type::IN), lba, DEPTH)?;
        for slot in 0..DEPTH {
            compare(&driver, slot, lba + u64::from(slot))?;
        }
    }
    writeln!(console, "broken bug={bug} requests={} ok", driver.completed)?;
    Ok(())
}

/// What each byte of a sector is to hold.
const fn contents(lba: u64) -> u8 {
    lba as u8 + 1
}

/// Makes `count` requests at once, from `lba` on.
fn transfer<'e>(
    driver: &mut Driver<'_, '_>,
    (what, request_type): (&'static str, u32),
    lba: u64,
    count: u16,
) -> Result<(), Failure<'e>> {
    driver
        .transfer(request_type, lba, count)
        .map_err(|(slot, error)| failure(driver, what, lba + u64::from(slot), error))
}

/// What a user is told of a request that has not succeeded.
#[inline(never)] // a debugger stops here, while the driver is as it was
fn failure<'e>(driver: &Driver<'_, '_>, what: &'static str, lba: u64, error: Error) -> Failure<'e> {
    let (submitted, completed) = (driver.submitted, driver.completed);
    match error {
        Error::NotUsed => Failure::NoCompletion {
            what,
            lba,
            submitted,
            completed,
        },
        error => Failure::Request { what, lba, error },
    }
}

/// Sees that the request in `slot` has read what sector `lba` is to hold.
#[inline(never)] // as `failure`
fn compare<'e>(driver: &Driver<'_, '_>, slot: u16, lba: u64) -> Result<(), Failure<'e>> {
    let mut sector = [0; SECTOR];
    driver.data(slot).read(0, &mut sector);
    let expected = contents(lba);
    match (0..).zip(sector).find(|&(_, found)| found != expected) {
        None => Ok(()),
        Some((offset, found)) => Err(Failure::Mismatch {
            lba,
            offset,
            expected,
            found,
        }),
    }
}
