use std::time::Duration;

use super::super::kinds::ONE_CPU;
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
