//! The Chrome trace-event format, in its JSON object form: what is in a file of it, and nothing of
//! where that comes from.

use serde::{Serialize, Serializer};

/// An event. Times are in nanoseconds here, and in microseconds in the file.
#[derive(Debug, Serialize)]
pub struct TraceEvent<'a> {
    /// What it is called.
    pub name: &'a str,
    /// What kind of thing it is; empty for what names a track.
    #[serde(rename = "cat", skip_serializing_if = "str::is_empty")]
    pub category: &'static str,
    /// What kind of event.
    #[serde(rename = "ph")]
    pub phase: Phase,
    /// When.
    #[serde(rename = "ts", serialize_with = "microseconds")]
    pub time: u64,
    /// For how long; for [`Phase::Slice`] alone.
    #[serde(
        rename = "dur",
        serialize_with = "some_microseconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub duration: Option<u64>,
    /// On which track.
    #[serde(flatten)]
    pub track: Track,
    /// Which flow events belong together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Which asynchronous events of a process do.
    #[serde(rename = "id2", skip_serializing_if = "Option::is_none")]
    pub local_id: Option<LocalId>,
    /// For the end of a flow: "e", it ends in the slice around it and not in the next.
    #[serde(rename = "bp", skip_serializing_if = "Option::is_none")]
    pub binding: Option<&'static str>,
    /// For an instant: "t", it is one of its track alone.
    #[serde(rename = "s", skip_serializing_if = "Option::is_none")]
    pub scope: Option<&'static str>,
    /// What else there is to tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<Args<'a>>,
}

impl<'a> TraceEvent<'a> {
    /// An event that has nothing but what each must have.
    #[must_use]
    pub fn new(
        phase: Phase,
        category: &'static str,
        name: &'a str,
        track: Track,
        time: u64,
    ) -> Self {
        Self {
            name,
            category,
            phase,
            time,
            duration: None,
            track,
            id: None,
            local_id: None,
            binding: (phase == Phase::FlowEnd).then_some("e"),
            scope: (phase == Phase::Instant).then_some("t"),
            args: None,
        }
    }

    /// The same with `args`.
    #[must_use]
    pub fn with(self, args: Args<'a>) -> Self {
        let args = Some(args);
        Self { args, ..self }
    }

    /// The same with an `id`: for a part of a flow.
    #[must_use]
    pub fn with_id(self, id: u64) -> Self {
        let id = Some(id);
        Self { id, ..self }
    }

    /// The same with an `id`: for an asynchronous event.
    #[must_use]
    pub fn with_local_id(self, id: u64) -> Self {
        let local_id = Some(LocalId { local: id });
        Self { local_id, ..self }
    }

    /// The same up to `end`; what takes no time takes a nanosecond, so that it can be seen.
    #[must_use]
    pub fn until(self, end: u64) -> Self {
        let duration = Some(end.saturating_sub(self.time).max(1));
        Self { duration, ..self }
    }
}

/// A number that has its meaning within a process.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LocalId {
    #[serde(serialize_with = "text")]
    local: u64,
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Phase {
    /// Names a track.
    #[serde(rename = "M")]
    Metadata,
    /// Something that takes time, on a track where one is in another or after it.
    #[serde(rename = "X")]
    Slice,
    /// Something that takes no time.
    #[serde(rename = "i")]
    Instant,
    /// The begin of something that takes time, many of which may overlap.
    #[serde(rename = "b")]
    AsyncBegin,
    /// A moment of that.
    #[serde(rename = "n")]
    AsyncInstant,
    /// Its end.
    #[serde(rename = "e")]
    AsyncEnd,
    /// Where an arrow begins.
    #[serde(rename = "s")]
    FlowStart,
    /// Where it passes.
    #[serde(rename = "t")]
    FlowStep,
    /// Where it ends.
    #[serde(rename = "f")]
    FlowEnd,
}

/// A line in the picture, or a group of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Track {
    /// The group: a process, in the format's words.
    pub pid: u32,
    /// The line: a thread.
    pub tid: u32,
}

/// What else there is to tell of an event.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Args<'a> {
    /// The name of a track.
    Name { name: String },
    /// Of an exit. Addresses and values are too large for the numbers of some readers.
    Exit {
        exit: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        device: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        register: Option<&'a str>,
        #[serde(serialize_with = "some_hex", skip_serializing_if = "Option::is_none")]
        address: Option<u64>,
        #[serde(serialize_with = "some_hex", skip_serializing_if = "Option::is_none")]
        value: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes: Option<u32>,
    },
    /// Of a notification.
    Notify { device: &'a str, by: &'static str },
    /// Of a drain.
    Drain {
        device: &'a str,
        cause: &'static str,
        requests: u64,
        skipped_heads: u64,
        #[serde(skip_serializing_if = "is_false")]
        unfinished: bool,
    },
    /// Of a request.
    Request {
        #[serde(rename = "type")]
        kind: &'static str,
        head: u16,
        descriptors: u16,
        sector: Option<u64>,
        bytes: u64,
        status: Option<&'static str>,
        used_len: u32,
        used_idx: u16,
        #[serde(skip_serializing_if = "is_false")]
        failed: bool,
        #[serde(skip_serializing_if = "is_false")]
        unfinished: bool,
    },
    /// Of a request's service.
    Service { request: u64 },
    /// Of an interrupt.
    Interrupt { event: &'static str, gsi: u32 },
}

/// What is told of the trace as a whole.
#[derive(Debug, Serialize)]
pub struct Metadata {
    /// The program and its version.
    pub program: &'static str,
    /// How many events are kept of each source.
    pub trace_limit: u32,
    /// How many are not, of all sources.
    pub dropped_events: u64,
    /// Each source.
    pub sources: Vec<Source>,
}

/// Where events come from.
#[derive(Debug, Serialize)]
pub struct Source {
    /// A vCPU or a queue.
    pub name: String,
    /// How many events there were.
    pub events: u64,
    /// How many of them, the first ones, are not in the trace.
    pub dropped_events: u64,
}

fn microseconds<S: Serializer>(nanos: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(*nanos as f64 / 1000.0)
}

fn some_microseconds<S: Serializer>(nanos: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    microseconds(&nanos.unwrap_or_default(), serializer)
}

fn some_hex<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{:#x}", value.unwrap_or_default()))
}

fn text<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn is_false(value: &bool) -> bool {
    !value
}
