//! What a running machine can still do, as the kernel tells of it from outside; and that nothing a
//! guest has chosen reaches the terminal but by its console. What a thread that breaks out meets
//! is in the unit tests of `sandbox`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use libtest_mimic::Trial;
use rustix::process::Resource;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use vmm::cli;
use vmm::config::VmConfig;
use vmm::sandbox::{Sandbox, ThreadKind};
use vmm::stop::{StopEvent, StopReason};
use vmm::vcpu::VcpuThreads;
use vmm::vm::Vm;

use crate::guests::{disk, start_on};
use crate::harness::{Running, Vmm, file, pipe, run, run_kernel};
use crate::kernels::{READY_AND_HALT, exit};
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test("sandbox_filters_the_calls_of_every_thread_once", filters),
        test("sandbox_that_is_off_is_said_in_a_line", off),
        test(
            "sandbox_says_once_what_the_kernel_lacks_and_goes_on",
            lacking,
        ),
        test(
            "sandbox_that_a_kernel_refuses_though_it_has_it_ends_the_run_before_it_begins",
            refused,
        ),
        test(
            "sandbox_lets_threads_signal_each_other_where_landlock_takes_them_for_processes",
            erratum,
        ),
        test(
            "sandbox_holds_the_guest_until_the_last_thread_is_in_it",
            held,
        ),
        test("sandbox_leaves_no_file_open_across_an_exec", close_on_exec),
        test("sandbox_leaves_no_way_to_another_vm_open", no_kvm),
        test("sandbox_keeps_guest_ram_out_of_cores", dump_flags),
        crate::harness::test(
            "sandbox_core_is_small_unless_guest_ram_is_asked_for",
            Needs::Cores,
            cores,
        ),
        test("sandbox_lets_no_escape_sequence_out", escapes),
    ]
}

/// A machine with every kind of thread, whose guest has begun and waits.
fn machine(args: &[&str]) -> Running {
    let (_dir, kernel) = file("kernel", READY_AND_HALT);
    let (_trap, trap) = file("trap.img", &[0; 512]);
    let (_event, event) = file("event.img", &[0; 512]);
    let (_poll, poll) = file("poll.img", &[0; 512]);
    let disks = [
        disk(&trap, ""),
        disk(&event, ",notify=ioeventfd"),
        disk(&poll, ",notify=poll,readonly=on"),
    ];
    let vmm = start_on(Some(&kernel), &disks, "").command(|command| {
        command.args(["--cpus", "2", "--stats"]).args(args);
        // SAFETY: the call may be made between fork and exec.
        unsafe { command.pre_exec(inherit_nothing) };
    });
    let mut running = vmm.stdin(Stdio::piped()).spawn();
    running.expect("R");
    running
}

/// What these tests themselves have been left by their parent is not the VMM's.
fn inherit_nothing() -> std::io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
    // SAFETY: a flag is set for the files from 3 on; none is closed before the exec.
    match unsafe { libc::close_range(3, libc::c_uint::MAX, flags) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// A field of each thread's status, by the thread's name; but for what KVM puts into the process.
pub fn threads(running: &Running, field: &str) -> BTreeMap<String, String> {
    let tasks = fs::read_dir(running.proc("task")).unwrap();
    let thread = |task: &Path| {
        let name = fs::read_to_string(task.join("comm")).unwrap();
        let status = fs::read_to_string(task.join("status")).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(field));
        let value = value.unwrap_or_else(|| panic!("no {field} in\n{status}"));
        (name.trim().to_owned(), value.trim().to_owned())
    };
    let threads = tasks.map(|task| thread(&task.unwrap().path()));
    threads
        .filter(|(name, _)| !name.starts_with("kvm-"))
        .collect()
}

const THREADS: [&str; 7] = [
    "blk disk1",
    "blk disk2",
    "console",
    "signals",
    "vcpu0",
    "vcpu1",
    "vmm",
];

fn filters() {
    let running = machine(&[]);
    for (field, value) in [
        ("Seccomp:", "2"),
        ("Seccomp_filters:", "1"),
        ("NoNewPrivs:", "1"),
    ] {
        let expected = THREADS.map(|name| (name.to_owned(), value.to_owned()));
        assert_eq!(threads(&running, field), expected.into(), "{field}");
    }
}

fn off() {
    let (_dir, kernel) = file("kernel", &exit(7));
    let args = [
        "--no-sandbox".as_ref(),
        "--kernel".as_ref(),
        kernel.as_os_str(),
    ];
    let ended = run(args);
    assert_eq!(ended.code(), 7);
    assert_eq!(ended.message(), "the sandbox is off (--no-sandbox)");

    let running = machine(&["--no-sandbox"]);
    let expected = THREADS.map(|name| (name.to_owned(), "0".to_owned()));
    assert_eq!(threads(&running, "Seccomp:"), expected.into());
}

/// A machine with every kind of thread whose guest ends with 7, where `calls` fail with `error`; what
/// it says goes to `stderr`.
fn where_calls_fail(calls: &[libc::c_long], error: i32, stderr: impl Into<Stdio>) -> Vmm {
    let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
    filtered(rules, error, stderr)
}

