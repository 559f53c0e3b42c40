//! The end of a guest that did something wrong: a dump of the registers, and exit status 101. Only
//! an invalid instruction may be expected.

use core::arch::asm;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use super::exit::exit;
use super::serial::Serial;
use spec::board::EXIT_EXCEPTION;

/// Where the program goes on, with its registers as they are, at the next invalid instruction: for
/// one that not every CPU has. 0 where none is expected.
pub static RESUME_AT: AtomicU64 = AtomicU64::new(0);

const INVALID_OPCODE: u64 = 6;

/// What the stub of an exception leaves on the stack, from the lowest address on.
#[repr(C)]
struct Frame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    vector: u64,
    error_code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// The names of the exceptions, by their vectors.
const NAMES: [&str; 32] = [
    "#DE divide error",
    "#DB debug",
    "NMI",
    "#BP breakpoint",
    "#OF overflow",
    "#BR bound range exceeded",
    "#UD invalid opcode",
    "#NM device not available",
    "#DF double fault",
    "coprocessor segment overrun",
    "#TS invalid TSS",
    "#NP segment not present",
    "#SS stack-segment fault",
    "#GP general protection",
    "#PF page fault",
    "reserved",
    "#MF x87 floating-point error",
    "#AC alignment check",
    "#MC machine check",
    "#XM SIMD floating-point error",
    "#VE virtualization",
    "#CP control protection",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "#HV hypervisor injection",
    "#VC VMM communication",
    "#SX security",
    "reserved",
];

/// Called by the stubs in `vectors.s`.
#[unsafe(no_mangle)]
extern "C" fn exception(frame: &mut Frame) {
    if frame.vector == INVALID_OPCODE {
        let resume_at = RESUME_AT.swap(0, Ordering::Relaxed);
        if resume_at != 0 {
            frame.rip = resume_at;
            return;
        }
    }
    // The console cannot fail, and there is nobody left to tell.
    let _ = dump(&mut Serial::again(), frame);
    exit(EXIT_EXCEPTION)
}

fn dump(out: &mut dyn Write, frame: &Frame) -> fmt::Result {
    let name = NAMES.get(frame.vector as usize).unwrap_or(&"unknown");
    writeln!(
        out,
        "exception {}: {name}, error code {:#x}",
        frame.vector, frame.error_code
    )?;
    let (cr0, cr2, cr3, cr4): (u64, u64, u64, u64);
    // SAFETY: reading control registers changes nothing.
    unsafe {
        asm!("mov {}, cr0", out(reg) cr0, options(nomem, nostack, preserves_flags));
        asm!("mov {}, cr2", out(reg) cr2, options(nomem, nostack, preserves_flags));
        asm!("mov {}, cr3", out(reg) cr3, options(nomem, nostack, preserves_flags));
        asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack, preserves_flags));
    }
    let registers = [
        [
            ("RIP", frame.rip),
            ("CS", frame.cs),
            ("RFLAGS", frame.rflags),
        ],
        [("RSP", frame.rsp), ("SS", frame.ss), ("CR0", cr0)],
        [("CR2", cr2), ("CR3", cr3), ("CR4", cr4)],
        [("RAX", frame.rax), ("RBX", frame.rbx), ("RCX", frame.rcx)],
        [("RDX", frame.rdx), ("RSI", frame.rsi), ("RDI", frame.rdi)],
        [("RBP", frame.rbp), ("R8", frame.r8), ("R9", frame.r9)],
        [("R10", frame.r10), ("R11", frame.r11), ("R12", frame.r12)],
        [("R13", frame.r13), ("R14", frame.r14), ("R15", frame.r15)],
    ];
    for [(a, x), (b, y), (c, z)] in registers {
        writeln!(out, "  {a:6} {x:016x}  {b:6} {y:016x}  {c:6} {z:016x}")?;
    }
    Ok(())
}
