//! A terminal for a test: a pseudo-terminal, one end for `vmm` and one for the test as its user.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

pub struct Pty {
    user: File,
    /// Kept open so that the terminal and its modes outlive the process.
    terminal: File,
}

impl Pty {
    pub fn new() -> Self {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let name = ptsname(&user, Vec::new()).unwrap();
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(std::ffi::OsStr::from_bytes(name.to_bytes()))
            .unwrap();
        Self {
            user: File::from(user),
            terminal,
        }
    }

    /// The terminal, for a process's stdin or stdout.
    pub fn terminal(&self) -> OwnedFd {
        self.terminal.try_clone().unwrap().into()
    }

    /// Makes stdin the controlling terminal of `command`, as for a job in the foreground.
    pub fn control(command: &mut Command) {
        // SAFETY: both calls may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
    }

    /// Waits until this text is shown; returns all that has been up to its end.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        String::from_utf8(crate::harness::expect(&mut self.user, text)).unwrap()
    }

    /// Presses these keys.
    pub fn press(&mut self, keys: &[u8]) {
        self.user.write_all(keys).unwrap();
    }

    /// The user's end, to be written from elsewhere.
    pub fn keyboard(&self) -> File {
        self.user.try_clone().unwrap()
    }

    /// How many bytes of the keys that were pressed have not been read.
    pub fn unread(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.terminal).unwrap()
    }

    /// All modes and special characters of the terminal.
    pub fn modes(&self) -> String {
        format!("{:?}", tcgetattr(&self.terminal).unwrap())
    }

    pub fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }
}
