//! The instruction that left the guest: found around RIP by what it did, and written as an assembler
//! writes it. Knows only the instructions by which drivers access devices, in 64-bit mode.

use kvm_bindings::kvm_regs;

/// The longest that an instruction is, in bytes.
pub const MAX_LEN: usize = 15;

/// What the exit says that the instruction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Where: memory at a guest-physical address, or a port.
    pub place: Place,
    /// How many bytes.
    pub width: u8,
    /// Whether it is the guest that writes.
    pub write: bool,
}

/// What a device can be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A guest-physical address.
    Memory(u64),
    /// An I/O port.
    Port(u16),
}

/// An instruction that accesses a device.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Instruction {
    len: usize,
    text: String,
    operand: Operand,
    width: u8,
    write: bool,
}

/// Where an instruction finds what it accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    Memory(Memory),
    /// The port in DX.
    Dx,
    Port(u8),
}

/// A memory operand. Registers are by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    base: Option<u8>,
    /// And its factor.
    index: Option<(u8, u8)>,
    displacement: i32,
    /// Whether it counts from the next instruction.
    rip_relative: bool,
}

/// An instruction that has been found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its address.
    pub address: u64,
    /// How long it is, in bytes.
    pub len: usize,
    /// In Intel's notation.
    pub text: String,
}

/// The instruction that made `access` where KVM_RUN has returned with these registers. `code` is what
/// is around RIP, from `start` on. KVM leaves RIP at an instruction that reads a device, and beyond
/// one that has written to it; which of the two it is is found by looking.
#[must_use]
pub fn find(code: &[u8], start: u64, regs: &kvm_regs, access: &Access) -> Option<Found> {
    let at = |address: u64| {
        let offset = usize::try_from(address.checked_sub(start)?).ok()?;
        let instruction = decode(code.get(offset..)?)?;
        let did = instruction.did(access, address, regs);
        did.then_some(Found {
            address,
            len: instruction.len,
            text: instruction.text,
        })
    };
    let ends_here =
        |len: usize| at(regs.rip.checked_sub(len as u64)?).filter(|found| found.len == len);
    at(regs.rip).or_else(|| (1..=MAX_LEN).rev().find_map(ends_here))
}

impl Instruction {
    /// Whether the instruction, at `address`, can have made `access`. Paging keeps the offset in a
    /// page, so that the two addresses of a place can be compared.
    fn did(&self, access: &Access, address: u64, regs: &kvm_regs) -> bool {
        let place = match (self.operand, access.place) {
            (Operand::Memory(memory), Place::Memory(physical)) => {
                let next = address.wrapping_add(self.len as u64);
                (memory.address(next, regs) ^ physical) & 0xfff == 0
            }
            (Operand::Dx, Place::Port(port)) => regs.rdx as u16 == port,
            (Operand::Port(number), Place::Port(port)) => u16::from(number) == port,
            _ => false,
        };
        place && self.width == access.width && self.write == access.write
    }
}

impl Memory {
    fn address(&self, next: u64, regs: &kvm_regs) -> u64 {
        let of = |number| register(regs, number);
        let index = self
            .index
            .map_or(0, |(number, scale)| of(number).wrapping_mul(scale.into()));
        let start = if self.rip_relative { next } else { 0 };
        start
            .wrapping_add(self.base.map_or(0, of))
            .wrapping_add(index)
            .wrapping_add_signed(self.displacement.into())
    }

    fn text(&self) -> String {
        let mut parts = Vec::new();
        if self.rip_relative {
            parts.push("rip".to_owned());
        }
        parts.extend(self.base.map(|number| name(number, 8, true)));
        parts.extend(
            self.index
                .map(|(number, scale)| format!("{}*{scale}", name(number, 8, true))),
        );
        let sum = parts.join("+");
        match (self.displacement, parts.is_empty()) {
            (displacement, true) => format!("[{displacement:#x}]"),
            (0, false) => format!("[{sum}]"),
            (displacement, false) if displacement < 0 => {
                format!("[{sum}-{:#x}]", displacement.unsigned_abs())
            }
            (displacement, false) => format!("[{sum}+{displacement:#x}]"),
        }
    }
}

/// The bytes that are left of an instruction.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn signed(&mut self, bytes: u8) -> Option<i32> {
        let (number, rest) = self.0.split_at_checked(bytes.into())?;
        self.0 = rest;
        match *number {
            [a] => Some(i32::from(a.cast_signed())),
            [a, b] => Some(i32::from(i16::from_le_bytes([a, b]))),
            [a, b, c, d] => Some(i32::from_le_bytes([a, b, c, d])),
            _ => None,
        }
    }
}

/// Bits of a REX prefix.
const REX_W: u8 = 8;
const REX_R: u8 = 4;
const REX_X: u8 = 2;
const REX_B: u8 = 1;