/// The same for calls that `rules` apply to.
fn filtered(
    rules: BTreeMap<libc::c_long, Vec<SeccompRule>>,
    error: i32,
    stderr: impl Into<Stdio>,
) -> Vmm {
    Vmm::with_kernel(&exit(7)).command(|command| {
        command.args(["--cpus", "2"]).stderr(stderr);
        fail_calls(command, rules, error);
    })
}

/// Has the calls that `rules` apply to fail with `error` in what `command` starts. The error 0 is
/// success.
pub fn fail_calls(
    command: &mut Command,
    rules: BTreeMap<libc::c_long, Vec<SeccompRule>>,
    error: i32,
) {
    let fails = SeccompAction::Errno(error.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, fails, TargetArch::x86_64);
    let filter: BpfProgram = filter.unwrap().try_into().unwrap();
    // SAFETY: two system calls, which may be made between fork and exec.
    unsafe {
        command.pre_exec(move || {
            seccompiler::apply_filter(&filter).map_err(|_| std::io::Error::last_os_error())
        });
    }
}

/// What [`where_calls_fail`] says, and its exit status.
fn said_where_calls_fail(calls: &[libc::c_long], error: i32) -> (String, i32) {
    let (mut reader, writer) = pipe();
    let ended = where_calls_fail(calls, error, writer).spawn().wait();
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    (said, ended.code())
}

fn lacking() {
    let (landlock, seccomp) = (libc::SYS_landlock_create_ruleset, libc::SYS_seccomp);
    for error in [libc::ENOSYS, libc::EOPNOTSUPP, libc::EPERM] {
        let (said, code) = said_where_calls_fail(&[landlock], error);
        assert_eq!(said, "vmm: warning: sandbox: this kernel has no landlock\n");
        assert_eq!(code, 7);
    }
    for error in [libc::ENOSYS, libc::EINVAL] {
        let (said, code) = said_where_calls_fail(&[seccomp], error);
        // It may lack some of landlock, too.
        let begin = "vmm: warning: sandbox: this kernel has no seccomp filters";
        assert!(said.starts_with(begin), "{said}");
        assert_eq!((said.lines().count(), code), (1, 7), "{said}");
    }
    let (said, code) = said_where_calls_fail(&[landlock, seccomp], libc::ENOSYS);
    let neither = "this kernel has no seccomp filters, and no landlock";
    assert_eq!(said, format!("vmm: warning: sandbox: {neither}\n"));
    assert_eq!(code, 7);

    // Nobody is there to be told.
    let (reader, writer) = pipe();
    drop(reader);
    let vmm = where_calls_fail(&[landlock, seccomp], libc::ENOSYS, writer);
    assert_eq!(vmm.spawn().wait().code(), 7);
}

/// As a kernel has it that has mended nothing of landlock (LANDLOCK_CREATE_RULESET_ERRATA is 2).
fn erratum() {
    let dword = SeccompCmpArgLen::Dword;
    let asked = SeccompCondition::new(2, dword, SeccompCmpOp::Eq, 2).unwrap();
    let rule = SeccompRule::new(vec![asked]).unwrap();
    let rules = [(libc::SYS_landlock_create_ruleset, vec![rule])].into();
    let (mut reader, writer) = pipe();
    let ended = filtered(rules, 0, writer).spawn().wait();
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    assert_eq!((said.lines().count(), ended.code()), (1, 7), "{said}");
    let lacks_landlock = said == "vmm: warning: sandbox: this kernel has no landlock\n";
    assert!(lacks_landlock || said.contains("processes (ABI "), "{said}");
}

fn refused() {
    let (said, code) = said_where_calls_fail(&[libc::SYS_seccomp], libc::EPERM);
    let begin = "vmm: sandbox: cannot filter the system calls of a thread (";
    assert!(said.starts_with(begin), "{said}");
    assert_eq!((said.lines().count(), code), (1, 125), "{said}");
}

fn held() {
    let (_dir, kernel) = file("kernel", &exit(7));
    let config = config([
        "--no-sandbox".as_ref(),
        "--kernel".as_ref(),
        kernel.as_os_str(),
    ]);
    let (sender, reasons) = channel();
    let (vcpus, _vm, _memory) = Vm::new(&config, &sender).unwrap().into_parts();
    // Dropped after the sandbox, for which they wait.
    let _threads;
    let mut sandbox = Sandbox::new(false).unwrap();
    let last = sandbox.ticket(ThreadKind::Main);
    let stop = StopEvent::new().unwrap();
    _threads = VcpuThreads::spawn(vcpus, &mut sandbox, stop, &sender).unwrap();
    // Nothing tells of what does not happen.
    let early = reasons.recv_timeout(Duration::from_millis(200));
    assert!(early.is_err(), "{early:?}");
    last.enter();
    sandbox.close().unwrap();
    let reason = reasons.recv().unwrap();
    assert!(matches!(reason, StopReason::Exited(7)), "{reason:?}");
}

