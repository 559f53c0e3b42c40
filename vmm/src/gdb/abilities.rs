//! What this KVM can do for a debugger. It says that it takes a request, not that anything comes of
//! it, so each is tried in a VM that is thrown away: on a software KVM some come to nothing.

use kvm_bindings::{
    CpuId, KVM_CAP_SET_GUEST_DEBUG2, KVM_GUESTDBG_BLOCKIRQ, KVM_GUESTDBG_ENABLE,
    KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP, KVM_GUESTDBG_USE_SW_BP, kvm_guest_debug,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use spec::board::{DEBUG_EXIT_PORT, FLAT_LOAD_ADDR};
use vm_memory::{Bytes, GuestAddress};

use crate::arch::x86_64 as arch;
use crate::boot::{BootState, CpuMode};
use crate::error::Error;
use crate::kvm::{self, failed_to};
use crate::layout::{self, MIN_MEMORY};
use crate::memory;

/// What KVM can do for a debugger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// It tells of INT3.
    pub int3: bool,
    /// It tells of what is executed at an address in a debug register.
    pub execute: bool,
    /// It tells of what is written to an address in a debug register.
    pub watch: bool,
    /// It runs a single instruction.
    pub step: bool,
    /// It holds off interrupts meanwhile.
    pub block_interrupts: bool,
}

/// Where the guest of a trial writes.
const WRITTEN: u64 = layout::START_INFO;
/// out DEBUG_EXIT_PORT, al: how it ends where KVM tells of nothing else.
const EXIT: &[u8] = &[0xe6, DEBUG_EXIT_PORT as u8];

impl Abilities {
    /// Finds out.
    ///
    /// # Errors
    /// Where KVM refuses a VM, or what all of them are given.
    pub fn find_out(kvm: &Kvm) -> Result<Self, Error> {
        let flags = kvm.check_extension_raw(KVM_CAP_SET_GUEST_DEBUG2.into());
        let blocks = u32::try_from(flags).is_ok_and(|flags| flags & KVM_GUESTDBG_BLOCKIRQ != 0);

        let cpuid = arch::supported_cpuid(kvm)?;
        let kvm = (kvm, &cpuid);
        let [low, high, ..] = (WRITTEN as u32).to_le_bytes();
        let nop = [&[0x90], EXIT].concat();
        let write = [&[0x88, 0x04, 0x25, low, high, 0, 0], EXIT].concat(); // mov [WRITTEN], al
        let execute_second = (FLAT_LOAD_ADDR + 1, 0x402); // DR7: DR0 on, for execution
        let write_byte = (WRITTEN, 0x1_0402); // DR7: DR0 on, for writes of a byte
        Ok(Self {
            step: tells(kvm, &nop, KVM_GUESTDBG_SINGLESTEP, (0, 0))?,
            execute: tells(kvm, &nop, KVM_GUESTDBG_USE_HW_BP, execute_second)?,
            watch: tells(kvm, &write, KVM_GUESTDBG_USE_HW_BP, write_byte)?,
            int3: tells(kvm, &[0xcc], KVM_GUESTDBG_USE_SW_BP, (0, 0))?,
            block_interrupts: blocks,
        })
    }
}

/// Whether a guest with this code, which is entered in 64-bit mode, is left first by
/// KVM_EXIT_DEBUG, with this `control` and these values of DR0 and DR7.
fn tells(
    (kvm, cpuid): (&Kvm, &CpuId),
    code: &[u8],
    control: u32,
    (dr0, dr7): (u64, u64),
) -> Result<bool, Error> {
    let state = BootState {
        mode: CpuMode::Long64,
        rip: FLAT_LOAD_ADDR,
        rsp: layout::BOOT_STACK_TOP,
        rbx: 0,
        rsi: 0,
    };
    let memory = memory::allocate(MIN_MEMORY)?;
    arch::write_tables(&memory, state.mode).map_err(Error::Tables)?;
    memory
        .write_slice(code, GuestAddress(FLAT_LOAD_ADDR))
        .map_err(Error::BootData)?;
    let vm = kvm::create_vm(kvm, &memory, &[])?;
    let mut vcpu = vm.create_vcpu(0).map_err(failed_to("create a vCPU"))?;
    arch::set_up(&vcpu, cpuid, 0, 1)?;
    arch::set_registers(&vcpu, &state)?;
    let mut debug = kvm_guest_debug {
        control: KVM_GUESTDBG_ENABLE | control,
        ..Default::default()
    };
    let [first, .., last] = &mut debug.arch.debugreg;
    (*first, *last) = (dr0, dr7);
    Ok(vcpu.set_guest_debug(&debug).is_ok() && leaves_by_debug(&mut vcpu)?)
}

fn leaves_by_debug(vcpu: &mut VcpuFd) -> Result<bool, Error> {
    loop {
        return match vcpu.run() {
            Ok(exit) => Ok(matches!(exit, VcpuExit::Debug(_))),
            Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => continue,
            Err(error) => Err(failed_to("run the vCPU")(error).into()),
        };
    }
}
