//! Where an interrupt takes a vCPU: the vector that the IOAPIC has for it, the gate of that vector in
//! the guest's IDT, and what the CPU has pushed there. What the CPU has is to be looked at while the
//! handler runs; it is understood later, once the vector is known.

use kvm_bindings::{KVM_IRQCHIP_IOAPIC, kvm_irqchip};
use kvm_ioctls::{VcpuFd, VmFd};
use vm_memory::GuestMemoryMmap;

use super::site;
use super::story::Code;

/// Size of a gate in the IDT of long mode, in bytes.
const GATE_SIZE: usize = 16;
/// Offset of the first interrupt stack in the TSS of long mode.
const INTERRUPT_STACKS: u64 = 0x24;
/// How many of them there are.
const STACKS: usize = 7;
/// How far below the top of its stack the CPU pushes RIP: SS, RSP, RFLAGS, CS, RIP.
const PUSHED_RIP: u64 = 5 * 8;
/// In an entry of the IOAPIC's redirection table: no interrupt is sent.
const MASKED: u64 = 1 << 16;

/// What a vCPU that is in a handler has of how it came there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    idt: Vec<u8>,
    /// By interrupt stack: where the guest goes on, and the HLT before that, if there is one.
    pushed: [Option<(u64, Option<Code>)>; STACKS],
}

/// The handler of a vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    /// Where it begins.
    pub entry: u64,
    /// Where the guest was, and will go on, and the HLT before that: known where the handler has a
    /// stack of its own, for else it is not known where on the stack this has been pushed.
    pub interrupted: Option<(u64, Option<Code>)>,
}

impl Entry {
    /// What the vCPU at `site` has. `None` where it does not run 64-bit code, or has it not in RAM.
    #[must_use]
    pub fn look(site: &site::Site<'_>) -> Option<Self> {
        let (vcpu, memory) = (site.vcpu, site.memory);
        let sregs = vcpu.get_sregs().ok()?;
        if !site::is_64_bit(&sregs) {
            return None;
        }
        let idt = site::read(
            vcpu,
            memory,
            sregs.idt.base,
            usize::from(sregs.idt.limit) + 1,
        )?;
        let pushed = std::array::from_fn(|stack| {
            let pointer = INTERRUPT_STACKS + 8 * stack as u64;
            let top = number(vcpu, memory, sregs.tr.base.checked_add(pointer)?)?;
            // The CPU aligns the stack by 16 first.
            let rip = number(vcpu, memory, (top & !0xf).checked_sub(PUSHED_RIP)?)?;
            Some((rip, site.halt_before(rip)))
        });
        Some(Self { idt, pushed })
    }

    /// The handler of `vector`.
    #[must_use]
    pub fn handler(&self, vector: u8) -> Option<Handler> {
        let gate = self.idt.get(GATE_SIZE * usize::from(vector)..)?;
        let (entry, stack) = parse_gate(*gate.first_chunk()?);
        let interrupted = stack
            .checked_sub(1)
            .and_then(|stack| self.pushed.get(stack)?.clone());
        Some(Handler { entry, interrupted })
    }
}

/// The vector that the IOAPIC of `vm` sends for its pin `gsi`; `None` where the guest has masked it,
/// or KVM does not tell.
#[must_use]
pub fn vector(vm: &VmFd, gsi: u32) -> Option<u8> {
    let mut chip = kvm_irqchip {
        chip_id: KVM_IRQCHIP_IOAPIC,
        ..Default::default()
    };
    vm.get_irqchip(&mut chip).ok()?;
    // SAFETY: KVM has filled in the IOAPIC, which was asked for; any bits are one.
    let pins = unsafe { chip.chip.ioapic.redirtbl };
    // SAFETY: `bits` is all of an entry; any are one.
    let entry = unsafe { pins.get(gsi as usize)?.bits };
    (entry & MASKED == 0).then_some(entry as u8)
}

/// Where a gate of the IDT leads, and the number of its interrupt stack: 0 is the current one.
fn parse_gate(gate: [u8; GATE_SIZE]) -> (u64, usize) {
    let gate = u128::from_le_bytes(gate);
    let entry = (gate & 0xffff) | (gate >> 48 & 0xffff) << 16 | (gate >> 64 & 0xffff_ffff) << 32;
    (entry as u64, (gate >> 32) as usize & 7)
}

fn number(vcpu: &VcpuFd, memory: &GuestMemoryMmap, address: u64) -> Option<u64> {
    let bytes = site::read(vcpu, memory, address, 8)?;
    bytes.first_chunk().copied().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(stack: u8) -> [u8; GATE_SIZE] {
        let mut gate = [0; GATE_SIZE];
        gate[..2].copy_from_slice(&0x5678_u16.to_le_bytes());
        gate[4] = stack;
        gate[5] = 0x8e;
        gate[6..8].copy_from_slice(&0x1234_u16.to_le_bytes());
        gate[8..12].copy_from_slice(&0xffff_8000_u32.to_le_bytes());
        gate
    }

    #[test]
    fn a_gate_has_its_entry_in_three_pieces_and_may_have_a_stack() {
        assert_eq!(parse_gate(gate(0)), (0xffff_8000_1234_5678, 0));
        assert_eq!(parse_gate(gate(2)), (0xffff_8000_1234_5678, 2));
    }

    #[test]
    fn what_was_interrupted_is_on_the_stack_of_the_gate_if_it_has_one() {
        let mut pushed = [const { None }; STACKS];
        pushed[1] = Some((0x1234, None));
        let entry = Entry {
            idt: [gate(0), gate(2)].concat(),
            pushed,
        };
        let interrupted = |vector| entry.handler(vector).map(|handler| handler.interrupted);
        assert_eq!(interrupted(0), Some(None));
        assert_eq!(interrupted(1), Some(Some((0x1234, None))));
        assert_eq!(interrupted(2), None, "beyond the end of the IDT");
    }
}
