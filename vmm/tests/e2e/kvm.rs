//! A machine without KVM, with a KVM for others, and with something else by that name: which of
//! them it is, and what to do. And a KVM that does not make a vCPU what it is to be.

use std::process::Command;

use libtest_mimic::Trial;
use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use crate::harness::{Ended, VMM, Vmm};
use crate::kernels::READY_AND_HALT;
use crate::needs::Needs;
use crate::sandbox::fail_calls;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::MountNamespace, body);
    vec![
        test("kvm_missing_is_said_with_what_to_do", missing),
        test("kvm_not_permitted_is_said_with_what_to_do", not_permitted),
        test("kvm_that_is_no_kvm_is_refused", no_kvm),
        crate::harness::test(
            "kvm_that_refuses_to_set_up_a_vcpu_ends_the_run_before_it_begins",
            Needs::Kvm,
            no_setup,
        ),
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

fn no_setup() {
    for (ioctl, error, message) in [
        // KVM_GET_SUPPORTED_CPUID
        (0xc008_ae05, libc::EPERM, "say which CPUID it supports"),
        // KVM_GET_TSC_KHZ
        (0xaea3, libc::EPERM, "tell the frequency of the TSC"),
        (0x4008_ae90, libc::EPERM, "set the CPUID"), // KVM_SET_CPUID2
        (0xc008_ae88, libc::EPERM, "tell an MSR"),   // KVM_GET_MSRS
        (0x4008_ae89, libc::EPERM, "set an MSR"),    // KVM_SET_MSRS
        (0x4008_ae89, 0, "the MSR 0x1a0"),           // the same, which takes none
        // KVM_SET_SREGS and KVM_SET_REGS
        (0x4138_ae84, libc::EPERM, "set the segment and control"),
        (0x4090_ae82, libc::EPERM, "set the general registers"),
    ] {
        let is = SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, ioctl);
        let rule = SeccompRule::new(vec![is.unwrap()]).unwrap();
        let vmm = Vmm::with_kernel(READY_AND_HALT).command(|command| {
            command.args(["--cpus", "4"]);
            fail_calls(command, [(libc::SYS_ioctl, vec![rule])].into(), error);
        });
        let ended = vmm.spawn().wait();
        let said = ended.message();
        assert!(ended.code() == 125 && said.contains(message), "{said}");
        assert_eq!(ended.stdout, b"", "{said}");
    }
}
