//! A trace as a reader of the Chrome trace-event format takes it (the "Trace Event Format" document
//! of the Chromium project): fields that it does not know, and events that do not fit together, are
//! errors here.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// The JSON object form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    #[serde(rename = "displayTimeUnit")]
    display_time_unit: String,
    metadata: Metadata,
    #[serde(rename = "traceEvents")]
    events: Vec<Event>,
}

/// What the trace tells of itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    program: String,
    trace_limit: u64,
    pub dropped_events: u64,
    pub sources: Vec<Source>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    name: String,
    pub events: u64,
    pub dropped_events: u64,
}

/// An event, with all fields that one of ours may have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub name: String,
    #[serde(default)]
    pub cat: String,
    pub ph: String,
    ts: f64,
    dur: Option<f64>,
    pub pid: u64,
    pub tid: u64,
    id: Option<u64>,
    id2: Option<LocalId>,
    bp: Option<String>,
    s: Option<String>,
    #[serde(default)]
    pub args: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalId {
    local: String,
}

impl Event {
    /// When it begins, in nanoseconds.
    pub fn begin(&self) -> u64 {
        nanos(self.ts)
    }

    /// When a slice ends.
    pub fn end(&self) -> u64 {
        self.begin() + nanos(self.dur.expect("no slice"))
    }

    /// Whether `other` is on the track of this slice, and in its time.
    pub fn spans(&self, other: &Self) -> bool {
        (self.pid, self.tid) == (other.pid, other.tid)
            && (self.begin()..=self.end()).contains(&other.begin())
    }

    fn local_id(&self) -> Option<u64> {
        let id = self.id2.as_ref()?;
        Some(id.local.parse().unwrap())
    }

    /// An argument that is a text.
    #[track_caller]
    pub fn text(&self, arg: &str) -> &str {
        self.args[arg].as_str().expect(arg)
    }

    /// Asserts that it has the fields that its phase asks for, and no others.
    #[track_caller]
    fn assert_sound(&self) {
        let slice = self.ph == "X";
        let (flow, asynchronous) = (["s", "t", "f"], ["b", "n", "e"]);
        let is = |phases: [&str; 3]| phases.contains(&self.ph.as_str());
        let has_id = is(flow) || is(asynchronous);
        assert!(
            slice || has_id || ["M", "i"].contains(&self.ph.as_str()),
            "{self:?}"
        );
        assert_eq!(self.dur.is_some(), slice, "{self:?}");
        assert!(self.dur.is_none_or(|dur| dur > 0.0), "{self:?}");
        assert_eq!(self.id.is_some(), is(flow), "{self:?}");
        assert_eq!(self.id2.is_some(), is(asynchronous), "{self:?}");
        assert_eq!(
            self.bp.as_deref(),
            (self.ph == "f").then_some("e"),
            "{self:?}"
        );
        assert_eq!(
            self.s.as_deref(),
            (self.ph == "i").then_some("t"),
            "{self:?}"
        );
        assert_eq!(self.cat.is_empty(), self.ph == "M", "{self:?}");
        assert!(!self.name.is_empty() && self.ts >= 0.0, "{self:?}");
        assert!(self.args.is_null() || self.args.is_object(), "{self:?}");
    }
}

fn nanos(micros: f64) -> u64 {
    (micros * 1000.0).round() as u64
}

/// A trace that is sound.
pub struct Trace {
    pub metadata: Metadata,
    pub events: Vec<Event>,
}

