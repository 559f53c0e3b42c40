//! `run=selftest`: what the driver promises, tried out against the device at hand. Writes to the
//! disk, at its start and its end. Here the cases are run, each in all modes that matter to it and
//! that the command line leaves open; what they do is in `requests`, `clears`, `chains`, `refusals`
//! and `rings`.

use core::fmt;

use spec::Features;
use spec::block::{RequestHeader, SECTOR_SIZE, request_type, status};

use super::failure::Reason;
use super::params::Parameters;
use super::{Environment, Failure, Machine, open};
use crate::cmdline::CommandLine;
use crate::dma::{Arena, Region};
use crate::rng::pattern;
use crate::virtio::block::{Completion, Wait};
use crate::virtio::queue::Buffer;
use crate::virtio::{Block, Error, Options};

mod chains;
mod clears;
mod refusals;
mod requests;
mod rings;

/// Memory for the data of a case, in bytes.
const DATA_SIZE: usize = 256 << 10;
const SECTOR: usize = SECTOR_SIZE as usize;
/// The least disk that the cases can do with, in sectors.
const MIN_CAPACITY: u64 = 256;

/// One case.
struct Case {
    name: &'static str,
    /// Which disks it is for.
    disk: DiskKind,
    /// Which modes make a difference to it.
    modes: Modes,
    /// The queue size that it is about, in descriptors, if any.
    queue_size: Option<u16>,
    run: fn(&mut Bench<'_, '_, '_>) -> Result<(), Reason>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DiskKind {
    Any,
    Writable,
    ReadOnly,
    /// One that can be written and whose cache can be switched.
    Switches,
    /// One that takes discard requests.
    Discards,
    /// One that takes write-zeroes requests.
    WritesZeroes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Modes {
    /// Every way to wait, with and without event indices and indirect descriptors.
    All,
    /// With and without indirect descriptors.
    Descriptors,
    /// One is as good as another.
    One,
}

const CASES: [&[Case]; 5] = [
    &requests::CASES,
    &clears::CASES,
    &chains::CASES,
    &refusals::CASES,
    &rings::CASES,
];

pub(super) fn run<'e>(
    environment: &mut Environment<'e, '_>,
    parameters: &Parameters<'e>,
) -> Result<(), Failure<'e>> {
    let (console, machine, arena) = environment.parts();
    let (command_line, disk) = (parameters.command_line(), parameters.disk()?);
    let given = parameters.options()?;
    refuse_queue_sizes(command_line, machine, disk, given, arena)?;
    writeln!(console, "selftest: queue sizes ok")?;
    let mut done = 1;
    for case in CASES.into_iter().flatten() {
        let varies = Varies::new(case.modes, parameters);
        for mode in varies.modes(given) {
            let options = Options {
                queue_size: case.queue_size,
                ..mode
            };
            // Each case begins with a reset and a device brought up anew.
            let mut arena = arena.scope();
            let data = arena.alloc(DATA_SIZE, SECTOR_SIZE)?;
            let mut block = open(command_line, machine, disk, &options, &mut arena)?;
            let capacity = block.info().capacity;
            if capacity < MIN_CAPACITY {
                return Err(Failure::DiskTooSmall {
                    capacity,
                    needed: MIN_CAPACITY,
                });
            }
            let accepted = block.info().accepted;
            let read_only = accepted.contains(Features::VIRTIO_BLK_F_RO);
            let wrong_disk = match case.disk {
                DiskKind::Any => false,
                DiskKind::Writable => read_only,
                DiskKind::ReadOnly => !read_only,
                DiskKind::Switches => {
                    read_only || !accepted.contains(Features::VIRTIO_BLK_F_CONFIG_WCE)
                }
                DiskKind::Discards => !accepted.contains(Features::VIRTIO_BLK_F_DISCARD),
                DiskKind::WritesZeroes => !accepted.contains(Features::VIRTIO_BLK_F_WRITE_ZEROES),
            };
            if wrong_disk || !varies.is_another(&mode, accepted) {
                continue;
            }
            (case.run)(&mut Bench {
                block: &mut block,
                data,
            })
            .map_err(|reason| Failure::Case {
                name: case.name,
                reason,
            })?;
            writeln!(
                console,
                "selftest: {}{} ok",
                case.name,
                Suffix(&mode, case.modes)
            )?;
            done += 1;
        }
    }
    writeln!(console, "selftest cases={done} ok")?;
    Ok(())
}

/// Sees that the device is not brought up with a queue that cannot be.
fn refuse_queue_sizes<'e>(
    command_line: CommandLine<'e>,
    machine: &mut dyn Machine,
    disk: u64,
    given: Options,
    arena: &mut Arena<'_>,
) -> Result<(), Failure<'e>> {
    for size in refusals::QUEUE_SIZES {
        let options = Options {
            queue_size: Some(size),
            ..given
        };
        match open(command_line, machine, disk, &options, &mut arena.scope()) {
            Err(Failure::Device {
                error: Error::QueueSize { .. },
                ..
            }) => (),
            Err(other) => return Err(other),
            Ok(_) => {
                return Err(Failure::Case {
                    name: "queue sizes",
                    reason: Reason::Promise("a size that no queue can have was taken"),
                });
            }
        }
    }
    Ok(())
}

/// What differs between the modes in which a case is run: what matters to it, and is not given on
/// the command line.
#[derive(Clone, Copy)]
struct Varies {
    wait: bool,
    event_idx: bool,
    indirect: bool,
}

