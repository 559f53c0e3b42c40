use super::exits::{ExitKind, ExitSite};
use super::*;
use crate::config::Engine;

const SITE: ExitSite = ExitSite {
    kind: ExitKind::Hlt,
    address: None,
};

fn statistics() -> (Statistics, ExitRecorder) {
    let name = QueueName {
        disk: 0,
        device: "disk".to_owned(),
        queue: 0,
        of: 1,
        engine: Engine::Sync,
    };
    let queues = vec![(name, SharedQueueStats::default())];
    let mut statistics = Statistics::new(StatsReport::Nobody, Arc::default(), queues);
    let recorder = ExitRecorder::new(Arc::clone(&statistics.map));
    let vcpu = (recorder.clone(), Err(KvmStatsError::Missing));
    statistics.vcpus.push(vcpu);
    (statistics, recorder)
}

#[test]
fn a_snapshot_has_what_was_counted_and_the_reason_why_the_kernel_counts_nothing() {
    let (statistics, recorder) = statistics();
    recorder.record(SITE, Duration::ZERO);
    let snapshot = statistics.snapshot();
    assert_eq!(snapshot.vcpus[0].exits.exits(), 1);
    let reason = snapshot.vcpus[0].kvm.as_ref().unwrap_err();
    assert!(reason.contains("KVM_CAP_BINARY_STATS_FD"), "{reason}");
    assert_eq!(snapshot.queues[0].0.to_string(), "disk");
}

#[test]
fn a_report_of_a_machine_in_which_nothing_has_happened_can_be_made() {
    let (statistics, _) = statistics();
    let report = Report::new(&statistics.snapshot(), &statistics.map);
    let text = text::render(&report);
    for line in [
        "  all                         0  100.0%",
        "  all       0       0      0       0       0         0       0",
        "  drains: 0; 0 found nothing",
        "  exits to user space      0",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
    }
    assert!(report.to_json().ends_with("}\n"));
}