/// What `args` make of a machine.
fn config<'a>(args: impl IntoIterator<Item = &'a OsStr>) -> VmConfig {
    let words = ["vmm".as_ref()].into_iter().chain(args);
    match cli::parse(words.map(OsStr::to_owned)) {
        Ok(cli::Command::Run(config)) => *config,
        other => panic!("{other:?}"),
    }
}

fn close_on_exec() {
    let running = machine(&[]);
    let mut open = 0;
    for entry in fs::read_dir(running.proc("fdinfo")).unwrap() {
        let path = entry.unwrap().path();
        let number: u32 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        if number <= 2 {
            continue;
        }
        let info = fs::read_to_string(&path).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = i32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        let target = fs::read_link(running.proc("fd").join(number.to_string()));
        assert_ne!(flags & libc::O_CLOEXEC, 0, "{number}: {target:?}");
        open += 1;
    }
    assert!(open > 10, "only {open} files are open");
}

fn no_kvm() {
    let running = machine(&[]);
    let open: Vec<_> = fs::read_dir(running.proc("fd"))
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap())
        .collect();
    let is = |name: &str| open.iter().any(|target| target.as_os_str() == name);
    assert!(is("anon_inode:kvm-vm") && !is("/dev/kvm"), "{open:?}");
}

/// What the kernel does with the guest's RAM, the only mapping as large: the kernel may have joined
/// it with its neighbour.
fn ram_flags(running: &Running) -> Vec<String> {
    let smaps = fs::read_to_string(running.proc("smaps")).unwrap();
    let mut lines = smaps.lines().skip_while(|line| {
        let size = line
            .strip_prefix("Size:")
            .and_then(|size| size.strip_suffix("kB"));
        size.is_none_or(|size| size.trim().parse::<u64>().unwrap() < 128 << 10)
    });
    let flags = lines.find_map(|line| line.strip_prefix("VmFlags:"));
    let flags = flags.unwrap_or_else(|| panic!("no RAM in\n{smaps}"));
    flags.split_whitespace().map(str::to_owned).collect()
}

fn dump_flags() {
    let left_out = |running: &Running| ram_flags(running).contains(&"dd".to_owned());
    assert!(left_out(&machine(&[])));
    assert!(!left_out(&machine(&["--dump-guest-core"])));
}

/// The size of the core file of a machine that dies, in bytes. The kernel writes it as the thread
/// that it dies of: in the sandbox, that could make no file.
fn core_size(args: &[&str]) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let vmm = Vmm::with_kernel(READY_AND_HALT);
    let vmm = vmm.limit(Resource::Core, 1 << 40).command(|command| {
        command
            .arg("--no-sandbox")
            .args(args)
            .current_dir(dir.path());
    });
    let mut running = vmm.spawn();
    running.expect("R");
    running.signal(libc::SIGABRT);
    running.wait();
    let mut files = fs::read_dir(dir.path()).unwrap();
    let core = files.next().expect("no core file").unwrap();
    core.metadata().unwrap().len()
}

fn cores() {
    let ram = 128 << 20;
    let without = core_size(&[]);
    assert!(without < ram, "{without}");
    let with = core_size(&["--dump-guest-core"]);
    assert!(with >= ram, "{with}");
}

/// Makes a terminal red, clears it, and renames its window.
const SEQUENCES: &str = "\x1b[31m\x1b[2J\x1b]0;title\x07\u{9b}31m";

fn escapes() {
    let assert_harmless = |stderr: &str| {
        let control = |c: char| c != '\n' && c.is_control();
        assert!(!stderr.contains(control), "{stderr:?}");
    };
    // Names that a user has got from somebody.
    let name = format!("kernel {SEQUENCES}");
    for option in ["--kernel", "--initrd", "--disk"] {
        let ended = run([OsStr::new(option), OsStr::new(&name)]);
        assert_harmless(&ended.stderr);
        assert!(
            ended.message().contains("kernel \\u{1b}[31m"),
            "{}",
            ended.stderr
        );
    }
    let ended = run([&name]);
    assert_harmless(&ended.stderr);

    // A kernel whose code, at which it crashes, and registers spell them.
    let mut code = vec![0x48, 0xb8]; // mov rax, "\x1b[31m..."
    code.extend(&SEQUENCES.as_bytes()[..8]);
    code.extend([0x0f, 0x0b]); // ud2
    code.extend(SEQUENCES.as_bytes());
    let ended = run_kernel(&code);
    assert_eq!(ended.code(), 126);
    assert_harmless(&ended.stderr);

    // Images of which everything after what tells their kind spells them.
    for magic in [&b"\x7fELF\x02\x01\x01"[..], b"\x7fELF"] {
        let mut image = magic.to_vec();
        image.extend(SEQUENCES.bytes().cycle().take(8192));
        let ended = run_kernel(&image);
        assert_eq!(ended.code(), 125);
        assert_harmless(&ended.stderr);
    }
    let mut image: Vec<u8> = SEQUENCES.bytes().cycle().take(8192).collect();
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    let ended = run_kernel(&image);
    assert_eq!(ended.code(), 125, "{}", ended.stderr);
    assert_harmless(&ended.stderr);
}
