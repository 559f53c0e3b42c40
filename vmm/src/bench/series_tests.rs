use super::*;

fn near(a: f64, b: f64, within: f64) -> bool {
    (a - b).abs() <= within
}

#[test]
fn figures_of_a_known_series() {
    let series = Series::new(vec![5.0, 1.0, 4.0, 2.0, 3.0]);
    assert_eq!(series.samples, [5.0, 1.0, 4.0, 2.0, 3.0]);
    let Summary {
        min,
        median,
        p99,
        mean,
        mean_ci95,
    } = series.summary;
    assert_eq!((min, median, p99, mean), (1.0, 3.0, 5.0, 3.0));
    // 2.7764 * sqrt(2.5) / sqrt(5)
    assert!(near(mean_ci95, 1.9633, 1e-3), "{mean_ci95}");
}

#[test]
fn a_host_that_slows_down_for_some_rounds_changes_neither_ratio_nor_difference() {
    let floor = Series::new(vec![100.0, 100.0, 900.0, 900.0, 100.0]);
    let series = Series::new(vec![102.0, 102.0, 918.0, 902.0, 500.0]);
    let ratio = series.ratio(&floor).unwrap();
    assert!(near(ratio.summary.median, 1.02, 1e-9));
    assert!(near(
        series.difference(&floor).unwrap().summary.median,
        2.0,
        1e-9
    ));
    assert_eq!(series.ratio(&Series::new(vec![100.0])), None, "no pairs");
    assert_eq!(series.ratio(&Series::new(vec![0.0; 5])), None);
}

#[test]
fn no_samples_and_one_sample_have_figures_too() {
    assert_eq!(Series::new(vec![]).summary, Summary::default());
    let one = Summary::of(&[7.5]);
    assert_eq!(
        (one.min, one.median, one.p99, one.mean),
        (7.5, 7.5, 7.5, 7.5)
    );
    assert_eq!(one.mean_ci95, 0.0);
}

#[test]
fn the_median_of_an_even_number_is_half_way_between_the_two_in_the_middle() {
    assert_eq!(median(&[1.0, 2.0]), 1.5);
    assert_eq!(median(&[1.0, 2.0, 4.0, 100.0]), 3.0);
}

#[test]
fn a_quantile_is_one_of_the_samples_and_the_least_that_will_do() {
    let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
    assert_eq!(quantile(&hundred, 0.99), 99.0);
    assert_eq!(quantile(&hundred, 0.995), 100.0);
    assert_eq!(quantile(&hundred, 0.0), 1.0);
    assert_eq!(quantile(&hundred, 1.0), 100.0);
    assert_eq!(quantile(&[3.0, 9.0], 0.99), 9.0);
}

#[test]
fn samples_that_are_all_alike_leave_no_doubt_of_their_mean() {
    assert_eq!(Summary::of(&[2.0; 20]).mean_ci95, 0.0);
}

#[test]
fn students_t_is_that_of_the_tables() {
    for (freedom, value) in [
        (1, 12.706),
        (4, 2.776),
        (5, 2.571),
        (9, 2.262),
        (19, 2.093),
        (30, 2.042),
        (120, 1.980),
        (100_000, 1.960),
    ] {
        assert!(
            near(t95(freedom), value, 1.5e-3),
            "{freedom}: {}",
            t95(freedom)
        );
    }
}
