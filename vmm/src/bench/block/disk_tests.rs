//! That a scratch file is what it is to be and leaves nothing, and that a file of the user's is
//! opened as the user allows.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

use super::*;
use crate::bench::block::options::{BlockOptions, Rw};

fn plan(disk: Option<&Path>, rw: Rw, size: Option<u64>) -> Plan {
    let options = BlockOptions {
        disk: disk.map(Path::to_path_buf),
        rw,
        size,
        ..Default::default()
    };
    options.plan().unwrap()
}

fn image(len: usize) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), vec![7; len]).unwrap();
    file
}

fn error(plan: &Plan) -> String {
    Disk::open(plan).unwrap_err().to_string()
}

#[test]
fn a_scratch_file_has_no_name_and_is_full_of_data() {
    let disk = Disk::open(&plan(None, Rw::RandRead, Some(3 << 20))).unwrap();
    assert_eq!(disk.sectors * 512, 3 << 20);
    assert!(
        fs::read_link(&disk.path)
            .unwrap()
            .to_string_lossy()
            .contains("deleted")
    );
    let mut bytes = vec![0; 3 << 20];
    disk.file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(
        bytes
            .chunks(512)
            .all(|sector| sector.iter().any(|byte| *byte != 0))
    );
    // A machine can have it.
    assert_eq!(
        FileBackend::open(&disk.path, true).unwrap().capacity(),
        disk.sectors
    );
}

#[test]
fn a_scratch_file_can_be_written() {
    let disk = Disk::open(&plan(None, Rw::Write, Some(1 << 20))).unwrap();
    assert!(!disk.config(Notify::Trap).readonly);
    let written = disk
        .with_file(|file| file.write_all_at(&[1; 512], 0))
        .unwrap();
    written.unwrap();
}

#[test]
fn a_file_of_the_users_cannot_be_written_unless_writing_is_asked_for() {
    let image = image(8192);
    for rw in Rw::ALL {
        let disk = Disk::open(&plan(Some(image.path()), rw, None)).unwrap();
        assert_eq!(disk.sectors, 16);
        assert_eq!(disk.config(Notify::Trap).readonly, !rw.writes());
        let written = disk
            .with_file(|file| file.write_all_at(&[7; 512], 0))
            .unwrap();
        assert_eq!(written.is_ok(), rw.writes());
    }
}

#[test]
fn a_read_only_file_is_opened_for_reading() {
    let image = image(8192);
    fs::set_permissions(image.path(), fs::Permissions::from_mode(0o444)).unwrap();
    let disk = Disk::open(&plan(Some(image.path()), Rw::Read, Some(4096))).unwrap();
    assert_eq!(disk.sectors, 8);
}

#[test]
fn a_file_that_cannot_be_the_disk_is_refused_by_name() {
    let small = image(4096);
    for (size, wanted) in [(Some(8192), "8192"), (Some(4608), "4608")] {
        let error = error(&plan(Some(small.path()), Rw::Read, size));
        let expected = format!("has 4096 bytes, and {wanted} are to be used");
        assert!(error.contains(&expected), "{error}");
    }
    let smaller = image(512);
    assert!(error(&plan(Some(smaller.path()), Rw::Read, None)).contains("4096 are to be used"));
    let missing = error(&plan(Some(Path::new("/no/such/file")), Rw::Read, None));
    assert!(missing.starts_with("--disk: cannot open"), "{missing}");
}

#[test]
fn a_file_that_somebody_else_writes_is_left_alone() {
    let image = image(8192);
    let plan = plan(Some(image.path()), Rw::Read, None);
    let disk = Disk::open(&plan).unwrap();
    let _machine = FileBackend::open(image.path(), false).unwrap();
    assert!(disk.with_file(|_| ()).is_err());
    assert!(error(&plan).contains("in use"));
}
