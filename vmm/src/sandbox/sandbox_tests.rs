//! A filter is for good, so that each test has this program run anew, with the name of what a child
//! is to do: enter the sandbox and ask for something.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::*;
use crate::kvm::KvmError;

/// What tells a child what to do.
const ACT: &str = "VMM_SANDBOX_ACT";
/// What a child ends with that has done it.
const DONE: i32 = 42;

const KINDS: [(&str, ThreadKind); 5] = [
    ("main", ThreadKind::Main),
    ("vCPU", ThreadKind::Vcpu),
    ("worker", ThreadKind::Worker),
    ("listener", ThreadKind::Listener),
    ("gdb", ThreadKind::Gdb),
];

/// Not a test by itself: what a child does.
#[test]
fn child() {
    let Ok(act) = std::env::var(ACT) else { return };
    let (name, act) = act.split_once(' ').unwrap();
    let (_, kind) = KINDS.into_iter().find(|(known, _)| *known == name).unwrap();
    let _sandbox = Sandbox::new(true).unwrap();
    match act {
        "fork" => {
            enter(kind, None).unwrap();
            // SAFETY: a call without arguments, which the filter keeps from the kernel.
            unsafe { libc::syscall(libc::SYS_fork) };
        }
        "fork though blocked" => {
            vmm_sys_util::signal::block_signal(libc::SIGSYS).unwrap();
            let _sandbox = Sandbox::new(true).unwrap();
            enter(kind, None).unwrap();
            // SAFETY: a call without arguments, which the filter keeps from the kernel.
            unsafe { libc::syscall(libc::SYS_fork) };
        }
        "signal" => {
            // SAFETY: a plain number.
            unsafe { libc::raise(libc::SIGSYS) };
        }
        "exec" => {
            enter(kind, None).unwrap();
            let null = std::ptr::null::<libc::c_char>();
            // SAFETY: the kernel finds no path, if it comes to look for one.
            unsafe { libc::syscall(libc::SYS_execve, null, null, null) };
        }
        "socket" => {
            enter(kind, None).unwrap();
            // SAFETY: plain numbers.
            unsafe { libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0) };
        }
        "code" => {
            enter(kind, None).unwrap();
            let executable = libc::PROT_READ | libc::PROT_EXEC;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: a new mapping, which nobody uses.
            unsafe { libc::mmap(std::ptr::null_mut(), 4096, executable, flags, -1, 0) };
        }
        "open" => {
            enter(kind, None).unwrap();
            let error = File::open("/dev/null").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        }
        "panic" => {
            enter(kind, None).unwrap();
            let panicked = std::panic::catch_unwind(|| panic!("in the sandbox"));
            assert!(panicked.is_err());
        }
        "abort" => {
            enter(kind, None).unwrap();
            std::process::abort();
        }
        "fault" => {
            enter(kind, None).unwrap();
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: a new mapping, and a read that ends the process.
            unsafe {
                let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_NONE, flags, -1, 0);
                page.cast::<u8>().read_volatile();
            }
        }
        "overflow" => {
            enter(kind, None).unwrap();
            overflow(&[0; 64]);
        }
        "ordinary" => {
            let thread = std::thread::spawn(move || {
                enter(kind, None).unwrap();
                let mut room: Vec<u64> = vec![1; 1 << 20];
                room.extend(vec![2; 1 << 21]);
                let mut table = std::collections::HashMap::new();
                table.insert(room.len(), std::time::Instant::now());
                table.len()
            });
            assert_eq!(thread.join().unwrap(), 1);
        }
        // Landlock alone.
        "path" => {
            Paths::deny(None).unwrap();
            let error = File::open("/dev/null").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EACCES));
            let error = std::fs::read_dir("/").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        }
        "remove" => {
            let dir = PathBuf::from(std::env::var_os("VMM_SANDBOX_DIR").unwrap());
            let below = dir.join("below");
            let (file, other) = (below.join("file"), dir.join("file"));
            Paths::deny(Some(&File::open(&below).unwrap().into())).unwrap();
            let refused = |result: std::io::Result<()>| {
                let error = result.unwrap_err().raw_os_error();
                assert_eq!(error, Some(libc::EACCES));
            };
            refused(std::fs::remove_file(other));
            refused(std::fs::write(&file, ""));
            refused(std::fs::remove_dir(below.join("dir")));
            refused(std::fs::rename(&file, below.join("new")));
            std::fs::remove_file(&file).unwrap();
        }
        "connect" => {
            let address = std::env::var("VMM_SANDBOX_ADDRESS").unwrap();
            TcpStream::connect(&address).unwrap();
            Paths::deny(None).unwrap();
            let error = TcpStream::connect(&address).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        }
        other => panic!("no act '{other}'"),
    }
    std::process::exit(DONE);
}

