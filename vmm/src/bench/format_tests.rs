use super::*;

#[test]
fn a_time_has_the_unit_that_leaves_a_number_of_a_few_digits() {
    for (ns, text) in [
        (0.0, "0"),
        (0.4567, "0.46 ns"),
        (3.2, "3.20 ns"),
        (412.4, "412 ns"),
        (999.6, "1.00 us"),
        (7_486.0, "7.49 us"),
        (49_999.0, "50.0 us"),
        (560_000.0, "560 us"),
        (1_234_567.0, "1.23 ms"),
        (2.5e9, "2.50 s"),
        (-1_500.0, "-1.50 us"),
    ] {
        assert_eq!(time(ns), text, "{ns}");
    }
}

#[test]
fn a_size_is_whole() {
    for (bytes, text) in [
        (0, "0 B"),
        (512, "512 B"),
        (4096, "4 KiB"),
        (1536, "1536 B"),
        (1 << 20, "1 MiB"),
        (3 << 30, "3 GiB"),
    ] {
        assert_eq!(size(bytes), text);
    }
}

#[test]
fn thousands_are_told_apart() {
    assert_eq!(digits(99.94), "99.9");
    assert_eq!(digits(1_234_567.4), "1,234,567");
    assert_eq!(digits(-1_234.0), "-1,234");
    assert_eq!(digits(100.0), "100");
}

#[test]
fn what_is_beyond_nothing_is_not_said() {
    assert_eq!(beyond(1.03), "+3.0 %");
    assert_eq!(beyond(0.95), "-5.0 %");
    assert_eq!(beyond(15.0), "+1400 %");
}
