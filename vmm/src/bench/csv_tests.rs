use std::collections::HashSet;

use super::super::sample;
use super::*;

fn rows(report: &Report) -> Vec<Vec<String>> {
    let csv = csv(report).unwrap();
    let mut reader = ::csv::Reader::from_reader(csv.as_slice());
    assert_eq!(
        reader.headers().unwrap(),
        ["section", "name", "metric", "value", "unit"].as_slice()
    );
    let records = reader.records();
    records
        .map(|record| record.unwrap().iter().map(Into::into).collect())
        .collect()
}

#[test]
fn every_row_can_be_read_back_and_is_there_once() {
    let rows = rows(&sample::report());
    assert!(rows.len() > 200, "{}", rows.len());
    let mut seen = HashSet::new();
    for row in &rows {
        row[3].parse::<f64>().unwrap();
        assert!(seen.insert(row[..3].to_vec()), "twice: {row:?}");
    }
}

#[test]
fn rows_have_the_figures_of_the_report() {
    let rows = rows(&sample::report());
    let median = sample::series(7_084.0).summary.median.to_string();
    for row in [
        ["exits", "pio out", "vmm median", median.as_str(), "ns"],
        ["exits", "pio out", "vmm samples", "20", ""],
        [
            "exits",
            "mmio write",
            "exits to user counted by kvm",
            "1.25",
            "",
        ],
        [
            "block",
            "randread bs=4096 depth=8 notify=trap wait=irq",
            "notifications per request",
            "0.125",
            "",
        ],
        [
            "linux",
            "vmm registers=mapped notify=trap",
            "iops by trap samples",
            "20",
            "",
        ],
        [
            "linux",
            "QEMU 7.2.22 microvm",
            "exits to user per request counted by kvm",
            "2",
            "",
        ],
        [
            "start",
            "memory beyond the guest's",
            "vmm",
            "2800000",
            "bytes",
        ],
        [
            "targets",
            "memory beyond the guest's",
            "limit",
            "3145728",
            "bytes",
        ],
    ] {
        assert!(rows.iter().any(|found| *found == row), "{row:?}");
    }
}

#[test]
fn what_could_not_be_measured_has_no_row() {
    for row in rows(&sample::report()) {
        assert_ne!(row[1], "hypercall");
        assert!(!(row[1].contains("depth=64") && row[2].starts_with("exits")));
        assert!(!row[2].starts_with("io_uring"));
    }
}
