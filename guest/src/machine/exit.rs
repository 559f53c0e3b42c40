//! The ways out: the debug-exit port, and the panic that leads there.

use core::fmt::Write;
use core::panic::PanicInfo;

use super::cpu::halt_for_good;
use super::port::out32;
use super::serial::Serial;
use spec::board::{DEBUG_EXIT_PORT, EXIT_PANIC};

/// Ends the run with `status`. Where nothing listens at the debug-exit port, the CPU halts for
/// good.
pub fn exit(status: u8) -> ! {
    out32(DEBUG_EXIT_PORT, status.into());
    halt_for_good()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut console = Serial::again();
    // The console cannot fail, and there is nobody left to tell.
    let _ = match info.location() {
        Some(at) => writeln!(
            console,
            "panic at {}:{}: {}",
            at.file(),
            at.line(),
            info.message()
        ),
        None => writeln!(console, "panic: {}", info.message()),
    };
    exit(EXIT_PANIC)
}