impl Varies {
    fn new(modes: Modes, parameters: &Parameters<'_>) -> Self {
        let open = |key, matters| matters && !parameters.is_given(key);
        Self {
            wait: open("wait", modes == Modes::All),
            event_idx: open("event_idx", modes == Modes::All),
            indirect: open("indirect", modes != Modes::One),
        }
    }

    /// The modes: `given`, and those that are made of it by what varies.
    fn modes(self, given: Options) -> impl Iterator<Item = Options> {
        let differs = |bits: u8| [bits & 4 != 0, bits & 2 != 0, bits & 1 != 0];
        let may_differ = move |&[wait, event_idx, indirect]: &[bool; 3]| {
            (self.wait || !wait) && (self.event_idx || !event_idx) && (self.indirect || !indirect)
        };
        let modes = (0..8).map(differs).filter(may_differ);
        modes.map(move |[poll, no_event_idx, no_indirect]| Options {
            wait: if poll { Wait::Poll } else { given.wait },
            event_idx: given.event_idx && !no_event_idx,
            indirect: given.indirect && !no_indirect,
            queue_size: None,
        })
    }

    /// Whether the device offers what makes `mode` differ from the others.
    const fn is_another(self, mode: &Options, accepted: Features) -> bool {
        let indirect = accepted.contains(Features::VIRTIO_F_INDIRECT_DESC) || !mode.indirect;
        let event_idx = accepted.contains(Features::VIRTIO_F_EVENT_IDX) || !mode.event_idx;
        (indirect || !self.indirect) && (event_idx || !self.event_idx)
    }
}

/// What is printed of the mode behind the name of a case: what makes a difference to it.
struct Suffix<'o>(&'o Options, Modes);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(mode, modes) = *self;
        if modes == Modes::One {
            return Ok(());
        }
        f.write_str(if mode.indirect {
            ", indirect"
        } else {
            ", direct"
        })?;
        if modes == Modes::All {
            f.write_str(if mode.event_idx {
                ", event_idx"
            } else {
                ", flags"
            })?;
            f.write_str(if mode.wait == Wait::Irq {
                ", irq"
            } else {
                ", poll"
            })?;
        }
        Ok(())
    }
}

/// What a case works with: a disk that is ready, and memory.
struct Bench<'b, 'd, 'm> {
    block: &'b mut Block<'d, 'm>,
    data: Region<'m>,
}

impl<'m> Bench<'_, '_, 'm> {
    /// Makes a request, and sees that it ends with the status `expected`.
    fn execute(
        &mut self,
        what: &'static str,
        (request_type, sector): (u32, u64),
        data: &[Buffer<'m>],
        expected: u8,
    ) -> Result<Completion, Reason> {
        let completion = self.block.execute(
            RequestHeader {
                request_type,
                sector,
            },
            data,
        )?;
        if completion.status != expected {
            return Err(Reason::Status {
                what,
                expected,
                found: completion.status,
            });
        }
        Ok(completion)
    }

    /// Fills `memory` with the pattern of `seed` for the sectors from `lba` on.
    fn fill(&self, memory: Region<'m>, seed: u64, lba: u64) {
        let mut sector = [0; SECTOR];
        for (i, offset) in (0..memory.len()).step_by(SECTOR).enumerate() {
            let sector = &mut sector[..SECTOR.min(memory.len() - offset)];
            pattern(seed, lba + i as u64, sector);
            memory.write(offset, sector);
        }
    }

    /// Whether `memory` holds what `fill` writes.
    fn matches(&self, memory: Region<'m>, seed: u64, lba: u64) -> bool {
        let (mut expected, mut found) = ([0; SECTOR], [0; SECTOR]);
        (0..memory.len())
            .step_by(SECTOR)
            .enumerate()
            .all(|(i, offset)| {
                let len = SECTOR.min(memory.len() - offset);
                pattern(seed, lba + i as u64, &mut expected[..len]);
                memory.read(offset, &mut found[..len]);
                expected[..len] == found[..len]
            })
    }

    /// Writes `len` bytes of pattern at `lba`.
    fn write_pattern(&mut self, seed: u64, lba: u64, len: usize) -> Result<(), Reason> {
        let memory = self.data.part(0, len);
        self.fill(memory, seed, lba);
        let done = self.execute(
            "write",
            (request_type::OUT, lba),
            &[Buffer::readable(memory)],
            status::OK,
        )?;
        written("write", done, 1)
    }

    /// Reads `len` bytes at `lba`, and sees that they are the pattern.
    fn read_pattern(&mut self, seed: u64, lba: u64, len: usize) -> Result<(), Reason> {
        let memory = self.data.part(0, len);
        memory.fill(0);
        let done = self.execute(
            "read",
            (request_type::IN, lba),
            &[Buffer::writable(memory)],
            status::OK,
        )?;
        written("read", done, len as u32 + 1)?;
        promise(
            self.matches(memory, seed, lba),
            "what was read is not what was written",
        )
    }

    /// Number of sectors of the disk.
    fn capacity(&self) -> u64 {
        self.block.info().capacity
    }
}

/// Sees that the device says that it wrote `expected` bytes.
fn written(what: &'static str, done: Completion, expected: u32) -> Result<(), Reason> {
    if done.written == expected {
        return Ok(());
    }
    Err(Reason::Written {
        what,
        expected,
        found: done.written,
    })
}

/// Sees that `held` is true; `broken` says what it means if it is not.
fn promise(held: bool, broken: &'static str) -> Result<(), Reason> {
    if held {
        Ok(())
    } else {
        Err(Reason::Promise(broken))
    }
}
