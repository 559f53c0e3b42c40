//! Mistakes made on purpose.

use core::arch::asm;

use guest::workloads::Crash;

/// Makes the mistake `how`.
pub fn crash(how: Crash) -> ! {
    // SAFETY: no code runs after any of these but the handlers of exceptions, which make do with
    // whatever they find.
    unsafe {
        match how {
            Crash::Exception => asm!("ud2", options(noreturn)),
            // Each of these pushes until the page below the stack is hit: there the CPU cannot push
            // the exception either, and the double fault is handled on a stack of its own.
            Crash::Stack => asm!("2:", "push rax", "jmp 2b", options(noreturn)),
            // With an empty table there is no handler to be called.
            Crash::TripleFault => asm!("push 0", "push 0", "lidt [rsp]", "ud2", options(noreturn)),
            Crash::Panic => on_purpose(),
        }
    }
}

#[expect(clippy::panic, reason = "a panic is what was asked for")]
fn on_purpose() -> ! {
    panic!("as it was asked for")
}
