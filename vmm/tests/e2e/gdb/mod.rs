//! The guest under the real gdb: a machine that gdb has, for the tests in the files here.

mod broken;
mod life;
mod points;
mod server;
mod view;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::guests::GUEST_ELF;
use crate::harness::{Ended, Running, Vmm, expect, pipe};
use crate::needs::{Needs, tool};

/// Breakpoints of either kind.
pub const BREAKPOINTS: Needs = Needs::Debugger(
    |can| can.int3 || can.execute,
    "this KVM tells of no breakpoint",
);

pub fn tests() -> Vec<Trial> {
    let tests = [
        view::tests(),
        points::tests(),
        life::tests(),
        broken::tests(),
        server::tests(),
    ];
    tests.into_iter().flatten().collect()
}

/// A machine that waits for gdb.
pub struct Debugged {
    pub vmm: Running,
    pub socket: PathBuf,
    _dir: TempDir,
    /// Where it says what is wrong.
    stderr: File,
}

impl Debugged {
    pub fn start(vmm: Vmm, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("gdb");
        let address = format!("unix:{}", socket.display());
        let (mut messages, stderr) = pipe();
        let vmm = vmm.command(|command| {
            command.args(["--gdb", &address]).args(more).stderr(stderr);
        });
        let vmm = vmm.spawn();
        // No signal ends it halfway from then on.
        expect(
            &mut messages,
            &format!("target remote {}\n", socket.display()),
        );
        Self {
            vmm,
            socket,
            _dir: dir,
            stderr: messages,
        }
    }

    /// Before its first instruction.
    pub fn held(vmm: Vmm) -> Self {
        Self::start(vmm, &["--gdb-wait"])
    }

    pub fn kernel(kernel: &[u8]) -> Self {
        Self::held(Vmm::with_kernel(kernel))
    }

    /// gdb with the guest's symbols, attached, to do these commands and to go.
    pub fn gdb(&self, commands: &[&str]) -> Running {
        let mut gdb = tool("gdb");
        let remote = format!("target remote {}", self.socket.display());
        let patient = "set remotetimeout 60";
        for command in ["set width 0", "set confirm off", patient, &remote] {
            gdb.args(["-ex", command]);
        }
        for command in commands {
            gdb.args(["-ex", command]);
        }
        gdb.args(["-nx", "-batch", GUEST_ELF]);
        Vmm::from_command(gdb).spawn()
    }

    /// What gdb prints that does these commands; and what the VMM has said of it.
    pub fn tell(&self, commands: &[&str]) -> String {
        let mut text = output(self.gdb(commands).wait());
        let said = rustix::io::ioctl_fionread(&self.stderr).unwrap();
        (&self.stderr).take(said).read_to_string(&mut text).unwrap();
        text
    }

    /// The end of the machine.
    pub fn wait(self) -> Ended {
        let ended = self.vmm.wait();
        assert!(!self.socket.exists(), "the socket is left");
        ended
    }
}

/// What gdb has printed.
pub fn output(gdb: Ended) -> String {
    format!("{}{}", String::from_utf8_lossy(&gdb.stdout), gdb.stderr)
}

/// Asserts that these pieces are in `text`, in this order.
#[track_caller]
pub fn assert_tells(text: &str, pieces: &[&str]) {
    let mut rest = text;
    for piece in pieces {
        let (_, after) = rest.split_once(piece).unwrap_or_else(|| {
            panic!("no '{piece}' where it should be in:\n{text}");
        });
        rest = after;
    }
}
