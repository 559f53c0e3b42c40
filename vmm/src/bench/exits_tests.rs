use super::*;

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
