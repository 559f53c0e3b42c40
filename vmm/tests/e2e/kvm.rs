//! A machine without KVM, with a KVM for others, and with something else by that name: which of
//! them it is, and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use libtest_mimic::Trial;

use crate::harness::{Ended, Needs, VMM, Vmm};

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::MountNamespace, body);
    vec![
        test("kvm_missing_is_said_with_what_to_do", missing),
        test("kvm_not_permitted_is_said_with_what_to_do", not_permitted),
        test("kvm_that_is_no_kvm_is_refused", no_kvm),
    ]
}

/// Runs `vmm`, as `script` starts it by `"$0"`, in a mount namespace with an empty /dev.
fn run_with_empty_dev(script: &str) -> Ended {
    // Where another user can start it, too.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let vmm = dir.path().join("vmm");
    fs::copy(VMM, &vmm).unwrap();

    let script = format!("mount -t tmpfs -o mode=755 none /dev && {script}");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).arg(&vmm);
    Vmm::from_command(command).spawn().wait()
}

fn missing() {
    let ended = run_with_empty_dev(r#"exec "$0""#);
    assert_eq!(ended.code(), 125);
    assert!(
        ended.message().contains("offers no KVM"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.message().contains("kvm_intel or kvm_amd"),
        "{}",
        ended.stderr
    );
}

fn not_permitted() {
    let ended = run_with_empty_dev(
        r#": > /dev/kvm && chmod 600 /dev/kvm &&
           exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0""#,
    );
    assert_eq!(ended.code(), 125);
    assert!(
        ended.message().contains("may not use KVM"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.message().contains("usermod -aG kvm"),
        "{}",
        ended.stderr
    );
}

fn no_kvm() {
    let ended = run_with_empty_dev(r#": > /dev/kvm && exec "$0""#);
    assert_eq!(ended.code(), 125);
    assert!(ended.message().contains("API version"), "{}", ended.stderr);
}
