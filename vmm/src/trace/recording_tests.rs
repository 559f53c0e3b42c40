use std::thread;

use devices::virtio::block::stats::{DrainCause, RequestKind};
use serde_json::{Value, json};

use super::*;
use crate::config::Engine;
use crate::stats::exits::ExitKind;

const NOTIFY: u64 = 0xd000_0050;

fn ring(limit: usize, events: impl IntoIterator<Item = (u64, What)>) -> Ring {
    let mut ring = Ring::new(limit);
    for (time, what) in events {
        ring.write(Event { time, what });
    }
    ring
}

fn exit(kind: ExitKind, address: u64, end: u64) -> What {
    What::Exit {
        end,
        kind,
        address,
        len: 4,
        value: 0,
    }
}

fn drain_begins(cause: DrainCause) -> What {
    let thread = thread::current().id();
    What::DrainBegins { cause, thread }
}

fn drain_ends(interrupts: bool) -> What {
    let more = false;
    What::DrainEnds { more, interrupts }
}

const TAKEN: What = What::Taken { refused: 0 };
const INTERRUPTED: What = What::Interrupted { used_buffer: true };

fn submitted(head: u16) -> What {
    What::Submitted {
        head,
        descriptors: 3,
        sector: Some(8),
        bytes: 4096,
    }
}

fn completed(head: u16, kind: RequestKind) -> What {
    What::Completed {
        head,
        kind,
        failed: false,
        status: Some(0),
        written: 4097,
        used: 7,
    }
}

/// A drain from 2000 on, of two requests, for a notification that is being handled from 1000 to
/// 9000 where a vCPU's thread drains.
fn drain(cause: DrainCause, interrupts: bool) -> Vec<(u64, What)> {
    let mut events = vec![
        (2000, drain_begins(cause)),
        (2500, TAKEN),
        (3000, submitted(0)),
        (4000, completed(0, RequestKind::In)),
        (5000, submitted(3)),
        (6000, completed(3, RequestKind::Flush)),
        (7000, drain_ends(interrupts)),
    ];
    if interrupts {
        events.push((8000, INTERRUPTED));
    }
    events
}

/// A vCPU that has exited for a notification, and a queue with these events, which it serves if
/// `serves`.
/// The one queue of the disk `device`.
fn name(device: &str) -> QueueName {
    QueueName {
        disk: 0,
        device: device.to_owned(),
        queue: 0,
        of: 1,
        engine: Engine::Sync,
    }
}

fn recording(serves: bool, queue: Ring) -> Recording {
    let mut vcpu = ring(8, [(1000, exit(ExitKind::MmioWrite, NOTIFY, 9000))]);
    vcpu.thread = serves.then(|| thread::current().id());
    Recording {
        limit: 8,
        vcpus: vec![("vcpu0".to_owned(), vcpu)],
        queues: vec![(name("virtio-blk 0 (disk0)"), queue)],
    }
}

fn written(recording: &Recording) -> Value {
    let mut map = AddressMap::default();
    map.add_virtio_mmio(0xd000_0000, 0x1000, "virtio-blk 0 (disk0)");
    map.add_ports(0x3f8, 8, "COM1");
    let mut file = Vec::new();
    recording.write(&map, &mut file).unwrap();
    serde_json::from_slice(&file).unwrap()
}

/// The events of a phase.
fn of<'a>(trace: &'a Value, phase: &str) -> Vec<&'a Value> {
    let events = trace["traceEvents"].as_array().unwrap().iter();
    events.filter(|event| event["ph"] == phase).collect()
}

/// Name, start and length of each slice on a track.
fn slices(trace: &Value, tid: u32) -> Vec<(&str, f64, f64)> {
    let slices = of(trace, "X").into_iter();
    slices
        .filter(|slice| slice["tid"] == tid)
        .map(|slice| {
            let number = |field: &str| slice[field].as_f64().unwrap();
            (slice["name"].as_str().unwrap(), number("ts"), number("dur"))
        })
        .collect()
}

/// What joins an event with others.
fn id(event: &Value) -> u64 {
    match &event["id2"]["local"] {
        Value::String(id) => id.parse().unwrap(),
        _ => event["id"].as_u64().unwrap(),
    }
}

/// Where each part of an arrow is: its track, and its time.
fn arrows(trace: &Value, phase: &str) -> Vec<(u64, u64, f64)> {
    let parts = of(trace, phase).into_iter().map(|part| {
        let number = |field: &str| part[field].as_u64().unwrap();
        (id(part), number("tid"), part["ts"].as_f64().unwrap())
    });
    parts.collect()
}

