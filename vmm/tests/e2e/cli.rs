//! What is wrong before there is a machine: one line that names the argument, the file and the
//! reason. No KVM is needed to find out.

use std::fs;

use libtest_mimic::Trial;
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Resource;

use crate::harness::{Vmm, file, run};
use crate::kernels;
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Nothing, body);
    vec![
        test(
            "cli_help_and_version_go_to_stdout_with_status_0",
            help_and_version,
        ),
        test(
            "cli_a_wrong_command_line_is_one_line_and_status_2",
            wrong_command_line,
        ),
        test("cli_kernels_that_cannot_be_booted_are_named", bad_kernels),
        test("cli_initrds_that_cannot_be_loaded_are_named", bad_initrds),
        test("cli_disks_that_cannot_be_used_are_named", bad_disks),
        test("cli_a_disk_is_given_to_one_machine_only", disk_given_twice),
        test("cli_more_ram_than_kvm_takes_is_refused", too_much_ram),
        test(
            "cli_more_ram_than_the_host_has_room_for_is_refused",
            no_room_for_ram,
        ),
    ]
}

fn help_and_version() {
    for (option, part) in [("--help", "Examples:"), ("--version", "vmm 0.")] {
        let ended = run([option]);
        assert_eq!(ended.code(), 0);
        assert_eq!(ended.stderr, "");
        let stdout = String::from_utf8(ended.stdout).unwrap();
        assert!(stdout.contains(part), "{stdout}");
    }
}

fn wrong_command_line() {
    for (args, part) in [
        (&["--fast"][..], "'--fast'"),
        (&["image"], "'image'"),
        (&["--memory", "lots"], "'lots' for '--memory <SIZE>'"),
        (&["--memory", "1\n2"], "--memory"),
        (&["--cpus", "0"], "'0' for '--cpus <N>'"),
        (&["--cpus", "all"], "'all' for '--cpus <N>'"),
        (&["--disk", "a,driver=raw"], "unknown key 'driver'"),
        (&["--disk", "a,cache=on"], "cache is 'writeback'"),
        (&["--cmdline", "\x1b[2J"], "--cmdline"),
    ] {
        let ended = run(args);
        assert_eq!(ended.code(), 2, "{args:?}");
        assert!(ended.message().contains(part), "{}", ended.stderr);
        assert!(
            ended.message().ends_with("(see 'vmm --help')"),
            "{}",
            ended.stderr
        );
    }
}

fn bad_kernels() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("empty"), b"").unwrap();
    fs::write(path("cut.elf"), b"\x7fELF\x02\x01\x01").unwrap();
    fs::write(path("large"), vec![0x90; 2 << 20]).unwrap();
    let mut old = vec![0; 1024];
    old[0x1fe..0x208].copy_from_slice(b"\x55\xaa\xeb\x40HdrS\x03\x02");
    fs::write(path("old.bzimage"), old).unwrap();
    fs::write(path("script"), "#!/bin/sh\n".repeat(10)).unwrap();
    fs::create_dir(path("dir")).unwrap();
    for (name, reason) in [
        ("missing", "No such file or directory"),
        ("empty", "the file is empty"),
        ("cut.elf", "truncated"),
        ("old.bzimage", "version 2.03 of the Linux boot protocol"),
        ("large", "does not fit"),
        ("script", "no kernel: it begins like text"),
        ("dir", "is a directory"),
    ] {
        let kernel = path(name);
        let args = [
            "--memory".as_ref(),
            "2M".as_ref(),
            "--kernel".as_ref(),
            kernel.as_os_str(),
        ];
        let ended = run(args);
        assert_eq!(ended.code(), 125, "{name}");
        let start = format!("--kernel {}: ", kernel.display());
        assert!(ended.message().starts_with(&start), "{}", ended.stderr);
        assert!(ended.message().contains(reason), "{}", ended.stderr);
    }
}

fn bad_initrds() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("empty"), b"").unwrap();
    fs::write(path("large"), vec![0; 2 << 20]).unwrap();
    fs::create_dir(path("dir")).unwrap();
    for (name, reason) in [
        ("missing", "No such file or directory"),
        ("empty", "the file is empty"),
        ("large", "its 2097152 bytes do not fit"),
        ("dir", "is a directory"),
    ] {
        let initrd = path(name);
        let args = [
            "--memory".as_ref(),
            "2M".as_ref(),
            "--initrd".as_ref(),
            initrd.as_os_str(),
        ];
        let ended = run(args);
        assert_eq!(ended.code(), 125, "{name}");
        let start = format!("--initrd {}: ", initrd.display());
        assert!(ended.message().starts_with(&start), "{}", ended.stderr);
        assert!(ended.message().contains(reason), "{}", ended.stderr);
    }
}

fn bad_disks() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("empty"), b"").unwrap();
    fs::write(path("odd"), [0; 513]).unwrap();
    fs::create_dir(path("dir")).unwrap();
    mkfifoat(CWD, path("fifo"), Mode::RWXU).unwrap();
    for (name, reason) in [
        ("missing", "No such file or directory"),
        ("empty", "it is empty"),
        ("odd", "its size, 513 bytes, is not a multiple of 512"),
        (
            "dir",
            "it is a directory, not a regular file or a block device",
        ),
        ("fifo", "it is a FIFO, not a regular file or a block device"),
        (
            "/dev/null",
            "it is a character device, not a regular file or a block device",
        ),
    ] {
        let image = path(name);
        let ended = run(["--disk".as_ref(), image.as_os_str()]);
        assert_eq!(ended.code(), 125, "{name}");
        let message = ended.message();
        assert!(message.starts_with("--disk: "), "{message}");
        assert!(message.contains(image.to_str().unwrap()), "{message}");
        assert!(message.contains(reason), "{message}");
    }
}

fn disk_given_twice() {
    let (_dir, path) = file("disk", &[0; 512]);
    let (_kernel_dir, kernel) = file("kernel", &kernels::exit(0));
    let path = path.to_str().unwrap();
    let ended = run([
        "--kernel",
        kernel.to_str().unwrap(),
        "--disk",
        path,
        "--disk",
        path,
    ]);
    assert_eq!(ended.code(), 125);
    assert!(ended.message().contains("in use"), "{}", ended.stderr);
}

fn too_much_ram() {
    // Just above what KVM takes, then far above it.
    for size in ["8799314247680", "9T", "70T", "4194304T"] {
        let ended = run(["--memory", size]);
        assert_eq!(ended.code(), 125, "{size}");
        let message = ended.message();
        assert!(
            message.starts_with("--memory: ") && message.ends_with("that KVM takes"),
            "{message}"
        );
    }
}

fn no_room_for_ram() {
    let vmm = Vmm::new(["--memory", "64G"]).limit(Resource::As, 16 << 30);
    let ended = vmm.spawn().wait();
    assert_eq!(ended.code(), 125);
    let start = "--memory: the host has no room for 68719476736 bytes of guest RAM: ";
    assert!(ended.message().starts_with(start), "{}", ended.stderr);
}
