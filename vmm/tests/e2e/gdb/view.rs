//! What a person sees who has the guest's symbols, and what he can change: functions, the rings,
//! registers and memory.

use libtest_mimic::Trial;
use tempfile::TempDir;

use super::{BREAKPOINTS, Debugged, assert_tells};
use crate::guests::start_on;
use crate::harness::file;
use crate::kernels;
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    let gdb = |name, body| crate::harness::test(name, Needs::KvmAndTool("gdb"), body);
    let own_kvm = |name, body| crate::harness::test(name, Needs::OwnKvmAndTool("gdb"), body);
    let breaks = |name, body| crate::harness::test(name, BREAKPOINTS, body);
    vec![
        breaks(
            "gdb_stops_in_the_drivers_interrupt_handler_and_names_who_was_interrupted",
            interrupt_handler,
        ),
        breaks("gdb_prints_the_rings_as_structs", rings),
        breaks("gdb_stops_at_a_line_and_steps_over_it", line),
        gdb("gdb_reads_and_writes_every_kind_of_register", registers),
        own_kvm("gdb_writes_code_that_the_guest_then_runs", memory),
        gdb("gdb_is_told_of_addresses_without_ram", bad_addresses),
        gdb("gdb_steps_one_instruction_at_a_time", step),
    ]
}

/// Our guest, which writes to a disk and reads it back, with an interrupt for each of 33 requests: the
/// kernel may deliver one so late on a busy host that the guest has found its request done by then.
fn verify() -> (Debugged, TempDir) {
    let (dir, path) = file("disk.img", &[0; 1 << 16]);
    let vmm = start_on(
        None,
        &[path.display().to_string()],
        "run=verify count=128 event_idx=off",
    );
    (Debugged::held(vmm), dir)
}

const HANDLER: &str = "break guest::machine::device::interrupt";

fn interrupt_handler() {
    let (guest, _disk) = verify();
    let text = guest.tell(&[HANDLER, "continue", "backtrace"]);
    assert_tells(
        &text,
        &[
            "in _start ()",
            "guest::machine::device::interrupt (vector=37)",
            "#1  <signal handler called>",
            "guest::workloads::verify::run",
            "guest::start",
        ],
    );
    // gdb has detached at its end.
    guest
        .wait()
        .assert_ok("verify lba=0 count=128 seed=1 depth=8 ok");
}

fn rings() {
    // As many requests, by a function that has the driver to itself.
    let (_disk, path) = file("disk.img", &[0; 4 << 20]);
    let line = "run=fill count=8192 byte=1 event_idx=off";
    let guest = Debugged::held(start_on(None, &[path.display().to_string()], line));
    let area = |name: &str, part: &str| {
        format!(
            "print (*(self.requests.queue.{name}_area.start as *const guest::virtio::areas::{part}"
        )
    };
    let used = area("device", "DeviceArea)).ring[0]");
    let idx = area("device", "DeviceArea)).idx >= 1");
    let avail = area("driver", "DriverArea)).idx >= 1");
    let text = guest.tell(&[
        HANDLER,
        "continue",
        "frame function guest::virtio::block::Block::write",
        &used,
        &idx,
        &avail,
    ]);
    assert_tells(
        &text,
        &[
            "= guest::virtio::areas::UsedElement {id: 0, len: 1}\n",
            "= true\n",
            "= true\n",
        ],
    );
    guest.wait().assert_ok("fill lba=0 count=8192 byte=0x01 ok");
}

fn line() {
    let (guest, _disk) = verify();
    let text = guest.tell(&[
        "tbreak guest::workloads::run",
        "continue",
        "next",
        "info symbol $pc",
        "finish",
    ]);
    assert_tells(&text, &["guest::workloads::run (", "start + "]);
    guest
        .wait()
        .assert_ok("verify lba=0 count=128 seed=1 depth=8 ok");
}

fn registers() {
    let guest = Debugged::kernel(&kernels::exit(1));
    let text = guest.tell(&[
        "print/x $rip",
        "print $eflags",
        "print/x $cr0 & 1",
        "print/x $efer",
        "set $r15 = 0x123456789abcdef0",
        "set $fs_base = 0x7000",
        "set $xmm3.v2_int64[0] = 0x1122334455667788",
        "set $mxcsr = 0x1f00",
        "set $st2 = -1.5",
        "set $eflags = 0x47",
        "maintenance flush register-cache",
        "print/x $r15",
        "print/x $fs_base",
        "print/x $xmm3.v2_int64[0]",
        "print/x $mxcsr",
        "print $st2",
        "print $eflags",
    ]);
    assert_tells(
        &text,
        &[
            "$1 = 0x100000\n",
            "$2 = [ ]\n",
            "$3 = 0x1\n",
            "$4 = 0x500\n",
            "$5 = 0x123456789abcdef0\n",
            "$6 = 0x7000\n",
            "$7 = 0x1122334455667788\n",
            "$8 = 0x1f00\n",
            "$9 = -1.5\n",
            "$10 = [ CF PF ZF ]\n",
        ],
    );
    assert_eq!(guest.wait().code(), 1);
}

fn memory() {
    let guest = Debugged::kernel(&kernels::exit(1));
    let text = guest.tell(&[
        "set language c",
        "set {unsigned char}0x100001 = 42",
        "x/2xb 0x100000",
        "continue",
    ]);
    assert_tells(&text, &["0xb0\t0x2a\n", "exited with code 052]"]);
    assert_eq!(guest.wait().code(), 42);
}

fn bad_addresses() {
    let guest = Debugged::kernel(&kernels::exit(7));
    let mut commands = vec!["set language c".to_owned()];
    let mut refusals = Vec::new();
    // A device, the hole that it is in, what is not mapped, what is RAM but for a bit that no page
    // table is looked up by, and the end of the address space.
    for address in [
        "0xd0000000",
        "0xc0000000",
        "0x100000000000",
        "0x8000000000100000",
        "0xfffffffffffffffc",
    ] {
        commands.push(format!("x/xw {address}"));
        commands.push(format!("set {{int}}{address} = 0"));
        let refusal = format!("Cannot access memory at address {address}\n");
        refusals.extend([refusal.clone(), refusal]);
    }
    commands.extend(["break *0xc0000000".into(), "continue".into()]);
    refusals.push("Cannot insert breakpoint 1.".into());
    let text = guest.tell(&commands.iter().map(String::as_str).collect::<Vec<_>>());
    assert_tells(
        &text,
        &refusals.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    assert_eq!(guest.wait().code(), 7);
}

fn step() {
    let guest = Debugged::kernel(&kernels::exit(9));
    let text = guest.tell(&["stepi", "print/x $pc", "print $rax", "stepi", "continue"]);
    assert_tells(
        &text,
        &["$1 = 0x100002\n", "$2 = 9\n", "exited with code 011]"],
    );
    assert_eq!(guest.wait().code(), 9);
}