#[test]
fn a_queue_that_the_vcpu_serves_has_its_drains_within_the_exit() {
    let trace = written(&recording(true, ring(8, drain(DrainCause::Trap, true))));
    assert_eq!(
        slices(&trace, VCPUS),
        [("mmio write QueueNotify", 1.0, 8.0), ("drain", 2.0, 5.0)]
    );
    assert_eq!(
        slices(&trace, QUEUES),
        [
            ("IN", 3.0, 1.0),
            ("FLUSH", 5.0, 1.0),
            ("interrupt", 7.0, 1.0)
        ]
    );
    assert_eq!(slices(&trace, WORKERS), []);
}

#[test]
fn a_queue_with_a_thread_of_its_own_has_its_drains_on_the_track_of_that() {
    let trace = written(&recording(false, ring(8, drain(DrainCause::EventFd, true))));
    assert_eq!(
        slices(&trace, VCPUS),
        [("mmio write QueueNotify", 1.0, 8.0)]
    );
    assert_eq!(slices(&trace, WORKERS), [("drain", 2.0, 5.0)]);
    let drain = of(&trace, "X")
        .into_iter()
        .find(|slice| slice["name"] == "drain");
    assert_eq!(
        drain.unwrap()["args"],
        json!({"device": "virtio-blk 0 (disk0)", "cause": "eventfd", "requests": 2, "skipped_heads": 0})
    );
    let [notify] = of(&trace, "i")[..] else {
        panic!("{trace}");
    };
    assert_eq!(
        (&notify["args"]["by"], &notify["tid"], &notify["ts"]),
        (&json!("eventfd"), &json!(WORKERS), &json!(2.0))
    );
}

#[test]
fn an_arrow_goes_from_the_exit_to_the_request_and_to_the_interrupt() {
    let trace = written(&recording(true, ring(8, drain(DrainCause::Trap, true))));
    let (vcpu, queue) = (VCPUS.into(), QUEUES.into());
    assert_eq!(arrows(&trace, "s"), [(1, vcpu, 1.0), (2, vcpu, 1.0)]);
    assert_eq!(arrows(&trace, "t"), [(1, queue, 3.999), (2, queue, 5.999)]);
    assert_eq!(arrows(&trace, "f"), [(1, queue, 7.0), (2, queue, 7.0)]);
    assert!(of(&trace, "f").iter().all(|end| end["bp"] == "e"));
}

#[test]
fn an_arrow_to_a_request_of_which_the_driver_is_not_told_ends_there() {
    let trace = written(&recording(false, ring(8, drain(DrainCause::Poll, false))));
    let (worker, queue) = (WORKERS.into(), QUEUES.into());
    assert_eq!(arrows(&trace, "s"), [(1, worker, 2.0), (2, worker, 2.0)]);
    assert_eq!(arrows(&trace, "t"), []);
    assert_eq!(arrows(&trace, "f"), [(1, queue, 3.999), (2, queue, 5.999)]);
}

#[test]
fn an_arrow_begins_where_the_request_was_taken_even_if_another_drain_has_served_it() {
    let later = What::DrainEnds {
        more: true,
        interrupts: false,
    };
    let events = [
        (2000, drain_begins(DrainCause::EventFd)),
        (2100, TAKEN),
        (2200, submitted(0)),
        (2300, completed(0, RequestKind::In)),
        (2400, later),
        (3000, drain_begins(DrainCause::Continuation)),
        (3100, submitted(3)),
        (3200, completed(3, RequestKind::In)),
        (3300, TAKEN),
        (3400, submitted(6)),
        (3500, completed(6, RequestKind::In)),
        (3600, drain_ends(true)),
        (3700, INTERRUPTED),
    ];
    let trace = written(&recording(false, ring(16, events)));
    let worker = WORKERS.into();
    assert_eq!(
        arrows(&trace, "s"),
        [(1, worker, 2.0), (2, worker, 2.0), (3, worker, 3.0)]
    );
    // What was taken when is not known where that is lost.
    let trace = written(&recording(false, ring(8, events)));
    assert_eq!(arrows(&trace, "s"), [(1, worker, 3.0), (2, worker, 3.0)]);
}

#[test]
fn a_request_is_from_when_it_was_taken_to_when_it_was_used_with_all_that_is_known() {
    let trace = written(&recording(true, ring(8, drain(DrainCause::Trap, true))));
    let times = |phase| {
        let of = of(&trace, phase).into_iter();
        let of = of.map(|event| (id(event), event["ts"].as_f64().unwrap()));
        of.collect::<Vec<_>>()
    };
    assert_eq!(times("b"), [(1, 2.5), (2, 2.5)]);
    assert_eq!(times("n"), [(1, 3.0), (2, 5.0)]);
    assert_eq!(times("e"), [(1, 4.0), (2, 6.0)]);
    assert_eq!(
        of(&trace, "b")[0],
        &json!({
            "name": "IN",
            "cat": "request",
            "ph": "b",
            "ts": 2.5,
            "pid": 2,
            "tid": QUEUES,
            "id2": {"local": "1"},
            "args": {
                "type": "IN",
                "head": 0,
                "descriptors": 3,
                "sector": 8,
                "bytes": 4096,
                "status": "OK",
                "used_len": 4097,
                "used_idx": 7,
            },
        })
    );
}