#[expect(unconditional_recursion, reason = "needs more stack than there is")]
fn overflow(below: &[u8; 64]) -> u8 {
    let here = std::hint::black_box([below[0].wrapping_add(1); 64]);
    overflow(&here).wrapping_add(here[1])
}

/// Has a child do `act` as a thread of the kind `name`.
fn run(name: &str, act: &str, variables: &[(&str, &str)]) -> Output {
    let test = format!("{}::child", module_path!().split_once("::").unwrap().1);
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture", "--test-threads=1"])
        .env(ACT, format!("{name} {act}"))
        .env_remove("RUST_BACKTRACE")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

#[track_caller]
fn assert_done(output: &Output) {
    assert_eq!(output.status.code(), Some(DONE), "{output:?}");
}

#[test]
fn a_forbidden_call_ends_the_process_with_its_name_and_that_of_the_thread() {
    for (name, _) in KINDS {
        for (act, call) in [
            ("fork", "fork (57)"),
            ("exec", "execve (59)"),
            ("socket", "socket (41)"),
        ] {
            let output = run(name, act, &[]);
            assert_eq!(output.status.code(), Some(159), "{output:?}");
            let stderr = String::from_utf8(output.stderr).unwrap();
            let said: Vec<&str> = stderr.lines().filter(|l| l.contains("vmm: ")).collect();
            let start = format!("vmm: seccomp: the {name} thread called {call} with 0x");
            assert_eq!(said.len(), 1, "{stderr}");
            assert!(said[0].starts_with(&start), "{stderr}");
            assert!(said[0].ends_with(", which resources/seccomp does not allow"));
        }
    }
}

#[test]
fn a_forbidden_call_is_named_though_the_parent_blocks_the_signal() {
    let output = run("worker", "fork though blocked", &[]);
    assert_eq!(output.status.code(), Some(159), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("thread called fork (57)"), "{stderr}");
}

#[test]
fn the_signal_of_a_forbidden_call_names_none_when_it_comes_from_elsewhere() {
    let output = run("main", "signal", &[]);
    assert_eq!(output.status.code(), Some(159), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("vmm: "), "{stderr}");
}

#[test]
fn no_thread_makes_memory_executable() {
    for (name, _) in KINDS {
        let output = run(name, "code", &[]);
        assert_eq!(output.status.code(), Some(159), "{output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("called mmap (9) with 0x0, 0x1000")
        );
    }
}

#[test]
fn no_thread_opens_a_path_and_a_library_that_tries_goes_on() {
    for (name, _) in KINDS {
        assert_done(&run(name, "open", &[]));
    }
}

#[test]
fn memory_clocks_and_the_end_of_a_thread_are_every_threads() {
    for (name, _) in KINDS {
        assert_done(&run(name, "ordinary", &[]));
    }
}

#[test]
fn a_panic_is_told_with_its_backtrace() {
    for backtrace in ["0", "1", "full"] {
        let output = run("vCPU", "panic", &[("RUST_BACKTRACE", backtrace)]);
        assert_done(&output);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.contains("in the sandbox"), "{stderr}");
        assert_eq!(stderr.contains("stack backtrace:"), backtrace != "0");
    }
}

#[test]
fn an_abort_is_an_abort() {
    for (name, _) in KINDS {
        let output = run(name, "abort", &[]);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    }
}

#[test]
fn a_fault_is_a_fault() {
    for (name, _) in KINDS {
        let output = run(name, "fault", &[]);
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{output:?}");
    }
}

