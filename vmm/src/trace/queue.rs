//! What was done with a queue as events of the trace: drains on the tracks of the threads that did
//! them, requests and interrupts on a track of the queue's own, and arrows between them.

use devices::virtio::block::stats::{DrainCause, RequestKind};
use spec::block::status;

use super::event::{Event, What};
use super::exits::VcpuExits;
use super::json::{Args, Phase, TraceEvent, Track};
use super::ring::Ring;

/// A queue, and where its events go.
#[derive(Clone, Copy, Debug)]
pub struct Queue<'a> {
    /// Its device.
    pub device: &'a str,
    /// The interrupt of that.
    pub gsi: u32,
    /// The queue's own track.
    pub track: Track,
    /// The track of a thread that is no vCPU's.
    pub worker: Track,
}

/// A drain that has begun.
struct Drain {
    begin: u64,
    cause: DrainCause,
    source: Source,
    requests: u64,
    skipped: u64,
}

/// Where the arrows of a drain begin.
#[derive(Clone, Copy)]
struct Source {
    /// The track of the thread that drains.
    track: Track,
    /// When the exit began that the drain is part of, or the drain, where it is of none.
    time: u64,
}

/// Entries of the available ring, all of which are submitted before the next ones are taken.
#[derive(Clone, Copy)]
struct Taken {
    time: u64,
    /// Of the drain that took them, if that is known; others may serve what it has no time for.
    source: Option<Source>,
}

/// A request that has been submitted.
struct Submitted {
    time: u64,
    /// With which entries it was taken.
    taken: Option<Taken>,
    head: u16,
    descriptors: u16,
    sector: Option<u64>,
    bytes: u64,
}

/// What became of a request.
struct Answered {
    kind: RequestKind,
    failed: bool,
    status: Option<u8>,
    written: u32,
    used: u16,
}

/// A request that has been served: its number, and the last moment of that.
struct Served {
    id: u64,
    last: u64,
}

/// Makes the events of one queue, step by step.
pub struct QueueEvents<'a, 'o> {
    queue: Queue<'a>,
    vcpus: &'o [VcpuExits],
    out: &'o mut Vec<TraceEvent<'a>>,
    /// How many requests there were in the queues before, and are in this.
    requests: u64,
    drain: Option<Drain>,
    /// The entries that are being submitted.
    taken: Option<Taken>,
    /// What has not been completed, in the order in which it was submitted.
    submitted: Vec<Submitted>,
    /// When the last service ended that is shown: they are on one track, one after the other.
    service_end: u64,
    /// Whose arrows have not ended.
    served: Vec<Served>,
    /// When the driver was about to be interrupted.
    interrupting: Option<u64>,
}

impl<'a, 'o> QueueEvents<'a, 'o> {
    /// Adds the events of `queue`, which are in `ring`, to `out`. Requests are numbered from
    /// `requests` + 1; returns the last number. What has not ended when the trace does, at `end`,
    /// ends there.
    pub fn add(
        queue: Queue<'a>,
        ring: &Ring,
        vcpus: &'o [VcpuExits],
        (requests, end): (u64, u64),
        out: &'o mut Vec<TraceEvent<'a>>,
    ) -> u64 {
        let mut events = Self {
            queue,
            vcpus,
            out,
            requests,
            drain: None,
            taken: None,
            submitted: Vec::new(),
            service_end: 0,
            served: Vec::new(),
            interrupting: None,
        };
        for event in ring.events() {
            events.step(event);
        }
        events.finish(end);
        events.requests
    }

    fn step(&mut self, &Event { time, what }: &Event) {
        match what {
            What::Exit { .. } => {}
            What::DrainBegins { cause, thread } => {
                // The last one was cut short, where it has not ended.
                self.end_drain(time, true);
                let worker = (self.queue.worker, None);
                let mut vcpus = self.vcpus.iter();
                let (track, exit) = vcpus
                    .find_map(|vcpu| vcpu.at(thread, time))
                    .unwrap_or(worker);
                let source = Source {
                    track,
                    time: exit.unwrap_or(time),
                };
                self.notified(cause, source);
                self.drain = Some(Drain {
                    begin: time,
                    cause,
                    source,
                    requests: 0,
                    skipped: 0,
                });
            }
            What::Taken { refused } => {
                let source = self.drain.as_ref().map(|drain| drain.source);
                self.taken = Some(Taken { time, source });
                if let Some(drain) = &mut self.drain {
                    drain.skipped += u64::from(refused);
                }
            }
            What::Submitted {
                head,
                descriptors,
                sector,
                bytes,
            } => {
                self.submitted.push(Submitted {
                    time,
                    taken: self.taken,
                    head,
                    descriptors,
                    sector,
                    bytes,
                });
            }
            What::Completed {
                head,
                kind,
                failed,
                status,
                written,
                used,
            } => {
                let answered = Answered {
                    kind,
                    failed,
                    status,
                    written,
                    used,
                };
                let mut submitted = self.submitted.iter();
                // Without it, it is not known what the request was.
                if let Some(at) = submitted.position(|submitted| submitted.head == head) {
                    let submitted = self.submitted.remove(at);
                    self.completed(&submitted, time, Some(answered));
                }
            }
            What::DrainEnds { interrupts, .. } => {
                self.end_drain(time, false);
                if interrupts {
                    self.interrupting = Some(time);
                } else {
                    self.end_arrows();
                }
            }
            What::Interrupted { used_buffer } => self.interrupted(time, used_buffer),
        }
    }