#[test]
fn what_was_not_over_when_the_trace_ended_ends_with_it_and_says_so() {
    let events = [
        (2000, drain_begins(DrainCause::Trap)),
        (2500, TAKEN),
        (3000, submitted(0)),
    ];
    let trace = written(&recording(true, ring(8, events)));
    assert_eq!(slices(&trace, QUEUES), [("unfinished", 3.0, 6.0)]);
    assert_eq!(slices(&trace, VCPUS)[1], ("drain", 2.0, 7.0));
    for event in [of(&trace, "X")[1], of(&trace, "b")[0]] {
        assert_eq!(event["args"]["unfinished"], true, "{event}");
    }
    assert_eq!(arrows(&trace, "s").len(), arrows(&trace, "f").len());
}

#[test]
fn whatever_a_ring_has_lost_each_arrow_and_each_request_has_both_ends() {
    let all: Vec<_> = (0..3).flat_map(|_| drain(DrainCause::Trap, true)).collect();
    for limit in 1..all.len() {
        let recording = recording(false, ring(limit, all.clone()));
        assert_eq!(recording.dropped(), (all.len() - limit) as u64);
        let trace = written(&recording);
        let ids = |phase| {
            let mut ids: Vec<_> = (of(&trace, phase).iter()).map(|event| id(event)).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids("s"), ids("f"), "limit {limit}");
        assert_eq!(ids("b"), ids("e"), "limit {limit}");
        assert_eq!(trace["metadata"]["dropped_events"], recording.dropped());
    }
}

#[test]
fn an_exit_is_told_with_where_it_was_and_what_it_moved() {
    let mut recording = recording(true, Ring::new(1));
    let events = [
        (1, exit(ExitKind::PioIn, 0x3fd, 2)),
        (3, exit(ExitKind::MmioRead, 0x1_0000_0000_0000, 4)),
        (
            5,
            What::Exit {
                end: 5,
                kind: ExitKind::Hlt,
                address: 0,
                len: 0,
                value: 0,
            },
        ),
    ];
    recording.vcpus[0].1 = ring(8, events);
    let trace = written(&recording);
    let exits: Vec<_> = (of(&trace, "X").into_iter())
        .map(|exit| (exit["name"].as_str().unwrap(), &exit["args"]))
        .collect();
    assert_eq!(
        exits,
        [
            (
                "pio in COM1+0x5",
                &json!({"exit": "pio in", "device": "COM1", "register": "+0x5",
                    "address": "0x3fd", "value": "0x0", "bytes": 4})
            ),
            (
                "mmio read",
                &json!({"exit": "mmio read", "address": "0x1000000000000", "value": "0x0",
                    "bytes": 4})
            ),
            ("hlt", &json!({"exit": "hlt"})),
        ]
    );
    assert_eq!(slices(&trace, VCPUS)[2], ("hlt", 0.005, 0.001));
}

#[test]
fn tracks_have_names_and_a_name_may_hold_anything() {
    let mut recording = recording(false, ring(8, drain(DrainCause::EventFd, true)));
    recording.queues[0].0 = name("virtio-blk 0 (\"\\\u{1b})");
    let trace = written(&recording);
    let names: Vec<_> = (of(&trace, "M").into_iter())
        .map(|event| {
            let name = event["args"]["name"].as_str().unwrap();
            (event["name"].as_str().unwrap(), name)
        })
        .collect();
    assert_eq!(
        names,
        [
            ("process_name", "vmm"),
            ("thread_name", "vcpu0"),
            ("thread_name", "worker of virtio-blk 0 (\"\\\u{1b})"),
            ("process_name", "virtio-blk 0 (\"\\\u{1b})"),
            ("thread_name", "queue 0"),
        ]
    );
}

#[test]
fn a_trace_of_nothing_is_a_trace() {
    let recording = Recording {
        limit: 1,
        vcpus: Vec::new(),
        queues: Vec::new(),
    };
    let trace = written(&recording);
    assert_eq!(trace["displayTimeUnit"], "ns");
    assert_eq!(trace["metadata"]["trace_limit"], 1);
    assert_eq!(
        of(&trace, "M").len(),
        trace["traceEvents"].as_array().unwrap().len()
    );
}
