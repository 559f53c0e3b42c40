//! Running, stopping and ending under gdb, with one vCPU and with several; and what becomes of the
//! machine when gdb leaves it.

use std::fs;

use libtest_mimic::Trial;

use super::{Debugged, assert_tells, output};
use crate::guests::{disk, start_on};
use crate::harness::{Vmm, wait_until};
use crate::linux_disk::empty_image;
use crate::needs::Needs;
use crate::pty::Pty;
use crate::{kernels, smp};

pub fn tests() -> Vec<Trial> {
    let gdb = |name, body| crate::harness::test(name, Needs::KvmAndTool("gdb"), body);
    let own_kvm = |name, body| crate::harness::test(name, Needs::OwnKvmAndTool("gdb"), body);
    vec![
        own_kvm("gdb_stops_a_guest_that_spins_by_ctrl_c", ctrl_c),
        gdb("gdb_stops_a_guest_that_halts_when_it_comes", attach_halted),
        gdb("gdb_sees_each_vcpu_as_a_thread", threads),
        own_kvm("gdb_is_told_the_exit_status", exit_status),
        gdb("gdb_sees_a_crash_before_the_machine_ends", crash),
        own_kvm("gdb_detaches_and_comes_again", attach_again),
        own_kvm("gdb_waits_for_no_disk_that_a_vcpu_serves", slow_disk),
        own_kvm("gdb_kills_the_machine", kill),
        own_kvm("gdb_holds_up_no_signal", signal_while_stopped),
        own_kvm("gdb_holds_up_no_ctrl_a_x", ctrl_a_x_while_stopped),
    ]
}

/// Has gdb, which lets the guest run, interrupt it once it has printed `R`.
fn interrupt(guest: &mut Debugged, text: &str, commands: &[&str]) -> String {
    let gdb = guest.gdb(&[&["continue"], commands].concat());
    guest.vmm.expect(text);
    gdb.signal(libc::SIGINT);
    output(gdb.wait())
}

fn ctrl_c() {
    let mut guest = Debugged::kernel(kernels::READY_AND_SPIN);
    let text = interrupt(&mut guest, "R", &["print/x $pc", "kill"]);
    assert_tells(&text, &["received signal SIGINT", "$1 = 0x100007\n"]);
    assert_eq!(guest.wait().code(), 0);
}

fn attach_halted() {
    let mut guest = Debugged::start(Vmm::with_kernel(kernels::READY_AND_HALT), &[]);
    guest.vmm.expect("R");
    // It has printed, and has yet to halt.
    let look = ["info threads", "print/x $pc"];
    wait_until("gdb sees it halted", || {
        let text = guest.tell(&look);
        text.contains("(vcpu0, halted)") && text.contains("$1 = 0x100008\n")
    });
    guest.tell(&["kill"]);
    assert_eq!(guest.wait().code(), 0);
}

fn threads() {
    let kernel = smp::kernel(smp::SPIN, smp::READY);
    let four = |command: &mut std::process::Command| _ = command.args(["--cpus", "4"]);
    let mut guest = Debugged::held(Vmm::with_kernel(&kernel).command(four));
    let commands = ["info threads", "thread 3", "print $cr0 & 1", "kill"];
    let text = interrupt(&mut guest, "RRR", &commands);
    assert_tells(
        &text,
        &[
            "received signal SIGINT",
            "(vcpu0, stopped)",
            "(vcpu1, ",
            "(vcpu2, ",
            "(vcpu3, ",
            "Switching to thread 3",
            // In real mode.
            "$1 = 0\n",
        ],
    );
    assert_eq!(guest.wait().code(), 0);
}

fn exit_status() {
    let guest = Debugged::kernel(&kernels::exit(8));
    assert_tells(&guest.tell(&["continue"]), &["exited with code 010]"]);
    assert_eq!(guest.wait().code(), 8);
}

fn crash() {
    let guest = Debugged::kernel(kernels::CRASH);
    let text = guest.tell(&["continue", "continue"]);
    assert_tells(
        &text,
        &["received signal SIGSEGV", "terminated with signal SIGSEGV"],
    );
    assert_eq!(guest.wait().code(), 126);
}

fn attach_again() {
    let mut guest = Debugged::start(Vmm::with_kernel(kernels::READY_AND_SPIN), &[]);
    guest.vmm.expect("R");
    for _ in 0..3 {
        let text = guest.tell(&["print/x $pc", "break *0x100000", "detach"]);
        assert_tells(&text, &["$1 = 0x100007\n", "detached"]);
    }
    let text = guest.tell(&["set $pc = 0x100000", "detach"]);
    assert_tells(&text, &["detached"]);
    // The guest begins anew.
    guest.vmm.expect("R");
    guest.tell(&["kill"]);
    assert_eq!(guest.wait().code(), 0);
}

/// By trap, a vCPU waits for what its disk may do in hours, or soon.
fn slow_disk() {
    for (limit, then) in [("bps:1", "kill"), ("iops:1", "detach")] {
        let (_dir, path) = empty_image(1 << 20);
        let disk = disk(&path, &format!(",notify=trap,throttle={limit}"));
        // Ten requests.
        let cmdline = "run=fill count=1280 byte=0x5a";
        let mut guest = Debugged::start(start_on(None, &[disk], cmdline), &[]);
        wait_until("the guest has written", || {
            fs::read(&path).unwrap()[..512] == [0x5a; 512]
        });
        let text = guest.tell(&["info threads", then]);
        assert_tells(&text, &["(vcpu0, "]);
        if then == "detach" {
            // What the guest has notified of is done when it goes on.
            guest.vmm.expect("fill lba=0 count=1280 byte=0x5a ok");
        }
        assert_eq!(guest.wait().code(), 0);
    }
}

fn kill() {
    let guest = Debugged::kernel(kernels::READY_AND_SPIN);
    guest.tell(&["kill"]);
    assert_eq!(guest.wait().code(), 0);
}

fn signal_while_stopped() {
    // Waiting for gdb, and with gdb there.
    let guest = Debugged::kernel(kernels::READY_AND_SPIN);
    guest.vmm.signal(libc::SIGTERM);
    assert_eq!(guest.wait().code(), 128 + libc::SIGTERM);

    let guest = Debugged::kernel(kernels::READY_AND_SPIN);
    let pid = guest.vmm.pid();
    let end = format!(
        "shell kill -TERM {pid}; while test -e {}; do sleep 0.01; done",
        guest.socket.display()
    );
    guest.tell(&["stepi", &end]);
    assert_eq!(guest.wait().code(), 128 + libc::SIGTERM);
}

fn ctrl_a_x_while_stopped() {
    let mut pty = Pty::new();
    let vmm = Vmm::with_kernel(kernels::READY_AND_SPIN)
        .stdin(pty.terminal())
        .stdout(pty.terminal())
        .command(Pty::control);
    let guest = Debugged::held(vmm);
    wait_until("the terminal is raw", || pty.is_raw());
    pty.press(b"\x01x");
    assert_eq!(guest.wait().code(), 0);
}
