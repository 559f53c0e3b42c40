//! Our guest in each of the ways that it boots, and running it with disks.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use spec::board;
use tempfile::TempDir;

use crate::harness::{Ended, Vmm, file};

/// The ELF file that the build leaves as `guest.elf`.
pub const GUEST_ELF: &str = env!("GUEST_ELF");
const GUEST_BIN: &str = env!("GUEST_BIN");

/// Type of the note that holds the 32-bit entry of PVH (XEN_ELFNOTE_PHYS32_ENTRY).
const PVH_NOTE: u32 = 18;

/// Each way in which a disk is notified.
pub const NOTIFY_MODES: [&str; 4] = ["trap", "ioeventfd", "ioeventfd-datamatch", "poll"];

/// Each way in which the guest boots: what `--kernel` is given, if anything.
pub fn entries() -> Vec<Option<PathBuf>> {
    static WITHOUT_NOTE: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
        let elf = without_pvh_note(std::fs::read(GUEST_ELF).unwrap());
        file("guest-without-note.elf", &elf)
    });
    vec![
        None,
        Some(GUEST_BIN.into()),
        Some(GUEST_ELF.into()),
        Some(WITHOUT_NOTE.1.clone()),
    ]
}

/// `elf` with its PVH note made one that nobody knows.
pub fn without_pvh_note(mut elf: Vec<u8>) -> Vec<u8> {
    // Length of the name, of the description, type, name.
    let head = |type_: u32| {
        let mut head = [4_u32, 8, type_].map(u32::to_le_bytes).concat();
        head.extend(b"Xen\0");
        head
    };
    let pvh = head(PVH_NOTE);
    let notes: Vec<usize> = (0..elf.len() - pvh.len())
        .step_by(4)
        .filter(|&at| elf[at..].starts_with(&pvh))
        .collect();
    let [at] = notes[..] else {
        panic!("PVH notes: {notes:?}");
    };
    elf[at..at + pvh.len()].copy_from_slice(&head(0x7fff));
    elf
}

/// The value of `--disk` for the image at `path`.
pub fn disk(path: &Path, options: &str) -> String {
    format!("{}{options}", path.display())
}

/// Runs a workload of the guest, booted from `kernel`, on `disks` (each a value of `--disk`).
#[track_caller]
pub fn run_on(kernel: Option<&Path>, disks: &[String], cmdline: &str) -> Ended {
    start_on(kernel, disks, cmdline).spawn().wait()
}

/// [`run_on`], to be started.
pub fn start_on(kernel: Option<&Path>, disks: &[String], cmdline: &str) -> Vmm {
    Vmm::new(["--cmdline", cmdline]).command(|command| {
        if let Some(kernel) = kernel {
            command.arg("--kernel").arg(kernel);
        }
        for disk in disks {
            command.args(["--disk", disk]);
        }
    })
}

impl Ended {
    /// The last line on stdout.
    #[track_caller]
    pub fn last_line(&self) -> &str {
        let text = std::str::from_utf8(&self.stdout).unwrap();
        text.lines().last().unwrap_or_default()
    }

    /// Asserts that the workload succeeded, with this as its last line.
    #[track_caller]
    pub fn assert_ok(&self, last_line: &str) {
        assert_eq!(
            (self.code(), self.last_line()),
            (0, last_line),
            "{}; stderr: {}",
            self.command,
            self.stderr
        );
    }

    /// Asserts that the workload failed with a last line that begins and ends like this.
    #[track_caller]
    pub fn assert_failed(&self, begin: &str, end: &str) {
        let line = self.last_line();
        assert!(
            self.code() == 1 && line.starts_with(begin) && line.ends_with(end),
            "{}: status {}, last line {line:?}, stderr {:?}",
            self.command,
            self.code(),
            self.stderr
        );
    }

    /// Asserts that the guest did not come to its own end.
    #[track_caller]
    pub fn assert_guest_status(&self, status: u8) {
        assert!([board::EXIT_EXCEPTION, board::EXIT_PANIC].contains(&status));
        assert_eq!(self.code(), i32::from(status), "stderr: {}", self.stderr);
    }
}
