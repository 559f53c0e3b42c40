//! Runs the real binary with a time limit, and takes it down whatever happens; and tells what a
//! test needs of the machine.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use libtest_mimic::{Completion, Trial};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Resource, Rlimit, pidfd_open, setrlimit};
use tempfile::TempDir;
use vmm::kvm::KvmError;

/// The binary under test.
pub const VMM: &str = env!("CARGO_BIN_EXE_vmm");

/// What no run of these tests takes, even on a slow software KVM, or in the lab on a busy machine.
pub const TIME_LIMIT: Duration = Duration::from_secs(120);

/// Whether this runs in the lab, as resources/lab/lab tells whatever it runs.
fn in_lab() -> bool {
    std::env::var_os("IN_LAB").is_some()
}

/// What a test needs of the machine.
#[derive(Clone, Copy, Debug)]
pub enum Needs {
    Nothing,
    /// A usable /dev/kvm.
    Kvm,
    /// A usable /dev/kvm, but not the lab's: what is slow there, and shows nothing that other tests
    /// do not show there too.
    OwnKvm,
    /// To be root in a mount namespace of its own.
    MountNamespace,
    /// This program.
    Tool(&'static str),
    /// A usable /dev/kvm, and this program.
    KvmAndTool(&'static str),
    /// A Linux guest, made of these files too, and a usable /dev/kvm that can run it.
    Linux(&'static [&'static str]),
    /// The same, and this program.
    LinuxAndTool(&'static [&'static str], &'static str),
}

impl Needs {
    /// Why this machine cannot run a test with this need, if it cannot.
    fn missing(self) -> Option<String> {
        static KVM: LazyLock<Option<String>> = LazyLock::new(missing_kvm);
        static MOUNT: LazyLock<bool> = LazyLock::new(|| {
            let script = "mount -t tmpfs none /dev && setpriv --reuid 65534 true";
            let mut command = Command::new("unshare");
            command
                .args(["-m", "sh", "-c", script])
                .stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        });
        let needs_no_kvm = matches!(self, Self::Nothing | Self::MountNamespace | Self::Tool(_));
        if in_lab() && needs_no_kvm {
            return Some("not in the lab: does not use KVM".into());
        }
        match self {
            Self::Nothing => None,
            Self::Kvm => KVM.clone(),
            Self::OwnKvm if in_lab() => Some("not in the lab: slow, and others cover it".into()),
            Self::OwnKvm => KVM.clone(),
            Self::MountNamespace => (!*MOUNT).then(|| "no root, or no unshare and setpriv".into()),
            Self::Tool(name) => missing_tool(name),
            Self::KvmAndTool(name) => Self::Kvm.missing().or_else(|| missing_tool(name)),
            Self::Linux(files) => Self::Kvm.missing().or_else(|| crate::linux::missing(files)),
            Self::LinuxAndTool(files, name) => {
                Self::Linux(files).missing().or_else(|| missing_tool(name))
            }
        }
    }
}

/// This program, to be started.
pub fn tool(name: &str) -> Command {
    Command::new(find_tool(name).unwrap_or_else(|| name.into()))
}

fn missing_tool(name: &str) -> Option<String> {
    let missing = find_tool(name).is_none();
    missing.then(|| format!("{name} is not installed"))
}

/// Looks beyond PATH where resources/install-test-tools does.
fn find_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

/// Why there is no usable /dev/kvm: in short, since each test that needs it says so.
fn missing_kvm() -> Option<String> {
    let reason = match vmm::kvm::open().err()? {
        KvmError::Missing(error) | KvmError::NotPermitted(error) | KvmError::Open(error) => {
            error.to_string()
        }
        other => other.to_string(),
    };
    Some(format!("no usable /dev/kvm: {reason}"))
}

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
            stderr: String::from_utf8(text(self.stderr.take())).unwrap(),
        };
        assert!(in_time, "not ended after {TIME_LIMIT:?}: {ended:?}");
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where the process has been waited for, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads from `source` until `text` has come, or fails after the time limit.
#[track_caller]
pub fn expect(source: &mut (impl Read + AsFd), text: &str) {
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
