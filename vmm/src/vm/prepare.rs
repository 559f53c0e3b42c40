//! What is in guest RAM before there is a VM: the kernel, and what it is told of the machine. Makes
//! nothing of KVM's.

use vm_memory::GuestMemoryMmap;

use crate::boot::{self, BootState, Image};
use crate::config::VmConfig;
use crate::error::Error;

/// The guest of this workspace, as a flat binary.
pub(crate) const BUILT_IN_GUEST: &[u8] = include_bytes!(env!("GUEST_BIN"));

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
