//! Several CPUs at one device: the first submits requests and waits for them, the others change them
//! meanwhile, or reset the device. Afterwards the disk holds only what a request could rightly have
//! written. What is changed, and how, is in `smp_attacks`.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use spec::Features;
use spec::mmio::DeviceStatus;
use spec::queue::RING_IDX;

use super::case::{Case, DiskKind, Mode, Run};
use super::scene::SECTOR;
use super::seen::{Checks, Outcome, Seen};
use super::smp_attacks as attacks;
use super::smp_ground::{FREE, Ground, NEW, REQUESTS, head, is_read};
use super::yard::is_filled;
use super::{KNOWN, Stage};
use crate::dma::Region;
use crate::rng::Rng;
use crate::virtio::block::Wait;
use crate::virtio::raw::{RawDriver, RawQueue};
use crate::virtio::{Block, Options, Transport};

/// The sectors that requests may write, which are behind those that the other cases know.
pub(super) const FIRST: u64 = KNOWN as u64;
pub(super) const SECTORS: u64 = 48;
/// The least disk that these cases can do with, in sectors.
pub(super) const MIN_CAPACITY: u64 = FIRST + SECTORS;
/// How many of them a request may be for that nobody has changed. A chain of all descriptors that
/// there are does not lead from these to the end of them.
const SUBMITTED: u64 = 8;

/// What a byte is of the first of these sectors before a case; that of the next is one more, and so
/// on up to [`OLD_MAX`].
const OLD: u8 = 0x50;
const OLD_MAX: u8 = 0x5f;
/// What a byte is that is written when all is over.
const LAST: u8 = NEW + REQUESTS as u8;
/// What a byte of memory is that a device which has been reset must not write.
const QUIET: u8 = 0xee;

/// How often requests are submitted, all at once.
const ROUNDS: u32 = 60;
/// How often at most, until requests have come back, and the device has been reset so often.
const MAX_ROUNDS: u32 = 500 * ROUNDS;
const RESETS: u32 = 8;
/// How many moments requests are waited for that must come back: half a minute, for some are flushes;
/// and those that need not.
const PATIENCE: u32 = 1_500_000;
const LITTLE_PATIENCE: u32 = 50;
/// How many moments a device is watched that has been reset.
const WATCH: u32 = 5;

/// What the other CPUs do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attack {
    Descriptors,
    Headers,
    Indices,
    Reset,
}

/// The chains in the queue's own table, and every other time in indirect ones.
const MODES: &[Mode] = &[Mode::new(false, false), Mode::new(true, true)];

const fn case(
    name: &'static str,
    hazard: &'static str,
    run: fn(&mut Stage<'_, '_>) -> Outcome,
) -> Case {
    let required = "a device that goes on, and a disk with what was rightly written";
    Case::run_by(name, hazard, required, Run::Cpus(run))
        .on(DiskKind::Writable)
        .in_modes(MODES)
        .with_reset()
}

pub(super) const CASES: [Case; 4] = [
    case(
        "smp-descriptors",
        "other CPUs change the descriptors and indirect tables of requests in flight",
        |stage| run(stage, Attack::Descriptors),
    ),
    case(
        "smp-headers",
        "other CPUs change the headers of requests in flight",
        |stage| run(stage, Attack::Headers),
    ),
    case(
        "smp-indices",
        "other CPUs change all indices, flags and entries of the rings",
        |stage| run(stage, Attack::Indices),
    ),
    case(
        "smp-reset",
        "another CPU resets the device and brings it up again and again",
        |stage| run(stage, Attack::Reset),
    ),
];

/// The device, and all that the CPUs share.
struct Fray<'m> {
    attack: Attack,
    mode: Mode,
    features: Features,
    /// Size of the disk, in sectors.
    capacity: u64,
    ground: Ground<'m>,
    /// The first CPU has done its part.
    over: AtomicBool,
    /// How often all requests have come back.
    rounds: AtomicU32,
    /// How often another CPU has reset the device and brought it up.
    resets: AtomicU32,
    /// A request has not come back that had to.
    lost: AtomicBool,
    /// What has come back is not what was submitted.
    foreign: AtomicBool,
    /// The device has not come to rest, or has written memory all the same.
    restless: AtomicBool,
}

/// Tells the other CPUs to stop, whatever becomes of the first.
struct Over<'f>(&'f AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn run(stage: &mut Stage<'_, '_>, attack: Attack) -> Outcome {
    prepare(stage)?;
    let features = stage.mode.features(stage.disk.offered);
    let fray = Fray {
        attack,
        mode: stage.mode,
        features,
        capacity: stage.disk.capacity,
        ground: Ground::new(stage.arena.scope())?,
        over: AtomicBool::new(false),
        rounds: AtomicU32::new(0),
        resets: AtomicU32::new(0),
        lost: AtomicBool::new(false),
        foreign: AtomicBool::new(false),
        restless: AtomicBool::new(false),
    };
    let (window, cpus) = (stage.window, stage.machine.cpus());
    let mut driver = RawDriver {
        transport: stage.machine.device(window)?,
        queue: fray.ground.queue,
    };
    driver.bring_up(features)?;
    stage
        .machine
        .work_together(window, cpus, &|cpu, transport| match cpu {
            0 => fray.submit(transport),
            _ => fray.disturb(cpu, transport),
        })?;
    fray.judge(&mut stage.checks)?;
    verify(stage, attack)
}

