use super::*;

fn recorder() -> (QueueRecorder, SharedQueueStats) {
    let stats = SharedQueueStats::default();
    (QueueRecorder::new(stats.clone()), stats)
}

fn taken(recorder: &mut QueueRecorder, refused: u16) {
    recorder.taken(&Batch {
        heads: [0].into(),
        refused,
        ..Batch::default()
    });
}

/// A request of `kind` that has moved `bytes`, or that the host has failed.
fn complete(recorder: &mut QueueRecorder, kind: RequestKind, bytes: Option<u64>) {
    let answer = Answer {
        kind,
        failed: bytes.is_none(),
        moved: bytes.unwrap_or(512),
        ..Answer::default()
    };
    recorder.completed(0, 0, &answer);
}

/// A drain that serves as many flushes.
fn drain(recorder: &mut QueueRecorder, cause: DrainCause, requests: u32, interrupts: bool) {
    recorder.drain_begins(cause, 0);
    taken(recorder, 0);
    for _ in 0..requests {
        complete(recorder, RequestKind::Flush, Some(0));
    }
    recorder.drain_ends(Drain::Complete, interrupts);
}

#[test]
fn every_request_counts_by_its_kind_with_its_bytes_and_its_failure() {
    let (mut recorder, stats) = recorder();
    taken(&mut recorder, 0);
    complete(&mut recorder, RequestKind::In, Some(4096));
    complete(&mut recorder, RequestKind::In, Some(512));
    complete(&mut recorder, RequestKind::In, None);
    complete(&mut recorder, RequestKind::Unsupported, Some(0));
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
    taken(&mut recorder, 0);
    let wait = std::time::Duration::from_millis(2);
    std::thread::sleep(wait);
    complete(&mut recorder, RequestKind::Out, Some(512));
    taken(&mut recorder, 0);
    let latency = stats.snapshot().latency();
    assert!(latency.max() >= wait.as_nanos() as u64 * 99 / 100);
}

#[test]
fn requests_that_overlap_have_latencies_of_their_own() {
    let (mut recorder, stats) = recorder();
    let mut take = |heads: [u16; 1]| {
        recorder.taken(&Batch {
            heads: heads.into(),
            ..Batch::default()
        });
    };
    take([5]);
    let wait = std::time::Duration::from_millis(2);
    std::thread::sleep(wait);
    take([2]);
    let latencies = [2, 5].map(|head| {
        let before = stats.snapshot().latency().max();
        recorder.completed(head, 0, &Answer::default());
        (before, stats.snapshot().latency().max())
    });
    let [(_, short), (_, long)] = latencies;
    assert!(long >= wait.as_nanos() as u64 * 99 / 100);
    assert!(short < long, "{short} {long}");
}

#[test]
fn neighbours_that_were_merged_count_by_requests_and_by_calls() {
    let (mut recorder, stats) = recorder();
    recorder.merged(3);
    recorder.merged(2);
    let stats = stats.snapshot();
    assert_eq!((stats.merged, stats.merged_calls), (5, 2));
}

#[test]
fn drains_count_by_what_began_them() {
    let (mut recorder, stats) = recorder();
    for cause in DrainCause::ALL {
        drain(&mut recorder, cause, 1, true);
    }
    drain(&mut recorder, DrainCause::Poll, 0, false);
    let stats = stats.snapshot();
    let drains = DrainCause::ALL.map(|cause| stats.drains(cause));
    assert_eq!(drains, [1, 1, 2, 1, 1, 1]);
    assert_eq!((stats.drain_count(), stats.empty_drains()), (7, 1));
}

#[test]
fn batches_and_interrupts_count_where_there_were_requests() {
    let (mut recorder, stats) = recorder();
    let mut drain = |requests, interrupts| {
        drain(&mut recorder, DrainCause::Trap, requests, interrupts);
    };
    drain(0, false);
    drain(3, true);
    drain(1, false);
    drain(1, false);
    let stats = stats.snapshot();
    assert_eq!((stats.interrupts, stats.suppressed), (1, 2));
    let batch = &stats.batch;
    assert_eq!((batch.count(), batch.quantile(0.5), batch.max()), (3, 1, 3));
}
