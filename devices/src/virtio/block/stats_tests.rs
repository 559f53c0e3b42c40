use super::*;

fn recorder() -> (QueueRecorder, SharedQueueStats) {
    let stats = SharedQueueStats::default();
    (QueueRecorder::new(stats.clone()), stats)
}

/// A drain that serves as many flushes.
fn drain(recorder: &mut QueueRecorder, requests: u32, end: Drain, interrupted: bool) {
    recorder.taken(0);
    for _ in 0..requests {
        recorder.used(RequestKind::Flush, Some(0));
    }
    recorder.drained(end, interrupted);
}

#[test]
fn every_request_counts_by_its_kind_with_its_bytes_and_its_failure() {
    let (mut recorder, stats) = recorder();
    recorder.taken(0);
    recorder.used(RequestKind::In, Some(4096));
    recorder.used(RequestKind::In, Some(512));
    recorder.used(RequestKind::In, None);
    recorder.used(RequestKind::Unsupported, Some(0));
    let stats = stats.snapshot();
    let reads = stats.requests(RequestKind::In);
    assert_eq!((reads.count(), reads.failed, reads.bytes), (3, 1, 4608));
    assert_eq!(stats.requests(RequestKind::Unsupported).count(), 1);
    assert_eq!(stats.requests(RequestKind::Refused).count(), 0);
    assert_eq!(stats.request_count(), 4);
    assert_eq!(stats.latency().count(), 4);
}

#[test]
fn latency_is_counted_from_when_the_chain_was_taken() {
    let (mut recorder, stats) = recorder();
    recorder.taken(0);
    let wait = std::time::Duration::from_millis(2);
    std::thread::sleep(wait);
    recorder.used(RequestKind::Out, Some(512));
    recorder.taken(0);
    let latency = stats.snapshot().latency();
    assert!(latency.max() >= wait.as_nanos() as u64 * 99 / 100);
}

#[test]
fn drains_count_by_what_began_them() {
    let (mut recorder, stats) = recorder();
    recorder.woken(DrainCause::EventFd);
    drain(&mut recorder, 1, Drain::Complete, true);
    drain(&mut recorder, 1, Drain::Complete, true);
    recorder.woken(DrainCause::EventFd);
    drain(&mut recorder, 1, Drain::More, true);
    recorder.woken(DrainCause::EventFd);
    drain(&mut recorder, 1, Drain::Complete, true);
    recorder.woken(DrainCause::Poll);
    drain(&mut recorder, 0, Drain::Complete, false);
    let stats = stats.snapshot();
    assert_eq!(DrainCause::ALL.map(|cause| stats.drains(cause)), [1; 5]);
    assert_eq!((stats.drain_count(), stats.empty_drains()), (5, 1));
}

#[test]
fn batches_and_interrupts_count_where_there_were_requests() {
    let (mut recorder, stats) = recorder();
    drain(&mut recorder, 0, Drain::Complete, false);
    drain(&mut recorder, 3, Drain::Complete, true);
    drain(&mut recorder, 1, Drain::Complete, false);
    drain(&mut recorder, 1, Drain::Complete, false);
    let stats = stats.snapshot();
    assert_eq!((stats.interrupts, stats.suppressed), (1, 2));
    let batch = &stats.batch;
    assert_eq!((batch.count(), batch.quantile(0.5), batch.max()), (3, 1, 3));
}

#[test]
fn what_is_between_two_snapshots_is_their_difference() {
    let (mut recorder, stats) = recorder();
    recorder.taken(2);
    recorder.used(RequestKind::In, None);
    recorder.used(RequestKind::Out, Some(512));
    recorder.drained(Drain::Complete, true);
    let earlier = stats.snapshot();
    recorder.taken(1);
    recorder.used(RequestKind::Out, Some(1024));
    recorder.drained(Drain::Complete, false);
    let since = stats.snapshot().since(&earlier);
    assert_eq!(since.request_count(), 1);
    let writes = since.requests(RequestKind::Out);
    assert_eq!((writes.count(), writes.failed, writes.bytes), (1, 0, 1024));
    assert_eq!(since.requests(RequestKind::In).failed, 0);
    assert_eq!(
        (since.interrupts, since.suppressed, since.skipped),
        (0, 1, 1)
    );
    assert_eq!(since.drain_count(), 1);
    assert_eq!(since.batch.count(), 1);
}