impl Fray<'_> {
    /// What the first CPU does.
    fn submit(&self, transport: &mut dyn Transport) {
        let _over = Over(&self.over);
        let queue = self.ground.queue;
        let mut driver = RawDriver { transport, queue };
        for round in 0..MAX_ROUNDS {
            if round >= ROUNDS && self.is_enough() {
                return;
            }
            let indirect = self.mode.indirect && round % 2 == 1;
            let used = queue.used_idx();
            let available = queue.driver.load16(RING_IDX as usize, Ordering::Relaxed);
            let sector = FIRST + u64::from(round) % SUBMITTED;
            self.ground.write_requests(sector, indirect);
            for request in 0..REQUESTS {
                queue.set_avail_entry(available.wrapping_add(request), head(request, indirect));
            }
            queue.set_avail_idx(available.wrapping_add(REQUESTS));
            driver.kick(0);
            match (self.have_come_back(&mut driver, used), self.attack) {
                (true, attack) => {
                    self.rounds.fetch_add(1, Ordering::Relaxed);
                    if attack.leaves_rings() && !is_complete(queue, used, indirect) {
                        return self.foreign.store(true, Ordering::Relaxed);
                    }
                }
                (false, attack) if attack.leaves_rings() => {
                    return self.lost.store(true, Ordering::Relaxed);
                }
                (false, Attack::Indices) if driver.bring_up(self.features).is_err() => {
                    return self.restless.store(true, Ordering::Relaxed);
                }
                _ => {}
            }
        }
    }

    /// Whether the case has not passed in vain: some requests have come back, and the device has been
    /// reset.
    fn is_enough(&self) -> bool {
        let resets = self.resets.load(Ordering::Relaxed);
        let is_reset = self.attack != Attack::Reset || resets >= RESETS;
        is_reset && self.rounds.load(Ordering::Relaxed) > 0
    }

    /// Waits until all requests have come back since `used.idx` was `used`; false where they do not.
    fn have_come_back(&self, driver: &mut RawDriver<'_, '_>, used: u16) -> bool {
        let patience = if self.attack.leaves_rings() {
            PATIENCE
        } else {
            LITTLE_PATIENCE
        };
        for _ in 0..patience {
            if driver.queue.used_idx() == used.wrapping_add(REQUESTS) {
                return true;
            }
            let status = driver.transport.status();
            if status.contains(DeviceStatus::DEVICE_NEEDS_RESET) {
                return false;
            }
            driver.transport.pause();
        }
        false
    }

    /// What another CPU does, until the first has done its part.
    fn disturb(&self, cpu: usize, transport: &mut dyn Transport) {
        let (ground, mut rng) = (&self.ground, Rng::new(cpu as u64));
        while !self.over.load(Ordering::Relaxed) {
            match self.attack {
                Attack::Descriptors => attacks::descriptor(ground, &mut rng),
                Attack::Headers => attacks::header(ground, &mut rng, self.capacity),
                Attack::Indices => attacks::index(ground, &mut rng),
                Attack::Reset if cpu == 1 => self.reset(transport),
                Attack::Reset => attacks::register(transport, &mut rng),
            }
        }
    }

    /// Resets the device, watches whether it is at rest, and brings it up.
    fn reset(&self, transport: &mut dyn Transport) {
        let queue = self.ground.queue;
        let mut is_at_rest = transport.reset().is_ok();
        // What the device writes, and no CPU but this one while the device is at rest.
        let read = (0..REQUESTS).filter(|request| is_read(*request));
        let watched = || read.clone().map(|request| self.ground.data(request));
        let watched = || watched().chain([queue.device]).flat_map(words);
        let quiet = u64::from_ne_bytes([QUIET; 8]);
        for word in watched() {
            word.store64(0, quiet, Ordering::Relaxed);
        }
        for _ in 0..WATCH {
            transport.pause();
        }
        is_at_rest &= watched().all(|word| word.load64(0, Ordering::Relaxed) == quiet);
        if !is_at_rest {
            self.restless.store(true, Ordering::Relaxed);
        }
        // Others may reset it meanwhile.
        let mut driver = RawDriver { transport, queue };
        if driver.bring_up(self.features).is_ok() {
            let resets = self.resets.fetch_add(1, Ordering::Relaxed);
            // Some live longer than others.
            for _ in 0..resets % 8 {
                driver.transport.pause();
            }
        }
    }

    /// Sees what has come of it, but for the disk.
    fn judge(&self, checks: &mut Checks) -> Outcome {
        let is_set = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let rounds = self.rounds.load(Ordering::Relaxed);
        let [lost, foreign, restless] = [&self.lost, &self.foreign, &self.restless].map(is_set);
        let intact = self.ground.is_intact();
        for (what, held, so, not_so) in [
            ("what had to", !lost, "came back", "was lost"),
            ("the used ring", !foreign, "is right", "is wrong"),
            ("a device after a reset", !restless, "rests", "writes"),
            ("the guards", intact, "untouched", "written"),
            ("the case", self.is_enough(), "came to pass", "was in vain"),
        ] {
            let seen = Seen::Words(if held { so } else { not_so });
            checks.check(what, rounds.into(), seen, Seen::Words(so))?;
        }
        Ok(())
    }
}

