//! The general-purpose registers by the numbers that instructions have for them: what an assembler
//! calls them, and what they hold. Decodes nothing.

use kvm_bindings::kvm_regs;

const WORDS: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
const BYTES: [&str; 8] = ["al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil"];
/// Without a REX prefix, 4 to 7 are the upper halves of the words 0 to 3.
const OLD_BYTES: [&str; 8] = ["al", "cl", "dl", "bl", "ah", "ch", "dh", "bh"];

/// The name of register `number`, from 0 to 15, in a width of 1, 2, 4 or 8 bytes, in an instruction
/// with a REX prefix or without.
#[must_use]
pub fn name(number: u8, width: u8, rex: bool) -> String {
    let names = match (width, rex) {
        (1, false) => OLD_BYTES,
        (1, true) => BYTES,
        _ => WORDS,
    };
    match (names.get(usize::from(number)), width) {
        (Some(name), 1 | 2) => (*name).to_owned(),
        (Some(name), 4) => format!("e{name}"),
        (Some(name), _) => format!("r{name}"),
        (None, 1) => format!("r{number}b"),
        (None, 2) => format!("r{number}w"),
        (None, 4) => format!("r{number}d"),
        (None, _) => format!("r{number}"),
    }
}

/// What register `number` holds.
#[must_use]
pub fn value(regs: &kvm_regs, number: u8) -> u64 {
    match number {
        0 => regs.rax,
        1 => regs.rcx,
        2 => regs.rdx,
        3 => regs.rbx,
        4 => regs.rsp,
        5 => regs.rbp,
        6 => regs.rsi,
        7 => regs.rdi,
        8 => regs.r8,
        9 => regs.r9,
        10 => regs.r10,
        11 => regs.r11,
        12 => regs.r12,
        13 => regs.r13,
        14 => regs.r14,
        _ => regs.r15,
    }
}
