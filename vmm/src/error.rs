//! What can go wrong in the VMM itself, from the first file it opens to the last byte the guest
//! prints. Every message names what was attempted, on what, and why it failed.

use std::io;
use std::path::PathBuf;

use devices::DeviceError;
use devices::bus::BusError;
use devices::virtio::block::BlockError;
use devices::virtio::block::backend::FileBackendError;
use thiserror::Error;
use vm_memory::GuestMemoryError;

use crate::boot::{InitrdError, LoadError};
use crate::kvm::KvmError;
use crate::memory::MemoryError;
use crate::pin::PinError;
use crate::sandbox::SandboxError;
use crate::trace::TraceError;

/// An error of the VMM.
#[derive(Debug, Error)]
pub enum Error {
    /// The kernel cannot be booted.
    #[error("--kernel {}: {source}", path.display())]
    Kernel {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: LoadError,
    },
    /// The built-in guest cannot be booted.
    #[error("the built-in guest: {0}")]
    BuiltInKernel(LoadError),
    /// The initrd cannot be loaded.
    #[error("--initrd {}: {source}", path.display())]
    Initrd {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: InitrdError,
    },
    /// What the kernel is told of the machine cannot be written.
    #[error("writing the boot data into guest RAM: {0}")]
    BootData(GuestMemoryError),
    /// A disk image cannot be used.
    #[error("--disk: {0}")]
    Image(#[from] FileBackendError),
    /// A block device cannot be made.
    #[error("--disk: {0}")]
    Block(#[from] BlockError),
    /// There is no guest RAM.
    #[error("--memory: {0}")]
    Memory(#[from] MemoryError),
    /// The guest could not address all of its RAM.
    #[error("--memory: RAM up to {last:#x} is more than the {bits} address bits of the CPU reach")]
    AddressBits {
        /// Last address of RAM.
        last: u64,
        /// Width of a physical address.
        bits: u32,
    },
    /// The tables that the vCPU starts with cannot be written.
    #[error("writing the vCPU's tables into guest RAM: {0}")]
    Tables(GuestMemoryError),
    /// KVM is not there, or refuses something.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The threads cannot be held to what they are to do.
    #[error("sandbox: {0}")]
    Sandbox(SandboxError),
    /// The threads cannot be kept on CPUs of the host.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// Two devices are at the same address.
    #[error("putting a device on the bus: {0}")]
    Bus(#[from] BusError),
    /// A device cannot go on.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// There is no trace.
    #[error("--trace {}: {source}", path.display())]
    Trace {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: TraceError,
    },
    /// A debugger cannot be awaited.
    #[cfg(feature = "gdb")]
    #[error("--gdb {address}: {source}")]
    Gdb {
        /// Where.
        address: crate::gdb::address::Address,
        /// Why.
        source: io::Error,
    },
    /// The host refuses something else that the machine needs.
    #[error("cannot {what}: {source}")]
    Host {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// KVM_RUN left the guest for a reason that no guest of this machine can give.
    #[error("KVM left the guest for a reason that this VMM does not handle: {0}")]
    UnexpectedExit(String),
}

impl From<SandboxError> for Error {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::Pin(error) => Self::Pin(error),
            error => Self::Sandbox(error),
        }
    }
}

/// Names what failed, for `map_err`.
pub fn cannot<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error::Host {
        what,
        source: source.into(),
    }
}
