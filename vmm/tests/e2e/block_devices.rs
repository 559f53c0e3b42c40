//! Block devices and file systems on files, for tests that need a disk to go wrong in a way that a
//! file cannot. What is made here is taken down when it is dropped: what stands on something must be
//! dropped before it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::needs::tool;

/// Runs a command that must succeed; returns its output.
#[track_caller]
pub fn must(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{error}");
    text
}

/// A file as a block device.
pub struct Loop(PathBuf);

impl Loop {
    pub fn new(file: &Path) -> Self {
        Self::with(file, &[])
    }

    /// With these options of losetup.
    pub fn with(file: &Path, options: &[&str]) -> Self {
        let mut losetup = tool("losetup");
        losetup.args(options).args(["--find", "--show"]).arg(file);
        Self(must(&mut losetup).into())
    }

    /// Has the device as large as its file is by now.
    pub fn resize(&self) {
        must(tool("losetup").arg("--set-capacity").arg(&self.0));
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = tool("losetup").arg("--detach").arg(&self.0).status();
    }
}

/// A device of the device mapper.
pub struct Mapped {
    name: &'static str,
    path: PathBuf,
}

impl Mapped {
    /// The device `name`, which is what `table` says.
    pub fn new(name: &'static str, table: &str) -> Self {
        must(tool("dmsetup").args(["create", "--noudevsync", name, "--table", table]));
        // The kernel's own name: for the other, udev would be needed.
        let columns = ["info", "-c", "--noheadings", "-o", "blkdevname", name];
        let path = Path::new("/dev").join(must(tool("dmsetup").args(columns)));
        Self { name, path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it what `table` says, at once and whatever is in use.
    pub fn become_table(&self, table: &str) {
        must(tool("dmsetup").args(["load", self.name, "--table", table]));
        let at_once = [
            "suspend",
            "--noflush",
            "--nolockfs",
            "--noudevsync",
            self.name,
        ];
        must(tool("dmsetup").args(at_once));
        must(tool("dmsetup").args(["resume", "--noudevsync", self.name]));
    }

    /// Tells its target something.
    pub fn message(&self, text: &str) {
        must(tool("dmsetup").args(["message", self.name, "0", text]));
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let remove = ["remove", "--noudevsync", "--retry", self.name];
        let _ = tool("dmsetup").args(remove).status();
    }
}

/// A file system that is mounted.
pub struct Mounted(PathBuf);

impl Mounted {
    /// The one on `device`, at the directory `at`, which is made.
    pub fn new(device: &Path, at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        must(tool("mount").args(["-t", "ext4"]).arg(device).arg(at));
        Self(at.into())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = tool("umount").arg(&self.0).status();
    }
}

/// Makes an empty ext4 on `device`, with nothing left to be done when it is in use.
pub fn make_ext4(device: &Path, options: &[&str]) {
    let whole = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
    let mut mkfs = tool("mkfs.ext4");
    must(mkfs.args(["-q", "-E", whole]).args(options).arg(device));
}
