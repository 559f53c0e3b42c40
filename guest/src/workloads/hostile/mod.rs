//! `run=hostile case=NAME`: a guest that lies. Each case does to the device what a hostile guest
//! would, and sees that the device survives it and serves the next request. Here cases are chosen,
//! run in their modes, and told of in TAP 14; what they do is in the files beside this one.

use core::fmt::Write;

use spec::Features;
use spec::block::{SECTOR_SIZE, config, status};
use spec::mmio::{DEVICE_ID_BLOCK, Register};

use super::params::Parameters;
use super::{Environment, Failure, Machine, find};
use crate::cmdline::Window;
use crate::dma::{Arena, Region};
use crate::rng::pattern;
use crate::virtio::Error;

mod buffers;
mod cache;
mod case;
mod chains;
mod descriptors;
mod discard;
mod framing;
mod lanes;
mod notifications;
mod open;
mod queues;
mod registers;
mod requests;
mod rings;
mod scene;
mod seen;
mod setup;
mod smp;
mod smp_attacks;
mod smp_ground;
mod tap;
mod yard;

use case::{Case, DIRECT, Mode, Run};
use scene::{Disk, QUEUE_SIZE, SECTOR, Scene};
use seen::{Broken, Checks, Outcome};
use tap::Title;

/// How many of the first sectors of the disk the cases know, and may write.
const KNOWN: usize = 16;
/// The least disk that the cases can do with, in sectors.
const MIN_CAPACITY: u64 = 2 * KNOWN as u64;
/// What a writable disk holds in its first sectors when the cases are run: the pattern of this seed.
const SEED: u64 = 1;
/// How much of the end of RAM is for the cases, in bytes.
const TAIL: usize = 4096;

const CASES: [&[Case]; 12] = [
    &rings::CASES,
    &notifications::CASES,
    &setup::CASES,
    &chains::CASES,
    &buffers::CASES,
    &framing::CASES,
    &requests::CASES,
    &discard::CASES,
    &cache::CASES,
    &queues::CASES,
    &smp::CASES,
    &registers::CASES,
];

/// The names of all cases.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    CASES.into_iter().flatten().map(|case| case.name)
}

/// The machine, before the device is brought up.
struct Stage<'s, 'm> {
    machine: &'s mut dyn Machine,
    /// Where the device is.
    window: Window,
    /// Memory for this case.
    arena: Arena<'m>,
    /// The last page of the RAM below the hole for devices; empty where the guest has not got it.
    tail: Region<'m>,
    disk: Disk<'m>,
    mode: Mode,
    checks: Checks,
}

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let Environment {
        command_line,
        console,
        machine,
        arena,
        ram,
    } = environment;
    let wanted = parameters.value("case").unwrap_or("all");
    if wanted == "list" {
        return list(&mut **console);
    }
    let is_wanted = |case: &&Case| wanted == "all" || case.name == wanted;
    let cases = || CASES.into_iter().flatten().filter(is_wanted);
    if cases().next().is_none() {
        return Err(Failure::UnknownCase { value: wanted });
    }
    let window = find(*command_line, &mut **machine, parameters.disk()?)?;
    let mut arena = arena.scope();
    let contents = arena.alloc(KNOWN * SECTOR, SECTOR_SIZE)?;
    let disk = measure(&mut **machine, window, contents)
        .map_err(|error| Failure::Device { window, error })?;
    if disk.capacity < MIN_CAPACITY {
        return Err(Failure::DiskTooSmall {
            capacity: disk.capacity,
            needed: MIN_CAPACITY,
        });
    }
    let ram = ram.scope().rest();
    let mut stage = Stage {
        machine: &mut **machine,
        window,
        arena,
        tail: ram.part(ram.len().saturating_sub(TAIL), ram.len().min(TAIL)),
        disk,
        mode: DIRECT[0],
        checks: Checks::NONE,
    };
    stage.prepare()?;

    let plan: usize = cases().map(|case| case.modes.len()).sum();
    writeln!(console, "TAP version 14\n1..{plan}")?;
    let in_modes = |case: &'static Case| case.modes.iter().map(move |mode| (case, *mode));
    let tally = stage.play_all(cases().flat_map(in_modes), &mut **console);
    if let Err(failure) = &tally {
        writeln!(console, "Bail out! {failure}")?;
    }
    let Tally { failed, skipped } = tally?;
    if failed > 0 {
        let cases = plan as u32;
        return Err(Failure::Cases { failed, cases });
    }
    writeln!(console, "# hostile cases={plan} skipped={skipped} ok")?;
    Ok(())
}

