//! Runs the real binary with a time limit, and takes it down whatever happens.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Trial};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Resource, Rlimit, pidfd_open, setrlimit};
use tempfile::TempDir;

use crate::needs::Needs;

/// The binary under test.
pub const VMM: &str = env!("CARGO_BIN_EXE_vmm");

/// What no run of these tests takes, even on a slow software KVM, or in the lab on a busy machine.
pub const TIME_LIMIT: Duration = Duration::from_secs(120);

/// A test by the name of what it promises; `body` fails by a panic.
pub fn test(name: &str, needs: Needs, body: fn()) -> Trial {
    Trial::ignorable_test(name, move || match needs.missing() {
        Some(reason) => Ok(Completion::ignored_with(reason)),
        None => {
            body();
            Ok(Completion::Completed)
        }
    })
}

/// The signals that end a process by default, but for those that tell of a fault of its own; of
/// the real-time signals the second, since the first is for the VMM's own use, and the last.
pub fn ending_signals() -> Vec<i32> {
    vec![
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGTERM,
        libc::SIGSTKFLT,
        libc::SIGXCPU,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGPWR,
        libc::SIGRTMIN() + 1,
        libc::SIGRTMAX(),
    ]
}

/// A directory with a file `name` of these bytes, and the file's path.
pub fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    (dir, path)
}

/// A `vmm` that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The command that started it.
    pub command: String,
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ended {
    /// The exit status, for a process that ended by itself.
    #[track_caller]
    pub fn code(&self) -> i32 {
        assert_eq!(
            self.status.signal(),
            None,
            "killed: {}; stderr: {}",
            self.command,
            self.stderr
        );
        self.status.code().unwrap()
    }

    /// The one line on stderr, without the `vmm: ` in front.
    #[track_caller]
    pub fn message(&self) -> &str {
        let line = self.stderr.strip_suffix('\n').expect("no message");
        assert!(!line.contains('\n'), "more than one line:\n{line}");
        line.strip_prefix("vmm: ").expect(line)
    }
}

/// Runs `vmm` with these arguments and nothing on stdin, to its end.
#[track_caller]
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ended {
    Vmm::new(args).spawn().wait()
}

/// Runs `vmm` with this kernel and nothing on stdin, to its end.
#[track_caller]
pub fn run_kernel(kernel: &[u8]) -> Ended {
    let (_dir, path) = file("kernel", kernel);
    run(["--kernel".as_ref(), path.as_os_str()])
}

/// A `vmm` to be started.
pub struct Vmm {
    command: Command,
    /// What its arguments name; lives as long as the process.
    files: Vec<TempDir>,
}

impl Vmm {
    /// With these arguments, nothing on stdin, and its output kept.
    pub fn new<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(VMM);
        command.args(args);
        Self::from_command(command)
    }

    /// With this kernel.
    pub fn with_kernel(kernel: &[u8]) -> Self {
        let (dir, path) = file("kernel", kernel);
        let mut vmm = Self::new(["--kernel".as_ref(), path.as_os_str()]);
        vmm.files.push(dir);
        vmm
    }

    /// As `command` starts it.
    pub fn from_command(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let signals = ending_signals();
        // SAFETY: `signal` may be called between fork and exec.
        unsafe {
            command.pre_exec(move || {
                // These tests may themselves run where signals are ignored.
                for &signal in &signals {
                    libc::signal(signal, libc::SIG_DFL);
                }
                Ok(())
            });
        }
        Self {
            command,
            files: Vec::new(),
        }
    }

    /// With stdin from here.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// With stdout to there.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self
    }

    /// With no more than `most` of `resource`.
    pub fn limit(self, resource: Resource, most: u64) -> Self {
        let (current, maximum) = (Some(most), Some(most));
        self.command(|command| {
            // SAFETY: `setrlimit` may be called between fork and exec.
            unsafe {
                command.pre_exec(move || Ok(setrlimit(resource, Rlimit { current, maximum })?));
            }
        })
    }

    /// With whatever else is to be set.
    pub fn command(mut self, set: impl FnOnce(&mut Command)) -> Self {
        set(&mut self.command);
        self
    }

    pub fn spawn(mut self) -> Running {
        let mut child = self.command.spawn().unwrap();
        Running {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take().map(read_all),
            child,
            command: format!("{:?}", self.command),
            _files: self.files,
        }
    }
}

