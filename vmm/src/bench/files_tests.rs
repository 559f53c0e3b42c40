use super::super::sample;
use super::*;
use crate::output::{json, write};

#[test]
fn a_report_is_read_back_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    let report = sample::report();
    write(&path, &json(&report).unwrap()).unwrap();
    assert!(read(&path).unwrap() == report);
}

#[test]
fn a_report_from_before_linux_guests_were_in_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    let report = sample::report();
    let mut old = serde_json::to_value(&report).unwrap();
    old.as_object_mut().unwrap().remove("linux").unwrap();
    fs::write(&path, old.to_string()).unwrap();
    let read = read(&path).unwrap();
    assert_eq!(read.linux, None);
    assert_eq!(read.start, report.start);
}

#[test]
fn the_samples_of_a_series_are_in_one_line() {
    let json = json(&sample::report()).unwrap();
    let text = String::from_utf8(json).unwrap();
    let samples: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("\"samples\""))
        .collect();
    assert!(samples.len() > 20);
    for line in samples {
        assert_eq!(line.matches(", ").count(), 19, "{line}");
    }
    assert!(text.contains("\n  \"format\": 1,\n"), "{text}");
}

#[test]
fn what_is_no_report_is_told_in_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.json");
    let refusal = |text: &[u8]| {
        fs::write(&path, text).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        error
            .strip_prefix(&path.display().to_string())
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        refusal(br#"{"format": 77, "other": []}"#),
        " is a report of format 77: this program reads format 1"
    );
    for text in [&b""[..], b"\xff\x00", b"[1]", b"{}", b"{\"format\": 1}"] {
        let error = refusal(text);
        assert!(
            error.starts_with(" holds no report of vmm bench: "),
            "{error}"
        );
    }
    let missing = read(&directory.path().join("none"))
        .unwrap_err()
        .to_string();
    assert!(missing.starts_with("cannot read "), "{missing}");
}
