//! What a machine needs besides its devices and vCPUs: the kernel in its RAM, the CPUID that KVM supports,
//! and addresses for all of RAM. Makes nothing of KVM's.

use std::thread::{Builder, JoinHandle};

use kvm_bindings::CpuId;
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap};

use crate::arch::x86_64 as arch;
use crate::boot::{self, BootState, Image};
use crate::config::VmConfig;
use crate::error::{Error, cannot};
use crate::kvm::{self, KvmError};

/// The guest of this workspace, as a flat binary.
pub(crate) const BUILT_IN_GUEST: &[u8] = include_bytes!(env!("GUEST_BIN"));

/// Starts to ask KVM for the CPUID that it supports, which takes as long as to create the VM where
/// the host is itself a guest: each CPUID that KVM asks its CPU for is an exit there.
///
/// # Errors
/// Where there can be no thread.
pub fn ask_for_cpuid() -> Result<JoinHandle<Result<CpuId, KvmError>>, Error> {
    Builder::new()
        .name("cpuid".into())
        .spawn(|| arch::supported_cpuid(&kvm::open()?))
        .map_err(cannot("start a thread"))
}

/// Loads the kernel and the initrd that `config` names into `memory`: how the vCPU is to begin.
///
/// # Errors
/// Where a file cannot be used.
pub fn load_kernel(config: &VmConfig, memory: &GuestMemoryMmap) -> Result<BootState, Error> {
    let kernel = match &config.kernel {
        None => {
            let image = Image::Bytes(BUILT_IN_GUEST);
            boot::load(&image, memory, &config.cmdline).map_err(Error::BuiltInKernel)
        }
        Some(path) => Image::open(path)
            .map_err(Into::into)
            .and_then(|image| boot::load(&image, memory, &config.cmdline))
            .map_err(|source| Error::Kernel {
                path: path.clone(),
                source,
            }),
    }?;
    let initrd = config.initrd.as_ref().map(|path| {
        kernel
            .load_initrd(path, memory)
            .map_err(|source| Error::Initrd {
                path: path.clone(),
                source,
            })
    });
    kernel
        .tell_of_machine(memory, initrd.transpose()?)
        .map_err(Error::BootData)
}

/// Sees that a CPU with physical addresses of `bits` bits reaches all of `memory`.
///
/// # Errors
/// Where it does not.
pub fn check_address_bits(memory: &GuestMemoryMmap, bits: u32) -> Result<(), Error> {
    let last = memory.last_addr().0;
    if last.checked_shr(bits).is_none_or(|beyond| beyond == 0) {
        Ok(())
    } else {
        Err(Error::AddressBits { last, bits })
    }
}
