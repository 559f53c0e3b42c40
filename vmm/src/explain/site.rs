//! Where in its program the guest was when it left: the instruction, and the function that it is in.
//! Reads the vCPU, and changes nothing.

use kvm_bindings::{kvm_regs, kvm_sregs};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::instruction::{self, Access, MAX_LEN};
use super::story::Code;
use super::symbols::Symbols;
use crate::layout::PAGE_SIZE;

/// EFER.LMA: in long mode.
const EFER_LMA: u64 = 1 << 10;

/// A vCPU that has left the guest.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The vCPU.
    pub vcpu: &'a VcpuFd,
    /// Guest RAM.
    pub memory: &'a GuestMemoryMmap,
    /// The guest's functions.
    pub symbols: &'a Symbols,
}

impl Site<'_> {
    /// Where the instruction is that made `access`, and where the guest goes on after it, if the
    /// instruction is a known one: else the first is RIP as KVM has left it. `None` where KVM does
    /// not tell.
    #[must_use]
    pub fn of(&self, access: &Access) -> Option<(Code, Option<u64>)> {
        let regs = self.vcpu.get_regs().ok()?;
        let sregs = self.vcpu.get_sregs().ok()?;
        if !is_64_bit(&sregs) {
            let linear = sregs.cs.base.wrapping_add(regs.rip) & u64::from(u32::MAX);
            return Some((self.symbols.code(linear, None), None));
        }
        Some(match self.find(&regs, access) {
            Some(found) => {
                let next = found.address.wrapping_add(found.len as u64);
                let code = self.symbols.code(found.address, Some(found.text));
                (code, Some(next))
            }
            None => (self.symbols.code(regs.rip, None), None),
        })
    }

    /// The place at `rip`, with the HLT that may be there.
    #[must_use]
    pub fn halt_before(&self, rip: u64) -> Option<Code> {
        const HLT: u8 = 0xf4;
        let halt = rip.checked_sub(1)?;
        let byte = read(self.vcpu, self.memory, halt, 1)?;
        (byte == [HLT]).then(|| self.symbols.code(halt, Some("hlt".into())))
    }

    fn find(&self, regs: &kvm_regs, access: &Access) -> Option<instruction::Found> {
        // An instruction of this length at RIP, or one that ends there.
        let around = |before: usize, after: usize| {
            let start = regs.rip.checked_sub(before as u64)?;
            let code = read(self.vcpu, self.memory, start, before + after)?;
            instruction::find(&code, start, regs, access)
        };
        around(MAX_LEN, MAX_LEN)
            .or_else(|| around(0, MAX_LEN))
            .or_else(|| around(MAX_LEN, 0))
    }
}

/// Whether the CPU runs 64-bit code.
#[must_use]
pub fn is_64_bit(sregs: &kvm_sregs) -> bool {
    sregs.efer & EFER_LMA != 0 && sregs.cs.l != 0
}

/// The `len` bytes at the virtual address `address`, if all of them are mapped RAM.
#[must_use]
pub fn read(vcpu: &VcpuFd, memory: &GuestMemoryMmap, address: u64, len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    let (mut at, mut rest) = (address, bytes.as_mut_slice());
    while !rest.is_empty() {
        let in_page = (PAGE_SIZE - at % PAGE_SIZE) as usize;
        let (piece, after) = rest.split_at_mut(in_page.min(rest.len()));
        let page = vcpu.translate_gva(at).ok().filter(|page| page.valid != 0)?;
        let place = GuestAddress(page.physical_address);
        memory.read_slice(piece, place).ok()?;
        at = at.checked_add(piece.len() as u64)?;
        rest = after;
    }
    Some(bytes)
}
