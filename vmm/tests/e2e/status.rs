//! How a run ends, as an exit status and a message.

use std::io;
use std::os::unix::process::CommandExt;

use libtest_mimic::Trial;
use vmm_sys_util::signal::{SIGRTMIN, block_signal};

use crate::guests::run_on;
use crate::harness::{Vmm, run_kernel};
use crate::kernels;
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    vec![
        test(
            "status_is_what_the_guest_writes_to_the_debug_exit_port",
            debug_exit,
        ),
        test(
            "status_is_124_with_a_line_for_a_larger_value",
            large_debug_exit,
        ),
        test("status_is_0_after_a_reset", reset),
        test(
            "status_is_126_with_a_register_dump_after_a_triple_fault",
            triple_fault,
        ),
        test(
            "status_is_126_for_a_guest_that_runs_where_there_is_no_ram",
            crash_outside_ram,
        ),
        test(
            "status_of_our_guest_tells_an_exception_from_a_panic",
            guest_crash,
        ),
        test(
            "status_is_128_plus_n_after_signal_n_to_a_halted_guest",
            signal_halted,
        ),
        test(
            "status_is_128_plus_n_after_signal_n_to_a_busy_guest",
            signal_busy,
        ),
        test(
            "status_of_a_guest_with_more_ram_than_fits_below_the_hole",
            much_ram,
        ),
        test(
            "signals_that_the_parent_ignores_stay_ignored",
            ignored_signal,
        ),
        test(
            "signals_end_the_vmm_whose_parent_blocks_the_one_that_stops_vcpus",
            blocked_signal,
        ),
    ]
}

fn debug_exit() {
    for status in [0, 1, 42, 101, 124] {
        let ended = run_kernel(&kernels::exit(status));
        assert_eq!(ended.code(), i32::from(status));
        assert_eq!(ended.stderr, "");
    }
}

fn large_debug_exit() {
    for (kernel, value) in [
        (kernels::exit(125), "125"),
        (kernels::exit(255), "255"),
        (kernels::exit_long(256), "256"),
        (kernels::exit_long(u32::MAX), "4294967295"),
    ] {
        let ended = run_kernel(&kernel);
        assert_eq!(ended.code(), 124);
        assert!(ended.message().contains(value), "{}", ended.stderr);
    }
}

fn reset() {
    let ended = run_kernel(kernels::RESET);
    assert_eq!(ended.code(), 0);
    assert_eq!(ended.stderr, "");
}

fn triple_fault() {
    let ended = run_kernel(kernels::CRASH);
    assert_eq!(ended.code(), 126);
    let (message, dump) = ended.stderr.split_once('\n').unwrap();
    assert!(
        message.starts_with("vmm: the guest crashed on vCPU 0: triple fault"),
        "{message}"
    );
    for part in [
        "RIP ",
        "RSP ",
        "RFLAGS ",
        "CR0 ",
        "CR2 ",
        "CR3 ",
        "CR4 ",
        "RAX ",
        "R15 ",
        "code at RIP",
    ] {
        assert!(dump.contains(part), "no '{part}' in\n{dump}");
    }
    if dump.contains("KVM resets a vCPU at a triple fault") {
        return;
    }
    for part in [
        "RIP 0000000000100005",
        "RAX 0000000012345678",
        "CR0 0000000080000011",
        "code at RIP: 0f 0b 00",
    ] {
        assert!(dump.contains(part), "no '{part}' in\n{dump}");
    }
}

fn crash_outside_ram() {
    let ended = run_kernel(kernels::CRASH_OUTSIDE_RAM);
    assert_eq!(ended.code(), 126, "{}", ended.stderr);
    assert!(
        ended.stderr.contains("code at RIP: unreadable"),
        "{}",
        ended.stderr
    );
}

fn guest_crash() {
    let exception = run_on(None, &[], "run=crash how=exception");
    exception.assert_guest_status(spec::board::EXIT_EXCEPTION);
    let text = String::from_utf8_lossy(&exception.stdout);
    for part in ["RIP", "RFLAGS", "CR2", "RAX", "R15"] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let panic = run_on(None, &[], "run=crash how=panic");
    panic.assert_guest_status(spec::board::EXIT_PANIC);
    let triple_fault = run_on(None, &[], "run=crash how=triple-fault");
    assert_eq!(triple_fault.code(), 126);
    assert!(
        triple_fault.stderr.contains("RIP"),
        "{}",
        triple_fault.stderr
    );
}

fn signal_halted() {
    assert_signals_end(kernels::READY_AND_HALT);
}

fn signal_busy() {
    assert_signals_end(kernels::READY_AND_SPIN);
}

fn assert_signals_end(kernel: &[u8]) {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        let mut vmm = Vmm::with_kernel(kernel).spawn();
        vmm.expect("R");
        vmm.signal(signal);
        let ended = vmm.wait();
        assert_eq!(ended.code(), 128 + signal);
        assert_eq!(ended.stderr, "");
    }
}

fn much_ram() {
    let vmm = Vmm::with_kernel(&kernels::exit(7));
    let ended = vmm
        .command(|c| _ = c.args(["--memory", "5G"]))
        .spawn()
        .wait();
    assert_eq!(ended.code(), 7, "{}", ended.stderr);
}

fn ignored_signal() {
    let vmm = Vmm::with_kernel(kernels::READY_AND_HALT);
    let mut vmm = vmm
        .command(|command| {
            // SAFETY: `signal` may be called between fork and exec.
            unsafe {
                command.pre_exec(|| {
                    libc::signal(libc::SIGHUP, libc::SIG_IGN);
                    Ok(())
                });
            }
        })
        .spawn();
    vmm.expect("R");
    vmm.signal(libc::SIGHUP);
    vmm.signal(libc::SIGTERM);
    assert_eq!(vmm.wait().code(), 128 + libc::SIGTERM);
}

fn blocked_signal() {
    for kernel in [kernels::READY_AND_HALT, kernels::READY_AND_SPIN] {
        let mut vmm = Vmm::with_kernel(kernel)
            .command(|command| {
                // SAFETY: `pthread_sigmask` may be called between fork and exec, and the library
                // only makes its argument, on the stack.
                unsafe {
                    command.pre_exec(|| {
                        block_signal(SIGRTMIN()).map_err(|_| io::Error::last_os_error())
                    });
                }
            })
            .spawn();
        vmm.expect("R");
        vmm.signal(libc::SIGTERM);
        assert_eq!(vmm.wait().code(), 128 + libc::SIGTERM);
    }
}
