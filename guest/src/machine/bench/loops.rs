//! Operations that end where they began, timed together: a loop of the operation and its counter,
//! and nothing else, so that what the loop itself costs is that of [`Kind::Empty`].

use core::arch::asm;

use guest::workloads::bench::Unsupported;
use spec::bench::{
    EVENT_ADDR, EVENT_PORT, Kind, MATCH, MATCH_ADDR, MATCH_PORT, NOP_ADDR, NOP_PORT,
};

use super::handlers;
use crate::machine::apic::{self, MSR_APIC_BASE};
use crate::machine::cpu;
use crate::machine::exception::RESUME_AT;

/// KVM_HC_VAPIC_POLL_IRQ: has KVM do nothing.
const HYPERCALL_NOTHING: u32 = 1;

/// The ticks that `iterations` of the instructions take; the operands follow. R8 counts, and what
/// the instructions change must be among the operands.
macro_rules! time {
    ($iterations:expr, [$($instruction:literal),*] $(, $($operands:tt)*)?) => {{
        let begin = cpu::ticks_in_order();
        asm!(
            ".p2align 5",
            "2:",
            $($instruction,)*
            "dec r8",
            "jnz 2b",
            inout("r8") $iterations => _,
            $($($operands)*)?
        );
        cpu::ticks_in_order() - begin
    }};
}

/// The ticks that `kind` takes, `iterations` times.
pub fn time(kind: Kind, iterations: u64) -> Result<u64, Unsupported> {
    if iterations == 0 {
        return Ok(0);
    }
    // SAFETY: the instructions change the registers that the operands name, and no memory. The
    // ports and addresses are those of the benchmark: where there is no device behind them, they
    // are nobody's, and the addresses are mapped, as part of the hole for devices.
    let ticks = unsafe {
        match kind {
            Kind::Empty => time!(iterations, []),
            Kind::Alu => time!(
                iterations,
                ["imul rax, rcx", "add rax, rdx", "xor rax, rcx", "rol rax, 13"],
                inout("rax") 1u64 => _, in("rcx") 0x9e37_79b9_7f4a_7c15u64, in("rdx") iterations
            ),
            Kind::Rdtsc => time!(iterations, ["rdtsc"], out("eax") _, out("edx") _),
            Kind::Cpuid => {
                // (RBX is not ours to name as an operand.)
                let begin = cpu::ticks_in_order();
                asm!(
                    "mov r9, rbx",
                    ".p2align 5",
                    "2:",
                    "xor eax, eax",
                    "cpuid",
                    "dec r8",
                    "jnz 2b",
                    "mov rbx, r9",
                    inout("r8") iterations => _,
                    out("eax") _, out("ecx") _, out("edx") _, out("r9") _,
                    options(nostack)
                );
                cpu::ticks_in_order() - begin
            }
            Kind::Rdmsr => time!(
                iterations,
                ["rdmsr"],
                in("ecx") MSR_APIC_BASE, out("eax") _, out("edx") _
            ),
            Kind::Wrmsr => {
                let base = apic::base();
                time!(
                    iterations,
                    ["wrmsr"],
                    in("ecx") MSR_APIC_BASE, in("eax") base as u32, in("edx") (base >> 32) as u32
                )
            }
            Kind::PioOut => out(iterations, NOP_PORT),
            Kind::PioEvent => out(iterations, EVENT_PORT),
            Kind::PioMatch => out(iterations, MATCH_PORT),
            Kind::PioIn => time!(iterations, ["in eax, dx"], in("dx") NOP_PORT, out("eax") _),
            Kind::MmioWrite => write(iterations, NOP_ADDR),
            Kind::MmioEvent => write(iterations, EVENT_ADDR),
            Kind::MmioMatch => write(iterations, MATCH_ADDR),
            Kind::MmioRead => {
                time!(iterations, ["mov eax, [rdi]"], in("rdi") NOP_ADDR, out("eax") _)
            }
            Kind::Hypercall => return hypercall(iterations),
            Kind::SelfIpi => self_ipi(iterations),
            _ => return Err(Unsupported("this is no operation of the bare machine")),
        }
    };
    Ok(ticks)
}

/// # Safety
/// Nothing but what benchmarks may be behind `port`.
unsafe fn out(iterations: u64, port: u16) -> u64 {
    // SAFETY: the caller vouches for the port.
    unsafe { time!(iterations, ["out dx, eax"], in("dx") port, in("eax") MATCH) }
}

/// # Safety
/// `address` is mapped, and nothing but what benchmarks may be behind it.
unsafe fn write(iterations: u64, address: u64) -> u64 {
    // SAFETY: the caller vouches for the address.
    unsafe { time!(iterations, ["mov [rdi], eax"], in("rdi") address, in("eax") MATCH) }
}

/// The ticks of a hypercall that does nothing. Where the CPU has no such instruction, it goes on
/// behind the loop.
fn hypercall(iterations: u64) -> Result<u64, Unsupported> {
    /// The loop around the instruction, which each vendor has its own of. What is left of the count
    /// tells whether it came to its end.
    macro_rules! time_hypercalls {
        ($instruction:literal) => {{
            let left: u64;
            let begin = cpu::ticks_in_order();
            asm!(
                "lea r9, [rip + 3f]",
                "mov [r10], r9",
                ".p2align 5",
                "2:",
                "mov eax, {call}",
                $instruction,
                "dec r8",
                "jnz 2b",
                "3:",
                "mov qword ptr [r10], 0",
                call = const HYPERCALL_NOTHING,
                inout("r8") iterations => left,
                in("r10") RESUME_AT.as_ptr(),
                out("eax") _, out("r9") _,
                options(nostack)
            );
            (left, cpu::ticks_in_order() - begin)
        }};
    }
    // SAFETY: the call changes RAX. An invalid instruction is resumed behind the loop with all
    // registers as they are, and nowhere once that is left.
    let (left, ticks) = unsafe {
        match &cpu::vendor() {
            b"AuthenticAMD" | b"HygonGenuine" => time_hypercalls!("vmmcall"),
            _ => time_hypercalls!("vmcall"),
        }
    };
    match left {
        0 => Ok(ticks),
        _ => Err(Unsupported(
            "the CPU has no instruction for hypercalls (#UD)",
        )),
    }
}

/// The ticks of interrupts that this CPU sends to itself. They come before its next instruction; a
/// software KVM has them later, and is waited for.
fn self_ipi(iterations: u64) -> u64 {
    let vector = handlers::install_note_time();
    cpu::enable_interrupts();
    // SAFETY: the one memory that is written to is the register by which interrupts are sent; the
    // handler, which is in place, counts where R9 points to.
    unsafe {
        time!(
            iterations,
            [
                "mov [rdi], eax",
                "3:", "cmp [r9], r10", "jae 5f",
                "cli", "cmp [r9], r10", "jae 4f", "call {wait}", "jmp 3b",
                "4:", "sti",
                "5:", "inc r10"
            ],
            wait = sym cpu::wait_for_interrupt,
            in("rdi") apic::COMMAND, in("eax") apic::TO_SELF | u32::from(vector),
            in("r9") handlers::HANDLED.as_ptr(), inout("r10") handlers::count() + 1 => _
        )
    }
}