#[test]
fn a_stack_that_overflows_is_told_of() {
    let output = run("vCPU", "overflow", &[]);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("has overflowed its stack"), "{stderr}");
}

/// What this kernel denies, as a thread of this process finds out that has then ended.
fn paths() -> Paths {
    std::thread::spawn(|| Paths::deny(None).unwrap())
        .join()
        .unwrap()
}

#[test]
fn without_filters_too_no_path_can_be_opened_where_there_is_landlock() {
    if paths() != Paths::NOT_DENIED {
        assert_done(&run("main", "path", &[]));
    }
}

#[test]
fn a_thread_that_may_remove_files_below_a_directory_does_no_more_and_nowhere_else() {
    if paths() != Paths::NOT_DENIED {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("below/dir")).unwrap();
        std::fs::write(dir.path().join("below/file"), "").unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let path = dir.path().to_str().unwrap();
        assert_done(&run("gdb", "remove", &[("VMM_SANDBOX_DIR", path)]));
    }
}

#[test]
fn without_filters_too_no_port_can_be_reached_where_landlock_knows_tcp() {
    if !paths().shortfall().unwrap_or_default().contains("TCP") && paths() != Paths::NOT_DENIED {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_done(&run(
            "main",
            "connect",
            &[("VMM_SANDBOX_ADDRESS", &address)],
        ));
    }
}

#[test]
fn what_the_kernel_lacks_is_one_line() {
    let shortfall = |seccomp, abi| {
        let paths = Paths::of_version(abi);
        Held { seccomp, paths }.shortfall()
    };
    assert_eq!(shortfall(true, 6), None);
    assert_eq!(shortfall(true, 7), None);
    for (seccomp, abi, text) in [
        (
            true,
            2,
            "this kernel has no landlock for TCP, ioctls of devices, processes (ABI 2)",
        ),
        (true, 5, "this kernel has no landlock for processes (ABI 5)"),
        (true, 0, "this kernel has no landlock"),
        (
            false,
            0,
            "this kernel has no seccomp filters, and no landlock",
        ),
        (false, 7, "this kernel has no seccomp filters"),
    ] {
        assert_eq!(shortfall(seccomp, abi).as_deref(), Some(text));
    }
}

#[test]
fn a_machine_whose_thread_ends_before_it_is_in_the_sandbox_does_not_start() {
    let mut sandbox = Sandbox::new(false).unwrap();
    drop(sandbox.ticket(ThreadKind::Worker));
    assert!(matches!(
        sandbox.close(),
        Err(Error::Sandbox(SandboxError::Ended))
    ));

    let mut sandbox = Sandbox::new(false).unwrap();
    sandbox.ticket(ThreadKind::Worker).enter();
    sandbox.close().unwrap();
}

#[test]
fn a_machine_whose_thread_is_of_no_use_does_not_start_and_says_why() {
    let mut sandbox = Sandbox::new(false).unwrap();
    let ticket = sandbox.ticket(ThreadKind::Vcpu);
    let waiting = std::thread::spawn(|| ticket.enter_and_wait());
    let reason = KvmError::Capability("what it needs");
    sandbox.ticket(ThreadKind::Vcpu).refuse(reason.into());
    assert!(!waiting.join().unwrap());
    assert!(matches!(
        sandbox.close(),
        Err(Error::Kvm(KvmError::Capability("what it needs")))
    ));
}

#[test]
fn a_thread_that_waits_for_the_others_goes_on_when_all_are_in_the_sandbox_and_not_without_it() {
    let mut sandbox = Sandbox::new(false).unwrap();
    let ticket = sandbox.ticket(ThreadKind::Vcpu);
    let waiting = std::thread::spawn(|| ticket.enter_and_wait());
    sandbox.close().unwrap();
    assert!(waiting.join().unwrap());

    let mut sandbox = Sandbox::new(false).unwrap();
    let ticket = sandbox.ticket(ThreadKind::Vcpu);
    let waiting = std::thread::spawn(|| ticket.enter_and_wait());
    drop(sandbox);
    assert!(!waiting.join().unwrap());
}
