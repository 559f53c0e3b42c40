//! What is to be seen of a guest that can no longer run: why, its registers, and the code it was
//! at. Reads the vCPU and changes nothing.

use std::fmt;

use kvm_bindings::{
    KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_INTERNAL_ERROR_EMULATION, KVM_INTERNAL_ERROR_SIMUL_EX,
    KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, kvm_regs, kvm_sregs,
};
use kvm_ioctls::VcpuFd;
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// How many bytes at RIP are shown: as many as the longest instruction has.
const CODE_LEN: usize = 15;
/// CS:RIP of a CPU after a reset.
const RESET_VECTOR: (u16, u64) = (0xf000, 0xfff0);
/// EFER.LMA: the CPU is in long mode.
const EFER_LMA: u64 = 1 << 10;

/// Why a guest can no longer run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CrashReason {
    /// An exception while the CPU tried to report a double fault.
    #[error("triple fault: an exception that the guest had no way to handle")]
    TripleFault,
    /// KVM_EXIT_INTERNAL_ERROR, with its suberror.
    #[error("KVM internal error {0}: {meaning}", meaning = internal_error(*.0))]
    Internal(u32),
    /// KVM_EXIT_FAIL_ENTRY, with the reason that the CPU gives.
    #[error("the CPU refuses to enter the guest ({0:#x}): {meaning}", meaning = entry_failure(*.0))]
    FailEntry(u64),
}

fn internal_error(suberror: u32) -> &'static str {
    match suberror {
        KVM_INTERNAL_ERROR_EMULATION => "it cannot emulate the instruction",
        KVM_INTERNAL_ERROR_SIMUL_EX => "two exceptions at once that it cannot deliver",
        KVM_INTERNAL_ERROR_DELIVERY_EV => "it cannot deliver an exception or interrupt",
        KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON => "the CPU left the guest for an unknown reason",
        _ => "of a kind that this VMM does not know",
    }
}

/// What a reason of KVM_EXIT_FAIL_ENTRY means: on Intel an exit reason with bit 31 set or a
/// VM-instruction error, on AMD an exit code.
fn entry_failure(reason: u64) -> &'static str {
    match reason {
        0x8000_0021 => "the guest's state is invalid (Intel)",
        0x8000_0022 => "an MSR of the guest cannot be loaded (Intel)",
        0x8000_0029 => "a machine check at entry (Intel)",
        7 => "the controls of the VMCS are invalid (Intel)",
        8 => "the host's state in the VMCS is invalid (Intel)",
        u64::MAX | 0xffff_ffff => "the guest's state is invalid (AMD)",
        _ => "see the CPU manual's VM-entry failures",
    }
}

/// A guest that can no longer run.
#[derive(Debug)]
pub struct Crash {
    /// Why.
    pub reason: CrashReason,
    /// Number of the vCPU that it happened on.
    pub vcpu: u8,
    registers: Result<(kvm_regs, kvm_sregs), kvm_ioctls::Error>,
    code: Code,
}

/// The bytes at RIP.
#[derive(Debug)]
enum Code {
    Bytes(Vec<u8>),
    Unreadable,
}

impl Crash {
    /// Looks at `vcpu`, number `index` of a machine whose RAM is `memory`.
    #[must_use]
    pub fn capture(
        reason: CrashReason,
        index: u8,
        vcpu: &VcpuFd,
        memory: &GuestMemoryMmap,
    ) -> Self {
        let registers = vcpu.get_regs().and_then(|r| Ok((r, vcpu.get_sregs()?)));
        let code = match &registers {
            Ok((regs, sregs)) => code_at(linear_rip(regs, sregs), vcpu, memory),
            Err(_) => Code::Unreadable,
        };
        Self {
            reason,
            vcpu: index,
            registers,
            code,
        }
    }
}

/// The address at which the CPU fetches: in 64-bit mode the base of CS does not count.
fn linear_rip(regs: &kvm_regs, sregs: &kvm_sregs) -> u64 {
    if sregs.efer & EFER_LMA != 0 && sregs.cs.l != 0 {
        regs.rip
    } else {
        sregs.cs.base.wrapping_add(regs.rip) & u64::from(u32::MAX)
    }
}

/// The bytes from `linear` on, as far as they are mapped and in RAM.
fn code_at(linear: u64, vcpu: &VcpuFd, memory: &GuestMemoryMmap) -> Code {
    let byte_at = |offset: usize| -> Option<u8> {
        let page = vcpu
            .translate_gva(linear.wrapping_add(offset as u64))
            .ok()?;
        if page.valid == 0 {
            return None;
        }
        memory.read_obj(GuestAddress(page.physical_address)).ok()
    };
    let bytes: Vec<u8> = (0..CODE_LEN).map_while(byte_at).collect();
    if bytes.is_empty() {
        Code::Unreadable
    } else {
        Code::Bytes(bytes)
    }
}

/// The register dump, in several lines; neither [`reason`](Crash::reason) nor
/// [`vcpu`](Crash::vcpu) is in it.
impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (r, s) = match &self.registers {
            Ok((regs, sregs)) => (regs, sregs),
            Err(error) => return write!(f, "  KVM does not tell the registers: {error}"),
        };
        writeln!(
            f,
            "  RIP {:016x}  RSP {:016x}  RFLAGS {:016x}",
            r.rip, r.rsp, r.rflags
        )?;
        for row in [
            [
                ("CR0", s.cr0),
                ("CR2", s.cr2),
                ("CR3", s.cr3),
                ("CR4", s.cr4),
            ],
            [
                ("RAX", r.rax),
                ("RBX", r.rbx),
                ("RCX", r.rcx),
                ("RDX", r.rdx),
            ],
            [
                ("RSI", r.rsi),
                ("RDI", r.rdi),
                ("RBP", r.rbp),
                ("EFER", s.efer),
            ],
            [("R8", r.r8), ("R9", r.r9), ("R10", r.r10), ("R11", r.r11)],
            [
                ("R12", r.r12),
                ("R13", r.r13),
                ("R14", r.r14),
                ("R15", r.r15),
            ],
        ] {
            for (name, value) in row {
                write!(f, "  {name:<3} {value:016x}")?;
            }
            writeln!(f)?;
        }
        write!(
            f,
            "  CS {:04x} base {:x}  code at RIP:",
            s.cs.selector, s.cs.base
        )?;
        match &self.code {
            Code::Bytes(bytes) => bytes.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?,
            Code::Unreadable => write!(f, " unreadable")?,
        }
        if (s.cs.selector, r.rip) == RESET_VECTOR {
            write!(
                f,
                "\n  (after a reset: on AMD, KVM resets a vCPU at a triple fault)"
            )?;
        }
        Ok(())
    }
}
