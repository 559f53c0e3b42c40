//! A machine without KVM, with a KVM for others, and with something else by that name: which of
//! them it is, and what to do.

use std::process::Command;

use libtest_mimic::Trial;

use crate::harness::{Ended, VMM, Vmm};
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::MountNamespace, body);
    vec![
        test("kvm_missing_is_said_with_what_to_do", missing),
        test("kvm_not_permitted_is_said_with_what_to_do", not_permitted),
        test("kvm_that_is_no_kvm_is_refused", no_kvm),
    ]
}

/// Runs `vmm`, as `script` starts it by /dev/vmm, in a mount namespace with nothing else in /dev.
fn run_with_empty_dev(script: &str) -> Ended {
    let script = format!(r#"mount -t tmpfs -o mode=755 none /dev && cp "$0" /dev/vmm && {script}"#);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script, VMM]);
    Vmm::from_command(command).spawn().wait()
}

fn missing() {
    let ended = run_with_empty_dev("exec /dev/vmm");
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
        ": > /dev/kvm && chmod 600 /dev/kvm &&
         exec setpriv --reuid 65534 --regid 65534 --clear-groups /dev/vmm",
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
    let ended = run_with_empty_dev(": > /dev/kvm && exec /dev/vmm");
    assert_eq!(ended.code(), 125);
    assert!(ended.message().contains("API version"), "{}", ended.stderr);
}
