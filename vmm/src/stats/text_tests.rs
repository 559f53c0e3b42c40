use std::collections::BTreeMap;

use super::super::exits::ExitKind;
use super::super::report::{Batch, Merged, RequestRow};
use super::*;

const TIMES: Times = Times {
    p50: 1200,
    p99: 3400,
    p999: 5600,
    max: 7800,
};

fn exit(exit: ExitKind, at: Option<(&str, &str)>, address: Option<u64>, count: u64) -> ExitRow {
    let (device, register) = at.map(|(a, b)| (a.to_owned(), b.to_owned())).unzip();
    ExitRow {
        exit,
        device,
        register,
        address,
        count,
        share: count as f64 / 1000.0,
        time_ns: TIMES,
    }
}

fn row(kind: &'static str, count: u64, bytes: u64) -> RequestRow {
    RequestRow {
        kind,
        count,
        failed: 1,
        bytes,
        latency_ns: TIMES,
    }
}

fn vcpu(exits: u64, counters: &[(&str, u64)]) -> VcpuReport {
    let counters = counters
        .iter()
        .map(|(name, value)| ((*name).into(), *value));
    VcpuReport {
        exits,
        kvm: Some(counters.collect()),
        kvm_error: None,
    }
}

fn report() -> Report {
    let disk = "virtio-blk 0 (disk0)";
    Report {
        seconds: 1.5,
        exits: vec![
            exit(
                ExitKind::MmioWrite,
                Some((disk, "QueueNotify")),
                Some(1),
                900,
            ),
            exit(ExitKind::PioIn, None, Some(0x70), 97),
            exit(ExitKind::PioOut, None, None, 2),
            exit(ExitKind::Signal, None, None, 1),
        ],
        vcpus: vec![
            vcpu(999, &[("exits", 1001), ("hypercalls", 0), ("one", 0)]),
            vcpu(1, &[("exits", 2), ("hypercalls", 0), ("one", 1)]),
        ],
        queues: vec![QueueReport {
            device: disk.to_owned(),
            queue: 0,
            queues: 1,
            engine: "io_uring",
            requests: vec![row("IN", 12, 4096), row("FLUSH", 1, 0)],
            all: row("all", 13, 4096),
            drains: BTreeMap::from([("trap", 4), ("poll", 0), ("activation", 1)]),
            empty_drains: 1,
            batch: Batch {
                mean: 3.25,
                p50: 3,
                max: 4,
            },
            merged: Merged {
                requests: 0,
                calls: 0,
            },
            interrupts_sent: 3,
            interrupts_suppressed: 2,
            register_exits: 900,
            register_exits_per_request: 69.23,
            mapped_acks: None,
            skipped_heads: 0,
        }],
    }
}

#[test]
fn everything_is_in_aligned_tables() {
    let expected = "\
vmm: statistics of 1.500 s

Exits to user space, and how long each was handled there
  exit        device                register     count   share  p50 ns  p99 ns  max ns
  mmio write  virtio-blk 0 (disk0)  QueueNotify    900   90.0%    1200    3400    7800
  pio in      none                  0x70            97    9.7%    1200    3400    7800
  pio out     other addresses                        2    0.2%    1200    3400    7800
  signal                                             1    0.1%    1200    3400    7800
  all                                             1000  100.0%

Requests of virtio-blk 0 (disk0), and how long each took from the available to the used ring
  type   count  failed  bytes  p50 ns  p99 ns  p99.9 ns  max ns
  IN        12       1   4096    1200    3400      5600    7800
  FLUSH      1       1      0    1200    3400      5600    7800
  all       13       1   4096    1200    3400      5600    7800
  drains: 5, 1 by activation, 4 by trap; 1 found nothing
  requests per drain: mean 3.2, p50 3, max 4
  interrupts: 3 sent, 2 suppressed
  exits at its registers: 900, 69.23 a request
  engine: io_uring

Counters of KVM by vCPU, and the exits counted here
  counter              vcpu0  vcpu1
  exits to user space    999      1
  exits                 1001      2
  one                      0      1
";
    assert_eq!(render(&report()), expected);
}

#[test]
fn what_is_rare_is_told_where_there_is_any() {
    let mut report = report();
    report.queues[0].skipped_heads = 5;
    assert!(render(&report).contains("\n  heads skipped: 5\n"));
    report.queues[0].merged = Merged {
        requests: 40,
        calls: 3,
    };
    assert!(render(&report).contains("\n  neighbours merged: 40 requests into 3 calls\n"));
    report.queues[0].mapped_acks = Some(7);
    let line = "\n  registers mapped: 7 acknowledgements did not exit, nor did any read\n";
    assert!(render(&report).contains(line));
}

#[test]
fn what_is_of_the_whole_disk_is_told_once_below_its_last_queue() {
    let (mut report, second) = (report(), report().queues);
    report.queues.extend(second);
    for (index, queue) in (0..).zip(&mut report.queues) {
        (queue.queue, queue.queues, queue.mapped_acks) = (index, 2, Some(7));
    }
    let expected = "
Requests of virtio-blk 0 (disk0) in queue 1, and how long each took from the available to the used ring
  type   count  failed  bytes  p50 ns  p99 ns  p99.9 ns  max ns
  IN        12       1   4096    1200    3400      5600    7800
  FLUSH      1       1      0    1200    3400      5600    7800
  all       13       1   4096    1200    3400      5600    7800
  drains: 5, 1 by activation, 4 by trap; 1 found nothing
  requests per drain: mean 3.2, p50 3, max 4
  interrupts: 3 sent, 2 suppressed

All 2 queues of virtio-blk 0 (disk0)
  exits at its registers: 900, 69.23 a request
  engine: io_uring
  registers mapped: 7 acknowledgements did not exit, nor did any read

";
    let text = render(&report);
    assert!(text.contains(expected), "{text}");
    for told in ["exits at its registers", "engine:", "registers mapped:"] {
        assert_eq!(text.matches(told).count(), 1, "{text}");
    }
}

#[test]
fn where_kvm_has_no_counters_the_reason_stands_in_their_place() {
    let mut report = report();
    for vcpu in &mut report.vcpus {
        vcpu.kvm = None;
        vcpu.kvm_error = Some("it has none".to_owned());
    }
    let expected = "
Counters of KVM by vCPU, and the exits counted here
  it has none
  counter              vcpu0  vcpu1
  exits to user space    999      1
";
    assert!(render(&report).ends_with(expected));
}

#[test]
fn json_is_one_line_with_the_names_that_the_text_has() {
    let json = report().to_json();
    assert_eq!(json.find('\n'), Some(json.len() - 1));
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["exits"][0]["exit"], "mmio write");
    assert_eq!(value["exits"][0]["register"], "QueueNotify");
    assert_eq!(value["exits"][0]["time_ns"]["p99"], 3400);
    assert_eq!(value["exits"][2]["address"], serde_json::Value::Null);
    assert_eq!(value["vcpus"][1]["kvm"]["exits"], 2);
    assert_eq!(value["vcpus"][1].get("kvm_error"), None);
    assert_eq!(value["queues"][0]["requests"][0]["type"], "IN");
    assert_eq!(value["queues"][0]["drains"]["trap"], 4);
    assert_eq!(value["queues"][0]["engine"], "io_uring");
}