/// A `vmm` that runs. It is killed when this is dropped.
pub struct Running {
    child: Child,
    command: String,
    /// Where stdin is a pipe.
    pub stdin: Option<ChildStdin>,
    /// Where stdout is a pipe.
    pub stdout: Option<ChildStdout>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    _files: Vec<TempDir>,
}

impl Running {
    /// Waits until this text has come on stdout, which is then read up to its end.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let stdout = self.stdout.as_mut().expect("stdout is no pipe");
        expect(stdout, text);
    }

    /// Where the kernel tells `what` of the process.
    pub fn proc(&self, what: &str) -> PathBuf {
        format!("/proc/{}/{what}", self.child.id()).into()
    }

    /// The number of the process.
    #[cfg(feature = "gdb")]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: the child has not been waited for, so the number is still its own.
        let result = unsafe { libc::kill(self.child.id() as i32, signal) };
        assert_eq!(result, 0);
    }

    /// Waits until the process has ended, and kills it if that takes too long.
    #[track_caller]
    pub fn wait(mut self) -> Ended {
        drop(self.stdin.take());
        let stdout = self.stdout.take().map(read_all);
        let pid = rustix::process::Pid::from_child(&self.child);
        let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let in_time = wait_readable(&process);
        if !in_time {
            self.child.kill().unwrap();
        }
        let status = self.child.wait().unwrap();
        let text = |thread: Option<JoinHandle<Vec<u8>>>| {
            thread.map_or_else(Vec::new, |thread| thread.join().unwrap())
        };
        let ended = Ended {
            command: std::mem::take(&mut self.command),
            status,
            stdout: text(stdout),
            stderr: without_shortfall(text(self.stderr.take())),
        };
        assert!(in_time, "not ended after {TIME_LIMIT:?}: {ended:?}");
        ended
    }
}

/// What was said, but for the one line that tells what this kernel lacks for a sandbox: that is not
/// for every test to expect.
fn without_shortfall(stderr: Vec<u8>) -> String {
    let stderr = String::from_utf8(stderr).unwrap();
    let told = |line: &&str| !is_shortfall(line);
    stderr.split_inclusive('\n').filter(told).collect()
}

/// Whether `line` tells what this kernel lacks for a sandbox.
pub fn is_shortfall(line: &str) -> bool {
    line.starts_with("vmm: warning: sandbox: this kernel has no ")
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where the process has been waited for, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads from `source` until `text` has come, and returns all that has, or fails after the time limit.
#[track_caller]
pub fn expect(source: &mut (impl Read + AsFd), text: &str) -> Vec<u8> {
    let mut seen = Vec::new();
    while !seen.ends_with(text.as_bytes()) {
        let mut byte = [0];
        assert!(
            wait_readable(&*source) && source.read(&mut byte).is_ok_and(|len| len == 1),
            "no '{text}' but '{}'",
            seen.escape_ascii()
        );
        seen.push(byte[0]);
    }
    seen
}

/// Writes `bytes` from a thread, so that what comes back can be read meanwhile.
pub fn write_all(mut sink: impl Write + Send + 'static, bytes: Vec<u8>) -> JoinHandle<()> {
    std::thread::spawn(move || sink.write_all(&bytes).unwrap())
}

fn read_all(mut source: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Whether `fd` becomes readable within the time limit.
pub fn wait_readable(fd: &impl AsFd) -> bool {
    let limit = Timespec::try_from(TIME_LIMIT).unwrap();
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    loop {
        match poll(&mut fds, Some(&limit)) {
            Err(rustix::io::Errno::INTR) => {}
            result => return result.unwrap() == 1,
        }
    }
}

/// Waits until `condition` holds, where nothing tells of it, or fails after the time limit.
#[track_caller]
pub fn wait_until(condition: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < TIME_LIMIT, "not: {condition}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A pipe: what is written to the second comes out of the first.
pub fn pipe() -> (File, File) {
    let (reader, writer) = std::io::pipe().unwrap();
    (
        File::from(std::os::fd::OwnedFd::from(reader)),
        File::from(std::os::fd::OwnedFd::from(writer)),
    )
}
