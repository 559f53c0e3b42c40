//! The registers of a vCPU as gdb's packets have them, to and from what KVM gives and takes. What
//! they are called and how wide they are says target.xml, in the same order.

use gdbstub::arch::{self, Arch};
use gdbstub_arch::x86::reg::{X86_64CoreRegs, X86SegmentRegs, X87FpuInternalRegs};
use kvm_bindings::{kvm_fpu, kvm_regs, kvm_sregs};
use kvm_ioctls::{Error, VcpuFd};

use super::xsave;

/// CR0.PE: off in real mode.
const CR0_PE: u64 = 1 << 0;

/// x86-64 with SSE, with the bases of FS and GS and with the control registers.
#[derive(Debug)]
pub enum X86 {}

impl Arch for X86 {
    type Usize = u64;
    type Registers = Registers;
    /// Registers are read and written all at once.
    type RegId = ();
    type BreakpointKind = usize;

    fn target_description_xml() -> Option<&'static str> {
        Some(include_str!("target.xml"))
    }
}

/// All registers of a vCPU.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    core: X86_64CoreRegs,
    /// The bases of FS and GS, then CR0, CR2, CR3, CR4, CR8 and EFER.
    more: [u64; 8],
}

/// Length of the core registers in a packet, in bytes.
const CORE_SIZE: usize = 536;

impl arch::Registers for Registers {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        self.core.rip
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        self.core.gdb_serialize(&mut write_byte);
        for byte in self.more.iter().flat_map(|register| register.to_le_bytes()) {
            write_byte(Some(byte));
        }
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let (core, more) = bytes.split_at_checked(CORE_SIZE).ok_or(())?;
        let (more, rest) = more.as_chunks();
        if more.len() != self.more.len() || !rest.is_empty() {
            return Err(());
        }
        self.core.gdb_deserialize(core)?;
        for (register, bytes) in self.more.iter_mut().zip(more) {
            *register = u64::from_le_bytes(*bytes);
        }
        Ok(())
    }
}

/// The registers of a vCPU as KVM has them.
#[derive(Clone, Copy, Debug, PartialEq)]
struct KvmState {
    regs: kvm_regs,
    sregs: kvm_sregs,
    fpu: kvm_fpu,
}

impl KvmState {
    fn get(vcpu: &VcpuFd) -> Result<Self, Error> {
        Ok(Self {
            regs: vcpu.get_regs()?,
            sregs: vcpu.get_sregs()?,
            fpu: xsave::read(&vcpu.get_xsave()?),
        })
    }
}

impl Registers {
    /// Those of `vcpu`.
    ///
    /// # Errors
    /// Where KVM refuses.
    pub fn read(vcpu: &VcpuFd) -> Result<Self, Error> {
        Ok(Self::from_kvm(&KvmState::get(vcpu)?))
    }

    /// Writes them to `vcpu`, as far as they differ from what it has.
    ///
    /// # Errors
    /// Where KVM refuses: some may have been written.
    pub fn write(&self, vcpu: &VcpuFd) -> Result<(), Error> {
        let before = KvmState::get(vcpu)?;
        let mut after = before;
        self.to_kvm(&mut after);
        if after.sregs != before.sregs {
            vcpu.set_sregs(&after.sregs)?;
        }
        if after.regs != before.regs {
            vcpu.set_regs(&after.regs)?;
        }
        if after.fpu != before.fpu {
            let mut area = vcpu.get_xsave()?;
            xsave::write(&after.fpu, &mut area);
            // SAFETY: this process has asked for none of the features (AMX) with which an area is
            // larger than this one.
            unsafe { vcpu.set_xsave(&area) }?;
        }
        Ok(())
    }