/// The instruction at the beginning of `code`, if it is one that is known here.
fn decode(code: &[u8]) -> Option<Instruction> {
    let mut bytes = Bytes(code.get(..MAX_LEN.min(code.len()))?);
    let (mut rex, mut operand_16) = (None, false);
    let opcode = loop {
        match bytes.next()? {
            0x66 if rex.is_none() => operand_16 = true,
            byte @ 0x40..=0x4f if rex.is_none() => rex = Some(byte),
            byte => break byte,
        }
    };
    let bits = rex.unwrap_or_default();
    let wide = match (bits & REX_W != 0, operand_16) {
        (true, _) => 8,
        (false, true) => 2,
        (false, false) => 4,
    };
    let finish = |rest: &Bytes<'_>, operand, width, write, text| Instruction {
        len: code.len().min(MAX_LEN) - rest.0.len(),
        text,
        operand,
        width,
        write,
    };

    // IN and OUT: the low bit is the width, bit 1 the direction, bit 3 says that the port is in DX.
    if matches!(opcode, 0xe4..=0xe7 | 0xec..=0xef) {
        let width = if opcode & 1 == 0 { 1 } else { wide.min(4) };
        let (operand, port) = if opcode & 8 == 0 {
            let port = bytes.next()?;
            (Operand::Port(port), format!("{port:#x}"))
        } else {
            (Operand::Dx, "dx".to_owned())
        };
        let data = name(0, width, true);
        let write = opcode & 2 != 0;
        let text = if write {
            format!("out {port}, {data}")
        } else {
            format!("in {data}, {port}")
        };
        return Some(finish(&bytes, operand, width, write, text));
    }

    // MOV between a register and memory, with or without widening, and of a constant to memory.
    let (mnemonic, width, to, write) = match opcode {
        0x88 => ("mov", 1, 1, true),
        0x89 => ("mov", wide, wide, true),
        0x8a => ("mov", 1, 1, false),
        0x8b => ("mov", wide, wide, false),
        0xc6 => ("mov", 1, 1, true),
        0xc7 => ("mov", wide, wide, true),
        0x63 if wide == 8 => ("movsxd", 4, 8, false),
        0x0f => match bytes.next()? {
            0xb6 => ("movzx", 1, wide, false),
            0xb7 => ("movzx", 2, wide, false),
            0xbe => ("movsx", 1, wide, false),
            0xbf => ("movsx", 2, wide, false),
            _ => return None,
        },
        _ => return None,
    };
    let (memory, field) = memory_operand(&mut bytes, bits)?;
    let size = match width {
        1 => "byte",
        2 => "word",
        4 => "dword",
        _ => "qword",
    };
    let place = format!("{size} ptr {}", memory.text());
    let text = if matches!(opcode, 0xc6 | 0xc7) {
        if field != 0 {
            return None;
        }
        let value = bytes.signed(width.min(4))?;
        let mask = u64::MAX >> (64 - 8 * u32::from(width));
        format!(
            "mov {place}, {:#x}",
            i64::from(value).cast_unsigned() & mask
        )
    } else {
        let register = if bits & REX_R != 0 { field + 8 } else { field };
        let data = name(register, to, rex.is_some());
        if write {
            format!("{mnemonic} {place}, {data}")
        } else {
            format!("{mnemonic} {data}, {place}")
        }
    };
    Some(finish(&bytes, Operand::Memory(memory), width, write, text))
}

/// The memory operand that ModRM, SIB and displacement make, and the field `reg` of ModRM. `None`
/// where the operand is a register.
fn memory_operand(bytes: &mut Bytes<'_>, rex: u8) -> Option<(Memory, u8)> {
    let modrm = bytes.next()?;
    let (mode, field, rm) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
    let extended = |number: u8, bit: u8| if rex & bit != 0 { number + 8 } else { number };
    let mut memory = Memory::default();
    let mut displacement = match mode {
        0 => 0,
        1 => 1,
        2 => 4,
        _ => return None,
    };
    if rm == 4 {
        let sib = bytes.next()?;
        let index = extended(sib >> 3 & 7, REX_X);
        memory.index = (index != 4).then_some((index, 1 << (sib >> 6)));
        if sib & 7 == 5 && mode == 0 {
            displacement = 4;
        } else {
            memory.base = Some(extended(sib & 7, REX_B));
        }
    } else if rm == 5 && mode == 0 {
        memory.rip_relative = true;
        displacement = 4;
    } else {
        memory.base = Some(extended(rm, REX_B));
    }
    if displacement > 0 {
        memory.displacement = bytes.signed(displacement)?;
    }
    Some((memory, field))
}

/// The name of register `number` in this width. Without a REX prefix, 4 to 7 are AH to BH as bytes.
fn name(number: u8, width: u8, rex: bool) -> String {
    const NAMES: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
    let name = NAMES
        .get(usize::from(number & 7))
        .copied()
        .unwrap_or_default();
    let first = name.get(..1).unwrap_or_default();
    match (number, width) {
        (8.., 1) => format!("r{number}b"),
        (8.., 2) => format!("r{number}w"),
        (8.., 4) => format!("r{number}d"),
        (8.., _) => format!("r{number}"),
        (0..4, 1) => format!("{first}l"),
        (_, 1) if rex => format!("{name}l"),
        (_, 1) => {
            let high = name_of_high(number);
            format!("{high}h")
        }
        (_, 2) => name.to_owned(),
        (_, 4) => format!("e{name}"),
        (_, _) => format!("r{name}"),
    }
}

fn name_of_high(number: u8) -> char {
    ['a', 'c', 'd', 'b']
        .get(usize::from(number & 3))
        .copied()
        .unwrap_or_default()
}

fn register(regs: &kvm_regs, number: u8) -> u64 {
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

#[cfg(test)]
#[path = "instruction_tests.rs"]
mod tests;
