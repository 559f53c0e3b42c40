use std::os::unix::fs::symlink;

use super::*;

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
            assert!(!error.to_string().contains("tmp."), "{error}");
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
