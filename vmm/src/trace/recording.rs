//! All that was kept of a run, as one file: which tracks there are, and the events of all sources in
//! the order of time.

use std::cmp::Reverse;
use std::io::{self, Write};

use super::event::{Event, What};
use super::exits::{Names, VcpuExits};
use super::json::{Args, Metadata, Phase, Source, TraceEvent, Track};
use super::queue::{Queue, QueueEvents};
use super::ring::Ring;
use crate::layout;
use crate::observe::QueueName;
use crate::stats::address::AddressMap;

/// The process of the vCPUs and of the threads that serve queues. Those of the disks follow.
const VMM: u32 = 1;
// No two tracks have the same number, whichever process they are of.
const VCPUS: u32 = 1000;
const WORKERS: u32 = 3000;
const QUEUES: u32 = 4000;

/// What was kept of each source, with its name.
pub struct Recording {
    /// How many events there is room for, of each source.
    pub limit: u32,
    /// The vCPUs, by their number.
    pub vcpus: Vec<(String, Ring)>,
    /// The queues of the disks, in their order.
    pub queues: Vec<(QueueName, Ring)>,
}

impl Recording {
    /// How many events have not been kept.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.rings().map(Ring::dropped).sum()
    }

    /// Writes all of it to `out`, with names from `map`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, map: &AddressMap, out: &mut impl Write) -> io::Result<()> {
        let names = Names::new(self.vcpus.iter().map(|(_, ring)| ring), map);
        let metadata = self.metadata();
        out.write_all(b"{\"displayTimeUnit\":\"ns\",\n\"metadata\":")?;
        serde_json::to_writer(&mut *out, &metadata)?;
        out.write_all(b",\n\"traceEvents\":[")?;
        let mut before = "\n";
        for event in self.events(&names) {
            out.write_all(before.as_bytes())?;
            serde_json::to_writer(&mut *out, &event)?;
            before = ",\n";
        }
        out.write_all(b"\n]}\n")?;
        out.flush()
    }

    fn rings(&self) -> impl Iterator<Item = &Ring> {
        let vcpus = self.vcpus.iter().map(|(_, ring)| ring);
        vcpus.chain(self.queues.iter().map(|(_, ring)| ring))
    }

    fn metadata(&self) -> Metadata {
        let vcpus = self.vcpus.iter().map(|(name, ring)| source(name, ring));
        let queues = self.queues.iter().map(|(name, ring)| source(name, ring));
        Metadata {
            program: concat!("vmm ", env!("CARGO_PKG_VERSION")),
            trace_limit: self.limit,
            dropped_events: self.dropped(),
            sources: vcpus.chain(queues).collect(),
        }
    }

    /// All events, those first that name the tracks, the others in the order of time; of those that
    /// begin together the longer slice first, and arrows after slices.
    fn events<'a>(&'a self, names: &'a Names<'a>) -> impl Iterator<Item = TraceEvent<'a>> {
        let (mut events, mut exits) = (Vec::new(), Vec::new());
        for (tid, (_, ring)) in (VCPUS..).zip(&self.vcpus) {
            let track = Track { pid: VMM, tid };
            let found = ring.events().filter_map(|event| names.exit(event, track));
            events.extend(found);
            exits.push(VcpuExits::new(ring, track));
        }
        let (mut requests, end) = (0, self.end());
        for (number, (name, ring)) in (0..).zip(&self.queues) {
            let queue = Queue {
                device: &name.device,
                gsi: layout::virtio_mmio(name.disk).gsi,
                track: queue_track(name, number),
                worker: worker_track(number),
            };
            requests = QueueEvents::add(queue, ring, &exits, (requests, end), &mut events);
        }
        events.sort_by_key(|event| {
            let rank = match event.phase {
                Phase::FlowStart | Phase::FlowStep | Phase::FlowEnd => 1,
                _ => 0,
            };
            (event.time, rank, Reverse(event.duration))
        });
        self.names(&events).into_iter().chain(events)
    }

    /// The last moment that is known.
    fn end(&self) -> u64 {
        let end = |event: &Event| match event.what {
            What::Exit { end, .. } => end,
            _ => event.time,
        };
        self.rings()
            .flat_map(Ring::events)
            .map(end)
            .max()
            .unwrap_or(0)
    }

    /// Names for the tracks: of the threads that serve queues, those that `events` are on.
    fn names<'a>(&'a self, events: &[TraceEvent<'_>]) -> Vec<TraceEvent<'a>> {
        let mut names = Vec::new();
        let mut name = |what, track, name: &str| {
            let event = TraceEvent::new(Phase::Metadata, "", what, track, 0);
            let name = name.to_owned();
            names.push(event.with(Args::Name { name }));
        };
        name("process_name", Track { pid: VMM, tid: 0 }, "vmm");
        for (tid, (vcpu, _)) in (VCPUS..).zip(&self.vcpus) {
            name("thread_name", Track { pid: VMM, tid }, vcpu);
        }
        for (number, (of, _)) in (0..).zip(&self.queues) {
            let (queue, worker) = (queue_track(of, number), worker_track(number));
            if events.iter().any(|event| event.track == worker) {
                name("thread_name", worker, &format!("worker of {of}"));
            }
            if of.queue == 0 {
                name("process_name", Track { tid: 0, ..queue }, &of.device);
            }
            name("thread_name", queue, &format!("queue {}", of.queue));
        }
        names
    }
}

fn source(name: &impl ToString, ring: &Ring) -> Source {
    Source {
        name: name.to_string(),
        events: ring.written(),
        dropped_events: ring.dropped(),
    }
}

fn worker_track(number: u32) -> Track {
    let tid = WORKERS.saturating_add(number);
    Track { pid: VMM, tid }
}

/// The track of the queue `name`, which is number `number` of all.
fn queue_track(name: &QueueName, number: u32) -> Track {
    let disk = u32::try_from(name.disk).unwrap_or(u32::MAX);
    Track {
        pid: (VMM + 1).saturating_add(disk),
        tid: QUEUES.saturating_add(number),
    }
}

#[cfg(test)]
#[path = "recording_tests.rs"]
mod tests;
