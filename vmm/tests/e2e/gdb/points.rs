//! Breakpoints and watchpoints: as many as the KVM at hand can have, and what gdb is told of others.

use libtest_mimic::Trial;

use super::{BREAKPOINTS, Debugged, assert_tells};
use crate::kernels;
use crate::needs::Needs;

const WATCHPOINTS: Needs = Needs::Debugger(
    |can| can.watch,
    "this KVM tells of no access to a watched address",
);

pub fn tests() -> Vec<Trial> {
    let test = crate::harness::test;
    vec![
        test(
            "gdb_has_more_than_4_breakpoints_or_is_told",
            BREAKPOINTS,
            many_breakpoints,
        ),
        test(
            "gdb_is_told_of_a_breakpoint_that_would_not_be_met",
            Needs::Debugger(
                |can| !can.int3 && !can.execute,
                "this KVM tells of breakpoints",
            ),
            no_breakpoints,
        ),
        test(
            "gdb_has_4_hardware_breakpoints_and_no_fifth",
            Needs::Debugger(
                |can| can.execute,
                "this KVM tells of no address in a debug register",
            ),
            hardware_breakpoints,
        ),
        test(
            "gdb_stops_at_a_write_that_it_watches_for",
            WATCHPOINTS,
            watchpoint,
        ),
        test(
            "gdb_stops_at_a_read_that_it_watches_for",
            WATCHPOINTS,
            read_watchpoint,
        ),
        test(
            "gdb_leaves_the_guest_its_own_int3",
            Needs::Debugger(|can| can.int3, "this KVM does not tell of INT3"),
            own_int3,
        ),
    ]
}

/// Six instructions that do nothing.
fn nops() -> Vec<u8> {
    [&[0x90; 6], kernels::exit(3).as_slice()].concat()
}

fn many_breakpoints() {
    let guest = Debugged::kernel(&nops());
    let addresses: Vec<String> = (1..6).map(|at| format!("break *0x10000{at}")).collect();
    let mut commands: Vec<&str> = addresses.iter().map(String::as_str).collect();
    commands.extend(["continue", "print/x $pc", "continue", "print/x $pc"]);
    let text = guest.tell(&commands);
    if crate::needs::abilities().int3 {
        assert_tells(&text, &["$1 = 0x100001\n", "$2 = 0x100002\n"]);
    } else {
        assert_tells(&text, &["$1 = 0x100000\n", "Cannot insert breakpoint 5."]);
    }
    assert_eq!(guest.wait().code(), 3);
}

fn no_breakpoints() {
    let guest = Debugged::kernel(&nops());
    let text = guest.tell(&["break *0x100001", "continue"]);
    assert_tells(&text, &["Cannot insert breakpoint 1."]);
    assert_eq!(guest.wait().code(), 3);
}

fn hardware_breakpoints() {
    let guest = Debugged::kernel(&nops());
    let text = guest.tell(&[
        "hbreak *0x100001",
        "hbreak *0x100002",
        "hbreak *0x100003",
        "hbreak *0x100005",
        "hbreak *0x100006",
        "continue",
        "delete 5",
        "continue",
        "continue",
        "continue",
        "continue",
    ]);
    assert_tells(
        &text,
        &[
            "Breakpoint 1, 0x0000000000100001",
            "Breakpoint 2, 0x0000000000100002",
            "Breakpoint 3, 0x0000000000100003",
            "Breakpoint 4, 0x0000000000100005",
            "Could not insert hardware breakpoint",
        ],
    );
    assert_eq!(guest.wait().code(), 3);
}

/// Writes 1 to 0x200000 and 2 to 0x200010, reads the first, and ends with 5.
fn accesses() -> Vec<u8> {
    let mut code = vec![
        0xc7, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00, 0x01, 0x00, 0x00, 0x00, // mov [0x200000], 1
        0xc7, 0x04, 0x25, 0x10, 0x00, 0x20, 0x00, 0x02, 0x00, 0x00, 0x00, // mov [0x200010], 2
        0x8b, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00, // mov eax, [0x200000]
    ];
    code.extend(kernels::exit(5));
    code
}

fn watchpoint() {
    let guest = Debugged::kernel(&accesses());
    let text = guest.tell(&[
        "set language c",
        "watch *(long *)0x200010",
        "continue",
        "print/x $pc",
        "delete",
        "continue",
    ]);
    assert_tells(
        &text,
        &[
            "Hardware watchpoint 1",
            "Old value = 0\nNew value = 2\n",
            "$1 = 0x100016\n",
            "exited with code 05]",
        ],
    );
    assert_eq!(guest.wait().code(), 5);
}

fn read_watchpoint() {
    let guest = Debugged::kernel(&accesses());
    let text = guest.tell(&[
        "set language c",
        "rwatch *(int *)0x200000",
        "continue",
        "print/x $pc",
    ]);
    assert_tells(
        &text,
        &[
            "Hardware read watchpoint 1",
            "Value = 1\n",
            "$1 = 0x10001d\n",
        ],
    );
    assert_eq!(guest.wait().code(), 5);
}

fn own_int3() {
    // Without an IDT it is a triple fault.
    let kernel = [&[0x90, 0xcc], kernels::exit(0).as_slice()].concat();
    let guest = Debugged::kernel(&kernel);
    let text = guest.tell(&["break *0x100002", "continue"]);
    assert_tells(&text, &["received signal SIGSEGV"]);
    assert_eq!(guest.wait().code(), 126);
}
