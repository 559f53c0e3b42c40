use std::os::unix::fs::symlink;

use super::super::sample;
use super::*;

#[test]
fn a_report_is_read_back_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    let report = sample::report();
    write(&path, &json(&report).unwrap()).unwrap();
    assert!(read(&path).unwrap() == report);
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

#[test]
fn what_was_there_is_replaced_and_nothing_is_left_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report");
    let link = directory.path().join("link");
    fs::write(&path, "a longer text than the next").unwrap();
    symlink(&path, &link).unwrap();
    check(&link).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"a longer text than the next");
    write(&link, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    for path in [
        directory.path().to_owned(),
        directory.path().join("none/report"),
    ] {
        let expected = format!("cannot write {}: ", path.display());
        for error in [check(&path).unwrap_err(), write(&path, b"").unwrap_err()] {
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
}

#[test]
fn a_device_is_written_to_and_not_replaced() {
    let null = Path::new("/dev/null");
    check(null).unwrap();
    write(null, b"text").unwrap();
    assert!(!fs::metadata(null).unwrap().is_file());
}
