//! The exits of the vCPUs as events of the trace, and in which of them something else has happened.

use std::collections::BTreeMap;
use std::thread::ThreadId;

use super::event::{Event, What};
use super::json::{Args, Phase, TraceEvent, Track};
use super::ring::Ring;
use crate::stats::address::AddressMap;
use crate::stats::exits::{ExitKind, ExitSite};

/// The exits of a vCPU.
#[derive(Debug)]
pub struct VcpuExits {
    track: Track,
    thread: Option<ThreadId>,
    /// When each began and ended, in the order of time: they do not overlap.
    exits: Vec<(u64, u64)>,
}

impl VcpuExits {
    /// Those in `ring`, on `track`.
    #[must_use]
    pub fn new(ring: &Ring, track: Track) -> Self {
        let exits = ring.events().filter_map(|event| match event.what {
            What::Exit { end, .. } => Some((event.time, end)),
            _ => None,
        });
        Self {
            track,
            thread: ring.thread,
            exits: exits.collect(),
        }
    }

    /// The track, if `thread` runs the vCPU, and when the exit began that it was handling at `time`,
    /// if any.
    #[must_use]
    pub fn at(&self, thread: ThreadId, time: u64) -> Option<(Track, Option<u64>)> {
        if self.thread != Some(thread) {
            return None;
        }
        let after = self.exits.partition_point(|&(begin, _)| begin <= time);
        let last = after.checked_sub(1).and_then(|last| self.exits.get(last));
        let handling = last.filter(|&&(_, end)| time <= end);
        Some((self.track, handling.map(|&(begin, _)| begin)))
    }
}

/// What exits at one site are called.
#[derive(Debug)]
struct Name<'a> {
    text: String,
    device: Option<&'a str>,
    register: Option<String>,
}

/// What the exits at each site are called.
#[derive(Debug)]
pub struct Names<'a>(BTreeMap<ExitSite, Name<'a>>);

impl<'a> Names<'a> {
    /// Names of all sites in `rings`, from `map`.
    #[must_use]
    pub fn new<'r>(rings: impl Iterator<Item = &'r Ring>, map: &'a AddressMap) -> Self {
        let mut names = BTreeMap::new();
        for event in rings.flat_map(Ring::events) {
            if let What::Exit { kind, address, .. } = event.what {
                let site = site(kind, address);
                names.entry(site).or_insert_with(|| Name::of(site, map));
            }
        }
        Self(names)
    }

    /// The exit that `event` is, on `track`; `None` where it is something else.
    #[must_use]
    pub fn exit(&self, event: &Event, track: Track) -> Option<TraceEvent<'_>> {
        let What::Exit {
            end,
            kind,
            address,
            len,
            value,
        } = event.what
        else {
            return None;
        };
        let site = site(kind, address);
        let name = self.0.get(&site)?;
        let args = Args::Exit {
            exit: kind.name(),
            device: name.device,
            register: name.register.as_deref(),
            address: site.address,
            value: (len > 0).then_some(value),
            bytes: (len > 0).then_some(len),
        };
        let slice = TraceEvent::new(Phase::Slice, "exit", &name.text, track, event.time);
        Some(slice.until(end).with(args))
    }
}

impl<'a> Name<'a> {
    fn of(site: ExitSite, map: &'a AddressMap) -> Self {
        let place = site.kind.space().zip(site.address);
        let name = place.and_then(|(space, address)| map.name(space, address));
        let (device, register) = name.unzip();
        let kind = site.kind.name();
        let text = match (&register, device) {
            (Some(register), _) if !register.starts_with('+') => format!("{kind} {register}"),
            (Some(register), Some(device)) => format!("{kind} {device}{register}"),
            _ => kind.to_owned(),
        };
        Self {
            text,
            device,
            register,
        }
    }
}

fn site(kind: ExitKind, address: u64) -> ExitSite {
    let address = kind.space().map(|_| address);
    ExitSite { kind, address }
}