    fn from_kvm(state: &KvmState) -> Self {
        let KvmState { regs, sregs, fpu } = state;
        let core = X86_64CoreRegs {
            regs: [
                regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.rsp,
                regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
            ],
            // The upper half is reserved.
            eflags: regs.rflags as u32,
            rip: regs.rip,
            segments: X86SegmentRegs {
                cs: sregs.cs.selector.into(),
                ss: sregs.ss.selector.into(),
                ds: sregs.ds.selector.into(),
                es: sregs.es.selector.into(),
                fs: sregs.fs.selector.into(),
                gs: sregs.gs.selector.into(),
            },
            st: fpu
                .fpr
                .map(|[a, b, c, d, e, f, g, h, i, j, ..]| [a, b, c, d, e, f, g, h, i, j]),
            fpu: X87FpuInternalRegs {
                fctrl: fpu.fcw.into(),
                fstat: fpu.fsw.into(),
                ftag: full_tags(fpu),
                // In 64-bit mode there are no segments, and the addresses are twice as wide.
                fiseg: (fpu.last_ip >> 32) as u32,
                fioff: fpu.last_ip as u32,
                foseg: (fpu.last_dp >> 32) as u32,
                fooff: fpu.last_dp as u32,
                fop: fpu.last_opcode.into(),
            },
            xmm: fpu.xmm.map(u128::from_le_bytes),
            mxcsr: fpu.mxcsr,
        };
        let more = [
            sregs.fs.base,
            sregs.gs.base,
            sregs.cr0,
            sregs.cr2,
            sregs.cr3,
            sregs.cr4,
            sregs.cr8,
            sregs.efer,
        ];
        Self { core, more }
    }

    /// Changes `state` to these. Of a segment this is the selector, and in real mode what follows
    /// from it; elsewhere the CPU would look up a descriptor, and keeps the one it has.
    fn to_kvm(&self, state: &mut KvmState) {
        let KvmState { regs, sregs, fpu } = state;
        let core = &self.core;
        [
            regs.rax, regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi, regs.rbp, regs.rsp,
            regs.r8, regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
        ] = core.regs;
        regs.rip = core.rip;
        regs.rflags = core.eflags.into();

        [
            sregs.fs.base,
            sregs.gs.base,
            sregs.cr0,
            sregs.cr2,
            sregs.cr3,
            sregs.cr4,
            sregs.cr8,
            sregs.efer,
        ] = self.more;
        let real_mode = sregs.cr0 & CR0_PE == 0;
        for (segment, selector) in [
            (&mut sregs.cs, core.segments.cs),
            (&mut sregs.ss, core.segments.ss),
            (&mut sregs.ds, core.segments.ds),
            (&mut sregs.es, core.segments.es),
            (&mut sregs.fs, core.segments.fs),
            (&mut sregs.gs, core.segments.gs),
        ] {
            let selector = selector as u16;
            if real_mode && selector != segment.selector {
                segment.base = u64::from(selector) << 4;
            }
            segment.selector = selector;
        }

        for (register, value) in fpu.fpr.iter_mut().zip(&core.st) {
            for (byte, value) in register.iter_mut().zip(value) {
                *byte = *value;
            }
        }
        fpu.fcw = core.fpu.fctrl as u16;
        fpu.fsw = core.fpu.fstat as u16;
        fpu.ftwx = short_tags(core.fpu.ftag);
        fpu.last_ip = u64::from(core.fpu.fiseg) << 32 | u64::from(core.fpu.fioff);
        fpu.last_dp = u64::from(core.fpu.foseg) << 32 | u64::from(core.fpu.fooff);
        fpu.last_opcode = core.fpu.fop as u16;
        fpu.xmm = core.xmm.map(u128::to_le_bytes);
        fpu.mxcsr = core.mxcsr;
    }
}

/// Tag of an x87 register that is empty; others say of what kind its number is.
const EMPTY: u32 = 3;

/// The tag word of the x87, two bits a register, of which FXSAVE and KVM only say whether it is in
/// use, by one bit: the rest follows from its content.
fn full_tags(fpu: &kvm_fpu) -> u32 {
    let top = usize::from(fpu.fsw >> 11 & 7);
    let tags = (0..8).map(|physical| {
        let register = fpu.fpr.get((physical + 8 - top) % 8);
        let used = fpu.ftwx >> physical & 1 != 0;
        let tag = register.filter(|_| used).map_or(EMPTY, kind);
        tag << (2 * physical)
    });
    tags.sum()
}

/// The tag of an x87 register with this content: 0 for a number, 1 for zero, 2 for anything else.
fn kind(register: &[u8; 16]) -> u32 {
    let [a, b, c, d, e, f, g, h, low, high, ..] = *register;
    let significand = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let exponent = u16::from_le_bytes([low, high]) & 0x7fff;
    match exponent {
        0 if significand == 0 => 1,
        1..0x7fff if significand >> 63 != 0 => 0,
        _ => 2,
    }
}

/// The tag word as KVM takes it.
fn short_tags(full: u32) -> u8 {
    (0..8).fold(0, |tags, register| {
        let used = full >> (2 * register) & 3 != EMPTY;
        tags | u8::from(used) << register
    })
}

#[cfg(test)]
#[path = "registers_tests.rs"]
mod tests;
