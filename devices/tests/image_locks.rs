//! Another process that has locked an image. Its one test has this process to itself: a child of
//! another test would, from fork to exec, share the open files whose locks it looks at.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use devices::virtio::block::backend::{FileBackend, FileBackendError};

/// A process that has all of a file locked, as lockf does it, until this is dropped.
struct Holder(Child);

impl Holder {
    /// `None` if it gets no lock.
    fn new(path: &Path, kind: libc::c_int) -> Option<Self> {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let descriptor = file.as_raw_fd();
        let lock = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        let take = move || {
            // Closing a descriptor of the file would give the lock up, as exec does with those
            // that are marked for it.
            // SAFETY: the file is open; F_SETFD takes an integer, F_SETLK a pointer to a `flock`.
            match unsafe {
                libc::fcntl(descriptor, libc::F_SETFD, 0)
                    | libc::fcntl(descriptor, libc::F_SETLK, &raw const lock)
            } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        // SAFETY: between fork and exec this only calls fcntl, which is async-signal-safe.
        unsafe { command.pre_exec(take) };
        match command.spawn() {
            Ok(child) => Some(Self(child)),
            Err(error) => {
                let refused = [Some(libc::EAGAIN), Some(libc::EACCES)];
                assert!(refused.contains(&error.raw_os_error()), "{error}");
                None
            }
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

#[test]
fn a_process_that_locks_the_file_by_fcntl_and_a_disk_exclude_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    fs::write(&path, [0; 512]).unwrap();
    let assert_in_use = |read_only| {
        let error = FileBackend::open(&path, read_only).unwrap_err();
        assert!(
            matches!(error, FileBackendError::InUse { by: "fcntl", .. }),
            "{error}"
        );
        let expected = "it is in use (locked by fcntl)";
        assert!(error.to_string().ends_with(expected), "{error}");
    };

    let holder = Holder::new(&path, libc::F_WRLCK).unwrap();
    assert_in_use(false);
    assert_in_use(true);
    drop(holder);
    let holder = Holder::new(&path, libc::F_RDLCK).unwrap();
    assert_in_use(false);
    drop(holder);

    let writer = FileBackend::open(&path, false).unwrap();
    assert!(Holder::new(&path, libc::F_WRLCK).is_none());
    assert!(Holder::new(&path, libc::F_RDLCK).is_none());
    drop(writer);
    let reader = FileBackend::open(&path, true).unwrap();
    assert!(Holder::new(&path, libc::F_WRLCK).is_none());
    assert!(Holder::new(&path, libc::F_RDLCK).is_some());
    drop(reader);
    assert!(Holder::new(&path, libc::F_WRLCK).is_some());
}