    fn notified(&mut self, cause: DrainCause, Source { track, time }: Source) {
        if cause.is_notification() {
            let args = Args::Notify {
                device: self.queue.device,
                by: cause.name(),
            };
            let notify = TraceEvent::new(Phase::Instant, "notify", "notify", track, time);
            self.out.push(notify.with(args));
        }
    }

    /// A request that was submitted ends: answered, or cut short.
    fn completed(&mut self, submitted: &Submitted, time: u64, answered: Option<Answered>) {
        self.requests += 1;
        let (id, track) = (self.requests, self.queue.track);
        let name = answered
            .as_ref()
            .map_or("unfinished", |answered| answered.kind.name());
        let event = |phase, category, time| TraceEvent::new(phase, category, name, track, time);

        let taken = submitted.taken;
        let begin = taken.map_or(submitted.time, |taken| taken.time);
        let args = request_args(submitted, answered.as_ref());
        let request = |phase, time| event(phase, "request", time).with_local_id(id);
        let service_begin = submitted.time.max(self.service_end);
        let service = event(Phase::Slice, "service", service_begin).until(time);
        self.service_end = service_begin + service.duration.unwrap_or(1);
        let last = self.service_end - 1;
        let moment = TraceEvent {
            name: "submitted",
            ..request(Phase::AsyncInstant, submitted.time)
        };
        self.out.extend([
            request(Phase::AsyncBegin, begin).with(args),
            moment,
            request(Phase::AsyncEnd, time),
            service.with(Args::Service { request: id }),
        ]);
        if let Some(drain) = &mut self.drain {
            drain.requests += 1;
            let source = taken.and_then(|taken| taken.source);
            let Source { track, time } = source.unwrap_or(drain.source);
            (self.out).push(arrow(Phase::FlowStart, id, track, time));
            self.served.push(Served { id, last });
        }
    }

    fn end_drain(&mut self, time: u64, unfinished: bool) {
        if let Some(drain) = self.drain.take() {
            let args = Args::Drain {
                device: self.queue.device,
                cause: drain.cause.name(),
                requests: drain.requests,
                skipped_heads: drain.skipped,
                unfinished,
            };
            let slice = TraceEvent::new(
                Phase::Slice,
                "drain",
                "drain",
                drain.source.track,
                drain.begin,
            );
            self.out.push(slice.until(time).with(args));
        }
    }

    /// The arrows to what has been served end there.
    fn end_arrows(&mut self) {
        for Served { id, last } in self.served.drain(..) {
            (self.out).push(arrow(Phase::FlowEnd, id, self.queue.track, last));
        }
    }

    /// The driver was interrupted: arrows go on to that.
    fn interrupted(&mut self, time: u64, used_buffer: bool) {
        let track = self.queue.track;
        // One for another reason is sent at once.
        let begin = self.interrupting.take().unwrap_or(time);
        let event = if used_buffer {
            "used buffer"
        } else {
            "configuration change"
        };
        let args = Args::Interrupt {
            event,
            gsi: self.queue.gsi,
        };
        let slice = TraceEvent::new(Phase::Slice, "interrupt", "interrupt", track, begin);
        self.out.push(slice.until(time).with(args));
        for Served { id, last } in self.served.drain(..) {
            self.out.extend([
                arrow(Phase::FlowStep, id, track, last),
                arrow(Phase::FlowEnd, id, track, begin),
            ]);
        }
    }

    /// Ends what has not ended.
    fn finish(&mut self, end: u64) {
        for submitted in std::mem::take(&mut self.submitted) {
            self.completed(&submitted, end, None);
        }
        self.end_drain(end, true);
        self.end_arrows();
    }
}

fn request_args<'a>(submitted: &Submitted, answered: Option<&Answered>) -> Args<'a> {
    Args::Request {
        kind: answered.map_or("unfinished", |answered| answered.kind.name()),
        head: submitted.head,
        descriptors: submitted.descriptors,
        sector: submitted.sector,
        bytes: submitted.bytes,
        status: answered
            .and_then(|answered| answered.status)
            .map(status_name),
        used_len: answered.map_or(0, |answered| answered.written),
        used_idx: answered.map_or(0, |answered| answered.used),
        failed: answered.is_some_and(|answered| answered.failed),
        unfinished: answered.is_none(),
    }
}

/// A part of the arrow of request `id`.
fn arrow(phase: Phase, id: u64, track: Track, time: u64) -> TraceEvent<'static> {
    TraceEvent::new(phase, "flow", "request", track, time).with_id(id)
}

fn status_name(byte: u8) -> &'static str {
    match byte {
        status::OK => "OK",
        status::IOERR => "IOERR",
        _ => "UNSUPP",
    }
}
