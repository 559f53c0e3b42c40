use std::sync::mpsc;

use super::*;
use crate::config::Registers;
use crate::explain::symbols::Symbols;
use crate::layout;

/// A guest that runs on and on is interrupted by a timer, and silent all the same.
#[test]
fn a_signal_is_no_sign_of_a_guest_that_does_something() {
    let window = layout::mapped_virtio_mmio(0);
    let recorder = Recorder::new(window, Registers::Mapped, Symbols::default());
    let mut watcher = Watcher::new(recorder, mpsc::channel().0);
    let exits = [
        (ExitKind::Signal, None, 0),
        (ExitKind::MmioWrite, Some(window.base), 1),
        (ExitKind::Signal, None, 1),
    ];
    for (kind, address, seen) in exits {
        watcher.begins(ExitSite { kind, address });
        assert_eq!(watcher.recorder().exits, seen, "{kind:?}");
    }
}