impl Trace {
    /// The trace at `path`.
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let object: Object = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(object.display_time_unit, "ns");
        assert!(object.metadata.program.starts_with("vmm "));
        let trace = Self {
            metadata: object.metadata,
            events: object.events,
        };
        for source in &trace.metadata.sources {
            assert!(source.events - source.dropped_events <= trace.metadata.trace_limit);
            assert!(
                trace
                    .events
                    .iter()
                    .any(|e| e.args["name"] == source.name.as_str())
            );
        }
        trace.events.iter().for_each(Event::assert_sound);
        trace.assert_named();
        trace.assert_nested();
        trace.assert_paired();
        trace.assert_arrows();
        trace
    }

    /// The slices of a category.
    pub fn slices(&self, category: &str) -> impl Iterator<Item = &Event> {
        let slices = self.events.iter().filter(|event| event.ph == "X");
        slices.filter(move |event| event.cat == category)
    }

    /// The innermost slice that a part of an arrow is bound to.
    #[track_caller]
    pub fn slice_at(&self, arrow: &Event) -> &Event {
        let around = |event: &&Event| event.ph == "X" && event.spans(arrow);
        let innermost = self.events.iter().rfind(around);
        innermost.unwrap_or_else(|| panic!("no slice around {arrow:?}"))
    }

    /// The number of the process with this name.
    #[track_caller]
    pub fn process(&self, name: &str) -> u64 {
        let named = |event: &&Event| event.name == "process_name" && event.args["name"] == name;
        self.events.iter().find(named).expect(name).pid
    }

    /// The number of the thread with this name, if there is one.
    pub fn thread(&self, name: &str) -> Option<u64> {
        let named = |event: &&Event| event.name == "thread_name" && event.args["name"] == name;
        self.events.iter().find(named).map(|event| event.tid)
    }

    /// Each track that has events has a name.
    fn assert_named(&self) {
        let named = |what: &str| {
            let named = self.events.iter().filter(|event| event.name == what);
            named
                .map(|event| (event.pid, event.tid))
                .collect::<Vec<_>>()
        };
        let (processes, threads) = (named("process_name"), named("thread_name"));
        for event in self.events.iter().filter(|event| event.ph != "M") {
            assert!(threads.contains(&(event.pid, event.tid)), "{event:?}");
            assert!(
                processes.iter().any(|(pid, _)| *pid == event.pid),
                "{event:?}"
            );
        }
    }

    /// The slices of a track come in the order of time, each within another or after it.
    fn assert_nested(&self) {
        let mut open: HashMap<_, Vec<u64>> = HashMap::new();
        let mut last: HashMap<_, u64> = HashMap::new();
        for event in self.events.iter().filter(|event| event.ph != "M") {
            let track = (event.pid, event.tid);
            let before = last.insert(track, event.begin()).unwrap_or(0);
            assert!(before <= event.begin(), "time runs backwards: {event:?}");
            if event.ph == "X" {
                let ends = open.entry(track).or_default();
                while ends.last().is_some_and(|end| *end <= event.begin()) {
                    ends.pop();
                }
                let fits = ends.last().is_none_or(|end| event.end() <= *end);
                assert!(fits, "it ends after what it is in, at {ends:?}: {event:?}");
                ends.push(event.end());
            }
        }
    }

    /// The events with an `id`, by that: when those of each phase are, in the order of `phases`.
    fn times(&self, phases: [&str; 3]) -> BTreeMap<u64, [Vec<u64>; 3]> {
        let mut all: BTreeMap<u64, [Vec<u64>; 3]> = BTreeMap::new();
        for event in &self.events {
            if let Some(phase) = phases.iter().position(|phase| *phase == event.ph) {
                let id = event.id.or(event.local_id()).unwrap();
                all.entry(id).or_default()[phase].push(event.begin());
            }
        }
        all
    }

    /// Each request begins once and ends once, with a moment in between.
    fn assert_paired(&self) {
        for (id, times) in self.times(["b", "n", "e"]) {
            let [begin, moment, end] = times.map(|times| {
                assert_eq!(times.len(), 1, "request {id}: {times:?}");
                times[0]
            });
            assert!(begin <= moment && moment <= end, "request {id}");
        }
    }

    /// Each arrow begins once and ends once, goes forward in time, and is bound to slices.
    fn assert_arrows(&self) {
        let mut slices: HashMap<_, Vec<(u64, u64)>> = HashMap::new();
        for slice in self.events.iter().filter(|event| event.ph == "X") {
            let track = slices.entry((slice.pid, slice.tid)).or_default();
            track.push((slice.begin(), slice.end()));
        }
        for arrow in self.events.iter().filter(|event| event.cat == "flow") {
            let track = &slices[&(arrow.pid, arrow.tid)];
            let before = track.partition_point(|(begin, _)| *begin <= arrow.begin());
            // Slices nest at most twice: in an exit or not.
            let around = track[..before].iter().rev().take(2);
            let bound = around.into_iter().any(|(_, end)| arrow.begin() < *end);
            assert!(bound, "bound to nothing: {arrow:?}");
        }
        for (id, [start, step, end]) in self.times(["s", "t", "f"]) {
            let ends = (start.len(), end.len(), step.len() <= 1);
            assert_eq!(ends, (1, 1, true), "arrow {id}");
            let way = [start, step, end].concat();
            assert!(way.is_sorted(), "arrow {id}: {way:?}");
        }
    }
}