/// Whether the used ring has one entry for each request since `used.idx` was `used`.
fn is_complete(queue: RawQueue<'_>, used: u16, indirect: bool) -> bool {
    let ids = |i| queue.used_entry(used.wrapping_add(i)).id;
    (0..REQUESTS).all(|request| {
        let head = u32::from(head(request, indirect));
        (0..REQUESTS).filter(|i| ids(*i) == head).count() == 1
    })
}

/// The pieces of eight bytes of `region`.
fn words(region: Region<'_>) -> impl Iterator<Item = Region<'_>> {
    (0..region.len() / 8).map(move |i| region.part(8 * i, 8))
}

/// Writes to the sectors what they are known by.
fn prepare(stage: &mut Stage<'_, '_>) -> Outcome {
    with_driver(stage, |block, memory, _| {
        for (i, sector) in sectors(memory).enumerate() {
            sector.fill(OLD + i as u8 % (OLD_MAX - OLD + 1));
        }
        Ok(block.write(FIRST, memory)?)
    })
}

/// Sees that the sectors hold what requests could rightly have written, and that the device goes on.
fn verify(stage: &mut Stage<'_, '_>, attack: Attack) -> Outcome {
    with_driver(stage, |block, memory, checks| {
        block.read(FIRST, memory)?;
        let so = Seen::Words("rightly written");
        for (lba, sector) in (FIRST..).zip(sectors(memory)) {
            let mut bytes = [0; SECTOR];
            sector.read(0, &mut bytes);
            let seen = if attack.may_have_written(&bytes) {
                so
            } else {
                Seen::Words("not rightly written")
            };
            checks.check("sector", lba, seen, so)?;
        }
        let sector = memory.part(0, SECTOR);
        sector.fill(LAST);
        block.write(FIRST, sector)?;
        sector.fill(!LAST);
        block.read(FIRST, sector)?;
        let same = is_filled(sector, LAST);
        let seen = Seen::Words(if same { "read back" } else { "not read back" });
        checks.check(
            "what is written next",
            FIRST,
            seen,
            Seen::Words("read back"),
        )
    })
}

/// Lets `work` have the device, driven as it should be, and memory for the sectors.
fn with_driver(
    stage: &mut Stage<'_, '_>,
    work: impl for<'m> FnOnce(&mut Block<'_, 'm>, Region<'m>, &mut Checks) -> Outcome,
) -> Outcome {
    let mut arena = stage.arena.scope();
    let memory = arena.alloc(SECTORS as usize * SECTOR, SECTOR as u64)?;
    let options = Options {
        wait: Wait::Poll,
        ..Options::default()
    };
    let transport = stage.machine.device(stage.window)?;
    let mut block = Block::new(transport, &options, &mut arena)?;
    work(&mut block, memory, &mut stage.checks)
}

fn sectors(memory: Region<'_>) -> impl Iterator<Item = Region<'_>> {
    (0..memory.len() / SECTOR).map(move |i| memory.part(i * SECTOR, SECTOR))
}

impl Attack {
    /// Whether the rings are as the first CPU writes them, and the device is not reset: every chain
    /// must come back.
    const fn leaves_rings(self) -> bool {
        matches!(self, Self::Descriptors | Self::Headers)
    }

    /// Whether a request can have written this sector, or none has.
    fn may_have_written(self, sector: &[u8; SECTOR]) -> bool {
        let whole = |byte| sector.iter().all(|other| *other == byte);
        match self {
            // Whatever was where addresses lead to: headers, status bytes, and data.
            Self::Descriptors => sector
                .iter()
                .all(|byte| matches!(byte, 0..0x20 | OLD..=FREE)),
            _ => match sector[0] {
                byte @ OLD..=OLD_MAX => whole(byte),
                byte => (0..REQUESTS).any(|r| !is_read(r) && byte == NEW + r as u8) && whole(byte),
            },
        }
    }
}
