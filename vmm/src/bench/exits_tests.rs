use std::time::Duration;

use super::*;

const MILLI: Duration = Duration::from_millis(1);

#[test]
fn a_sample_has_as_many_operations_as_fit_and_at_least_one() {
    let [loop_kind, each_kind] = [Timing::Loop, Timing::Each].map(|timing| {
        let subjects = ONE_CPU.iter();
        let mut of_timing = subjects.filter(|subject| subject.timing == timing);
        *of_timing.next().unwrap()
    });
    assert_eq!(
        iterations(&loop_kind, Duration::from_micros(7), 10 * MILLI),
        1428
    );
    assert_eq!(iterations(&loop_kind, 20 * MILLI, 10 * MILLI), 1);
    let most = loop_kind.timing.max_iterations();
    assert_eq!(
        iterations(&loop_kind, Duration::ZERO, 10 * MILLI),
        10_000_000
    );
    assert_eq!(iterations(&loop_kind, Duration::ZERO, Duration::MAX), most);
    let most = each_kind.timing.max_iterations();
    assert_eq!(iterations(&each_kind, Duration::from_nanos(1), MILLI), most);
}

#[test]
fn where_an_operation_ends_is_what_the_counters_say() {
    #[track_caller]
    fn assert_handled(kind: Kind, vmm: f64, kernel: Option<f64>, expected: Handled) {
        let subject = ONE_CPU.iter().find(|subject| subject.kind == kind).unwrap();
        let counts = ExitCounts {
            vmm,
            kernel_to_user: None,
            kernel,
        };
        assert_eq!(handled(subject, &counts), expected);
    }
    assert_handled(Kind::PioOut, 1.0, Some(1.0), Handled::User);
    assert_handled(Kind::MmioEvent, 1.0, None, Handled::User);
    assert_handled(Kind::Rdtsc, 0.0, Some(1.0), Handled::Kernel);
    assert_handled(Kind::SelfIpi, 0.0, Some(0.01), Handled::Guest);
    assert_handled(Kind::SelfIpi, 0.0, None, Handled::Kernel);
    assert_handled(Kind::MmioEvent, 0.0, Some(0.01), Handled::Kernel);
}

#[test]
fn a_host_that_slows_down_for_some_rounds_does_not_change_the_ratio() {
    let floor = [100.0, 100.0, 900.0, 800.0, 100.0];
    let samples = [102.0, 102.0, 918.0, 816.0, 500.0];
    assert!((paired_ratio(&samples, &floor) - 1.02).abs() < 1e-9);
}

fn exits(khz: u32, by_clock: u32) -> Exits {
    Exits {
        tsc_khz: khz,
        tsc_khz_by_clock: by_clock,
        kinds: Vec::new(),
    }
}

#[test]
fn a_tsc_that_counts_otherwise_than_kvm_says_is_warned_of() {
    assert_eq!(warnings(&exits(2_000_000, 2_019_000)), [""; 0]);
    for by_clock in [2_030_000, 1_970_000] {
        let warnings = warnings(&exits(2_000_000, by_clock));
        assert!(warnings[0].contains(&by_clock.to_string()), "{warnings:?}");
    }
}
