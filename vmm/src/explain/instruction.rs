//! The instruction that left the guest: found around RIP by what it did, and written as an assembler
//! writes it. Knows only the instructions by which drivers access devices, in 64-bit mode.

use kvm_bindings::kvm_regs;

use super::gpr::{name, value};

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
    reads: bool,
    writes: bool,
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
        let does = if access.write {
            self.writes
        } else {
            self.reads
        };
        place && self.width == access.width && does
    }
}

impl Memory {
    fn address(&self, next: u64, regs: &kvm_regs) -> u64 {
        let of = |number| value(regs, number);
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
    let finish = |rest: &Bytes<'_>, operand, width, (reads, writes), text| Instruction {
        len: code.len().min(MAX_LEN) - rest.0.len(),
        text,
        operand,
        width,
        reads,
        writes,
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
        let writes = opcode & 2 != 0;
        let text = if writes {
            format!("out {port}, {data}")
        } else {
            format!("in {data}, {port}")
        };
        return Some(finish(&bytes, operand, width, (!writes, writes), text));
    }

    let form = form(opcode, wide, &mut bytes)?;
    let (memory, field) = memory_operand(&mut bytes, bits)?;
    let (mnemonic, width) = (form.mnemonic, form.width);
    let size = match width {
        1 => "byte",
        2 => "word",
        4 => "dword",
        _ => "qword",
    };
    let place = format!("{size} ptr {}", memory.text());
    let number = if bits & REX_R != 0 { field + 8 } else { field };
    let data = name(number, form.register, rex.is_some());
    let text = match form.operands {
        Operands::RegisterMemory => format!("{mnemonic} {data}, {place}"),
        Operands::MemoryRegister => format!("{mnemonic} {place}, {data}"),
        Operands::MemoryConstant(len) => {
            let mask = u64::MAX >> (64 - 8 * u32::from(width));
            let value = i64::from(bytes.signed(len)?).cast_unsigned() & mask;
            format!("{mnemonic} {place}, {value:#x}")
        }
    };
    let memory = Operand::Memory(memory);
    Some(finish(&bytes, memory, width, form.memory, text))
}

/// What an instruction with a memory operand does with it.
struct Form {
    mnemonic: &'static str,
    /// Width of the memory operand, in bytes.
    width: u8,
    /// Width of the register operand, in bytes.
    register: u8,
    operands: Operands,
    /// Whether memory is read, and whether it is written.
    memory: (bool, bool),
}

/// The operands in their order.
enum Operands {
    RegisterMemory,
    MemoryRegister,
    /// The constant has as many bytes.
    MemoryConstant(u8),
}

const READ: (bool, bool) = (true, false);
const WRITTEN: (bool, bool) = (false, true);
const CHANGED: (bool, bool) = (true, true);

/// The instructions by which compilers access memory: MOV and its like, and arithmetic.
fn form(opcode: u8, wide: u8, bytes: &mut Bytes<'_>) -> Option<Form> {
    const ARITHMETIC: [&str; 8] = ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"];
    use Operands::{MemoryConstant, MemoryRegister, RegisterMemory};
    let width = if opcode & 1 == 0 { 1 } else { wide };
    let plain = |mnemonic, operands, memory| Form {
        mnemonic,
        width,
        register: width,
        operands,
        memory,
    };
    let widening = |mnemonic, width| Form {
        mnemonic,
        width,
        register: wide,
        operands: RegisterMemory,
        memory: READ,
    };
    // Where the operand is a constant, the field `reg` of ModRM is part of the opcode.
    let field = bytes.0.first()? >> 3 & 7;
    let arithmetic = |number: u8, operands| {
        let mnemonic = *ARITHMETIC.get(usize::from(number))?;
        let memory = match (mnemonic, &operands) {
            ("cmp", _) | (_, RegisterMemory) => READ,
            _ => CHANGED,
        };
        Some(plain(mnemonic, operands, memory))
    };
    Some(match opcode {
        0x00..0x40 if opcode & 6 == 0 => return arithmetic(opcode >> 3, MemoryRegister),
        0x00..0x40 if opcode & 6 == 2 => return arithmetic(opcode >> 3, RegisterMemory),
        0x63 if wide == 8 => widening("movsxd", 4),
        0x80 | 0x83 => return arithmetic(field, MemoryConstant(1)),
        0x81 => return arithmetic(field, MemoryConstant(wide.min(4))),
        0x84 | 0x85 => plain("test", MemoryRegister, READ),
        0x88 | 0x89 => plain("mov", MemoryRegister, WRITTEN),
        0x8a | 0x8b => plain("mov", RegisterMemory, READ),
        0xc6 | 0xc7 if field == 0 => plain("mov", MemoryConstant(width.min(4)), WRITTEN),
        0xf6 | 0xf7 if field == 0 => plain("test", MemoryConstant(width.min(4)), READ),
        0x0f => match bytes.next()? {
            0xb6 => widening("movzx", 1),
            0xb7 => widening("movzx", 2),
            0xbe => widening("movsx", 1),
            0xbf => widening("movsx", 2),
            _ => return None,
        },
        _ => return None,
    })
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

#[cfg(test)]
#[path = "instruction_tests.rs"]
mod tests;
