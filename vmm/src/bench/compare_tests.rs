use super::super::report::ExitCost;
use super::super::sample;
use super::*;

/// The sample report, with the cost of its `index`th kind changed.
fn changed(index: usize, change: impl FnOnce(&mut ExitCost)) -> Report {
    let mut report = sample::report();
    change(
        report.exits.as_mut().unwrap().kinds[index]
            .cost
            .as_mut()
            .unwrap(),
    );
    report
}

fn find<'a>(comparison: &'a Comparison, name: &str, metric: &str) -> &'a Difference {
    let mut all = comparison.differences.iter();
    all.find(|d| d.name == name && d.metric == metric).unwrap()
}

#[test]
fn a_report_is_the_same_as_itself() {
    let report = sample::report();
    let comparison = compare(&report, &report);
    assert!(comparison.differences.len() > 100);
    for difference in &comparison.differences {
        assert_eq!(difference.verdict, Verdict::Same, "{difference:?}");
    }
    assert_eq!((comparison.only_a.len(), comparison.only_b.len()), (0, 0));
    let text = comparison.text().replace('\n', " ");
    assert!(text.contains(
        " same, 0 higher in B, 0 lower in B, 0 differ without a known spread; 0 only in A, 0 only \
         in B."
    ));
}

#[test]
fn a_difference_beyond_noise_is_told_with_its_interval() {
    // The samples lie within 1 % of the middle.
    let slower = changed(2, |cost| cost.vmm = sample::series(7_084.0 * 1.05));
    let comparison = compare(&sample::report(), &slower);
    let found = find(&comparison, "pio out", "vmm");
    assert_eq!(found.verdict, Verdict::Higher);
    let percent = found.percent.unwrap();
    assert!((4.5..5.5).contains(&percent), "{percent}");
    let (from, to) = found.ci95.unwrap();
    assert!(3.0 < from && from < percent && percent < to && to < 7.0);
    let others = comparison
        .differences
        .iter()
        .filter(|d| d.verdict != Verdict::Same);
    let others: Vec<&str> = others.map(|d| d.metric.as_str()).collect();
    assert_eq!(others, ["vmm", "vmm by floor"]);

    let back = compare(&slower, &sample::report());
    assert_eq!(find(&back, "pio out", "vmm").verdict, Verdict::Lower);
}

#[test]
fn a_difference_within_noise_is_none() {
    let alike = changed(2, |cost| cost.vmm = sample::series(7_084.0 * 1.0005));
    let comparison = compare(&sample::report(), &alike);
    assert_eq!(find(&comparison, "pio out", "vmm").verdict, Verdict::Same);
}

#[test]
fn it_comes_out_the_same_every_time() {
    let other = changed(2, |cost| cost.vmm = sample::series(7_100.0));
    let once = compare(&sample::report(), &other).text();
    assert_eq!(compare(&sample::report(), &other).text(), once);
}

#[test]
fn counts_and_short_series_that_differ_have_no_known_spread() {
    let other = changed(2, |cost| {
        cost.exits.vmm = 1.5;
        cost.floor = Series::new(vec![8_000.0; 4]);
    });
    let comparison = compare(&sample::report(), &other);
    let count = find(&comparison, "pio out", "exits counted by vmm");
    assert_eq!((count.verdict, count.ci95), (Verdict::Unknown, None));
    let floor = find(&comparison, "pio out", "floor");
    assert_eq!((floor.verdict, floor.ci95), (Verdict::Unknown, None));
}

#[test]
fn figures_of_one_report_alone_are_named() {
    let mut other = sample::report();
    other.start = None;
    other.exits.as_mut().unwrap().kinds[3].name = "mmio store".into();
    let comparison = compare(&sample::report(), &other);
    assert!(comparison.only_a.contains(&"exits: mmio write: vmm".into()));
    assert!(comparison.only_b.contains(&"exits: mmio store: vmm".into()));
    let text = comparison.text();
    assert!(
        text.contains("\nonly in A: start: exec to first serial byte: vmm\n"),
        "{text}"
    );
    assert!(
        text.contains("\nonly in B: exits: mmio store: floor\n"),
        "{text}"
    );
}

#[test]
fn nothing_is_divided_by_zero() {
    let zero = changed(0, |cost| cost.vmm = Series::new(vec![0.0; 20]));
    let comparison = compare(&zero, &sample::report());
    let found = find(&comparison, "rdtsc", "vmm");
    assert_eq!((found.percent, found.ci95), (None, None));
    assert_eq!(found.verdict, Verdict::Unknown);
}

#[test]
fn another_machine_is_told_of_and_another_load_is_not() {
    let (mut a, mut b) = (sample::report(), sample::report());
    a.host.facts.push(("Load average".into(), "0.1".into()));
    b.host.facts.push(("Load average".into(), "9.9".into()));
    assert!(compare(&a, &b).machines.is_empty());
    b.host.facts[1].1 = "kvm_intel".into();
    let text = compare(&a, &b).text();
    let expected = "The machines differ in KVM module: A kvm_amd, nested; B kvm_intel.\n";
    assert!(text.starts_with(expected), "{text}");
}
