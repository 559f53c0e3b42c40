use super::super::tests::{config, refusal};
use super::*;

#[test]
fn nothing_is_traced_unless_there_is_a_file_for_it() {
    assert_eq!(config(&[]).trace, None);
    assert!(refusal(&["--trace-limit", "5"]).contains("--trace <FILE>"));
}

#[test]
fn the_last_100000_events_are_kept_unless_the_user_says_otherwise() {
    let traced = |words: &[&str]| config(words).trace;
    let trace = |limit| {
        let path = "t.json".into();
        Some(TraceConfig { path, limit })
    };
    assert_eq!(traced(&["--trace", "t.json"]), trace(100_000));
    for limit in [1, 1_000_000] {
        let words = ["--trace", "t.json", "--trace-limit", &limit.to_string()];
        assert_eq!(traced(&words), trace(limit));
    }
}

#[test]
fn a_limit_that_is_none_or_out_of_range_is_refused() {
    for limit in ["0", "1000001", "-1", "+1", "", "1K", "1.5", "4294967297"] {
        let words = ["--trace", "t.json", &format!("--trace-limit={limit}")];
        let line = refusal(&words);
        assert!(line.contains("--trace-limit <N>"), "{line}");
    }
    assert!(refusal(&["--trace"]).contains("'--trace <FILE>'"));
}
