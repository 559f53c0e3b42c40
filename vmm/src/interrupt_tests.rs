#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use super::*;

/// A line as the IOAPIC looks at it: only one that was low can rise.
fn line_that_counts_edges(edges: &Arc<AtomicU32>) -> IrqLine {
    let (edges, level) = (Arc::clone(edges), AtomicBool::new(false));
    let set_level = move |high: bool| {
        if !level.swap(high, Ordering::SeqCst) && high {
            edges.fetch_add(1, Ordering::SeqCst);
        }
        // Lets another thread come in between.
        thread::yield_now();
        Ok(())
    };
    IrqLine::on(Box::new(set_level), 5)
}

#[test]
fn each_signal_of_a_line_is_an_edge_of_its_own_whoever_else_signals() {
    const SIGNALS: u32 = 1000;
    let edges = Arc::default();
    let line = line_that_counts_edges(&edges);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..SIGNALS).for_each(|_| line.signal().unwrap()));
        }
    });
    assert_eq!(edges.load(Ordering::SeqCst), 2 * SIGNALS);
}

#[test]
fn a_line_that_cannot_be_set_is_an_error_of_who_interrupts() {
    let refuse = |_| Err(io::Error::from_raw_os_error(libc::ENXIO));
    let error = IrqLine::on(Box::new(refuse), 5).signal().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
}