/// How many of the cases were not as they should be.
#[derive(Default)]
struct Tally {
    failed: u32,
    skipped: u32,
}

/// Prints the names of all cases, and what each stands for.
fn list<'e>(console: &mut dyn Write) -> Result<(), Failure<'e>> {
    for case in CASES.into_iter().flatten() {
        writeln!(console, "{:28} {}", case.name, case.hazard)?;
    }
    Ok(())
}

/// What the device says of itself. In `contents` is what a writable disk is to hold.
fn measure<'m>(
    machine: &mut dyn Machine,
    window: Window,
    contents: Region<'m>,
) -> Result<Disk<'m>, Error> {
    let transport = machine.device(window)?;
    transport.check(DEVICE_ID_BLOCK)?;
    transport.reset()?;
    transport.write(Register::QueueSel, 0);
    let queue_num_max = transport.read(Register::QueueNumMax);
    if queue_num_max < u32::from(QUEUE_SIZE) {
        return Err(Error::NoQueue(0));
    }
    for i in 0..KNOWN {
        let mut sector = [0; SECTOR];
        pattern(SEED, i as u64, &mut sector);
        contents.write(i * SECTOR, &sector);
    }
    let offered = transport.offered_features();
    Ok(Disk {
        offered,
        queue_num_max,
        queues: match offered.contains(Features::VIRTIO_BLK_F_MQ) {
            true => transport.read_config_16(config::NUM_QUEUES),
            false => 1,
        },
        capacity: transport.read_config_64(config::CAPACITY),
        contents,
    })
}

impl Stage<'_, '_> {
    /// Runs `cases`, each in its mode, and tells of them.
    fn play_all<'e>(
        &mut self,
        cases: impl Iterator<Item = (&'static Case, Mode)>,
        console: &mut dyn Write,
    ) -> Result<Tally, Failure<'e>> {
        let mut tally = Tally::default();
        for ((case, mode), number) in cases.zip(1..) {
            (self.mode, self.checks) = (mode, Checks::NONE);
            let title = Title { number, case, mode };
            if let Some(reason) = case.skip(mode, &self.disk, self.machine.cpus()) {
                writeln!(console, "ok {title} # SKIP {reason}")?;
                tally.skipped += 1;
                continue;
            }
            let outcome = self.play(case)?;
            title.print(console, &outcome, self.checks)?;
            if outcome.is_err() {
                tally.failed += 1;
                self.prepare()?;
            }
        }
        Ok(tally)
    }

    /// Runs `case`, and sees that the device goes on.
    fn play<'e>(&mut self, case: &Case) -> Result<Outcome, Failure<'e>> {
        let before = match case.run {
            Run::Machine(run) | Run::Cpus(run) => run(self),
            Run::Device(_) => Ok(()),
        };
        let window = self.window;
        let mut scene = Scene::begin(self).map_err(|error| Failure::Device { window, error })?;
        let during = before.and_then(|()| match case.run {
            Run::Device(run) => run(&mut scene),
            Run::Machine(_) | Run::Cpus(_) => Ok(()),
        });
        Ok(during.and_then(|()| scene.finish(case.resets)))
    }

    /// Brings the device up, and sees to it that what is on the disk is known.
    fn prepare<'e>(&mut self) -> Result<(), Failure<'e>> {
        self.mode = DIRECT[0];
        let window = self.window;
        let cannot_be_driven = |error| Failure::Device { window, error };
        let mut scene = Scene::begin(self).map_err(cannot_be_driven)?;
        scene.prepare().map_err(|broken| match broken {
            Broken::Driver(error) => cannot_be_driven(error),
            Broken::Differs { .. } => Failure::Request {
                what: "preparing the disk",
                lba: 0,
                error: Error::Status(status::IOERR),
            },
        })
    }
}
