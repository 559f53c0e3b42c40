use gdbstub::common::Tid;
use gdbstub::target::ext::breakpoints::WatchKind;

use super::*;

#[test]
fn of_what_comes_while_gdb_is_told_of_another_vcpu_a_crash_and_an_access_are_kept() {
    let tid = Tid::MIN;
    let (kind, addr) = (WatchKind::Write, 0x1000);
    assert!(!comes_again(&Reason::Watch { tid, kind, addr }));
    let signal = Signal::SIGTRAP;
    assert!(comes_again(&Reason::SignalWithThread { tid, signal }));
    assert!(comes_again(&Reason::SwBreak(tid)));
    assert!(comes_again(&Reason::HwBreak(tid)));
    let signal = CRASH;
    assert!(!comes_again(&Reason::SignalWithThread { tid, signal }));
}
