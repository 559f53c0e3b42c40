//! That a trace has what the statistics of the same run count, of each kind as many.

use std::collections::BTreeMap;

use serde_json::Value;

use super::file::{Event, Trace};

pub fn number(value: &Value) -> u64 {
    value.as_u64().expect("no number")
}

/// How many of the events there are of each key.
fn count<'a, K: Ord>(
    events: impl Iterator<Item = &'a Event>,
    key: impl Fn(&Event) -> K,
) -> BTreeMap<K, u64> {
    let mut counts = BTreeMap::new();
    for key in events.map(key) {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// Asserts that all that `report` counts is in `trace`, as often.
#[track_caller]
pub fn assert_counts(trace: &Trace, report: &Value) {
    let exits = count(trace.slices("exit"), |exit| {
        let address = exit.args["address"].as_str();
        let address = address.map(|hex| u64::from_str_radix(&hex[2..], 16).unwrap());
        (exit.text("exit").to_owned(), address)
    });
    let rows = report["exits"].as_array().unwrap().iter();
    let counted: BTreeMap<_, _> = rows
        .map(|row| {
            let exit = row["exit"].as_str().unwrap().to_owned();
            ((exit, row["address"].as_u64()), number(&row["count"]))
        })
        .collect();
    assert_eq!(exits, counted);

    assert_queues(trace, report);
}

/// The same for the queues alone.
#[track_caller]
pub fn assert_queues(trace: &Trace, report: &Value) {
    for queue in report["queues"].as_array().unwrap() {
        assert_queue(trace, queue, queue["device"].as_str().unwrap());
    }
}

fn assert_queue(trace: &Trace, report: &Value, device: &str) {
    let track = trace.process(device);
    let requests: Vec<_> = (trace.events.iter())
        .filter(|event| event.ph == "b" && event.pid == track)
        .collect();
    for row in report["requests"].as_array().unwrap() {
        let of_kind = || {
            requests
                .iter()
                .filter(|request| request.args["type"] == row["type"])
        };
        let failed = |request: &&&Event| request.args["failed"] == true;
        let bytes = of_kind().filter(|request| !failed(request));
        let bytes = bytes.map(|request| number(&request.args["bytes"])).sum();
        let counts = (
            of_kind().count() as u64,
            of_kind().filter(failed).count() as u64,
            bytes,
        );
        let told = (
            number(&row["count"]),
            number(&row["failed"]),
            number(&row["bytes"]),
        );
        assert_eq!(counts, told, "{}", row["type"]);
    }
    assert_eq!(requests.len() as u64, number(&report["all"]["count"]));

    let drains = || {
        trace
            .slices("drain")
            .filter(|drain| drain.args["device"] == device)
    };
    let causes = count(drains(), |drain| drain.text("cause").to_owned());
    let mut notified = 0;
    for (cause, told) in report["drains"].as_object().unwrap() {
        let drains = causes.get(cause).copied().unwrap_or(0);
        assert_eq!(drains, number(told), "{cause}");
        if ["trap", "eventfd", "poll"].contains(&cause.as_str()) {
            notified += drains;
        }
    }
    let notifies = (trace.events.iter())
        .filter(|event| event.name == "notify" && event.args["device"] == device);
    assert_eq!(notifies.count() as u64, notified);

    let sum = |field: &str| {
        drains()
            .map(|drain| number(&drain.args[field]))
            .sum::<u64>()
    };
    assert_eq!(sum("requests"), requests.len() as u64);
    assert_eq!(sum("skipped_heads"), number(&report["skipped_heads"]));
    let empty = drains().filter(|drain| drain.args["requests"] == 0).count() as u64;
    assert_eq!(empty, number(&report["empty_drains"]));

    let interrupts = (trace.slices("interrupt"))
        .filter(|interrupt| interrupt.pid == track && interrupt.args["event"] == "used buffer");
    let interrupts = interrupts.count() as u64;
    assert_eq!(interrupts, number(&report["interrupts_sent"]));
    let suppressed = drains().count() as u64 - empty - interrupts;
    assert_eq!(suppressed, number(&report["interrupts_suppressed"]));
}
