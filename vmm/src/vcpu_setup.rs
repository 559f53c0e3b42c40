//! What a vCPU is before its first instruction: of what KVM supports, and the one that boots as its
//! kernel wants it. Which registers these are is `arch`'s to say; nothing is run here.

use std::sync::Mutex;

use devices::locks::lock;
use kvm_bindings::CpuId;
use kvm_ioctls::{Kvm, VcpuFd};
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};

use crate::arch::x86_64 as arch;
use crate::boot::BootState;
use crate::error::Error;

/// How many bits of a physical address every CPU with a long mode has.
const ADDRESS_BITS_MIN: u32 = 36;

/// What all vCPUs of a machine are set up with, each by the thread that runs it: KVM takes its time, and
/// other threads have enough to do until the guest can run.
#[derive(Debug)]
pub struct VcpuSetup {
    kvm: Kvm,
    /// The CPUID that KVM supports, once it has been asked.
    supported: Mutex<Option<CpuId>>,
    /// How many vCPUs there are.
    count: u8,
    /// Last address of RAM.
    last_address: u64,
    /// How the one that boots begins.
    state: BootState,
}

impl VcpuSetup {
    /// For `count` vCPUs with `memory`, the first of which begins with `state`.
    ///
    /// # Errors
    /// Where the CPU that KVM supports does not reach all of RAM, or KVM refuses to say.
    pub fn new(
        kvm: Kvm,
        count: u8,
        memory: &GuestMemoryMmap,
        state: BootState,
    ) -> Result<Self, Error> {
        let setup = Self {
            kvm,
            supported: Mutex::new(None),
            count,
            last_address: memory.last_addr().0,
            state,
        };
        // RAM beyond the CPU's reach is refused before anything is changed. Where every CPU reaches all
        // of it KVM is not asked here, but by threads that others need not wait for.
        if check_address_bits(setup.last_address, ADDRESS_BITS_MIN).is_err() {
            setup.supported()?;
        }
        Ok(setup)
    }

    /// Sets up `vcpu`, number `index`. The tables that its registers point to must have been written.
    ///
    /// # Errors
    /// Where KVM refuses, or its CPU does not reach all of RAM.
    pub fn apply(&self, vcpu: &VcpuFd, index: u8) -> Result<(), Error> {
        arch::set_up(vcpu, &self.supported()?, index, self.count)?;
        if index == 0 {
            arch::set_registers(vcpu, &self.state)?;
        }
        Ok(())
    }

    /// The CPUID that KVM supports, for which it is asked once: where the host is a guest itself, each
    /// leaf is an exit of the host.
    fn supported(&self) -> Result<CpuId, Error> {
        let mut supported = lock(&self.supported);
        if let Some(cpuid) = &*supported {
            return Ok(cpuid.clone());
        }
        let cpuid = arch::supported_cpuid(&self.kvm)?;
        check_address_bits(self.last_address, arch::physical_address_bits(&cpuid))?;
        Ok(supported.insert(cpuid).clone())
    }
}

/// Sees that a CPU with physical addresses of `bits` bits reaches the address `last`.
fn check_address_bits(last: u64, bits: u32) -> Result<(), Error> {
    if last.checked_shr(bits).is_none_or(|beyond| beyond == 0) {
        Ok(())
    } else {
        Err(Error::AddressBits { last, bits })
    }
}

#[cfg(test)]
#[path = "vcpu_setup_tests.rs"]
mod tests;
