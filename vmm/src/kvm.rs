//! Opens /dev/kvm, checks that it offers what this VMM is built on, and makes a VM with guest RAM
//! and interrupt controllers. Devices and vCPUs come later, elsewhere.

use kvm_bindings::{KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, Kvm, VmFd};
use thiserror::Error;
use vm_memory::{GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, MemoryRegionAddress};

use crate::layout;
use crate::mapped::MappedWindow;

/// What KVM must be able to do, by the names of its documentation.
const REQUIRED: &[(Cap, &str)] = &[
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::SetIdentityMapAddr, "KVM_CAP_SET_IDENTITY_MAP_ADDR"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::GetTscKhz, "KVM_CAP_GET_TSC_KHZ"),
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::IoeventfdNoLength, "KVM_CAP_IOEVENTFD_NO_LENGTH"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// Why there is no VM.
#[derive(Debug, Error)]
pub enum KvmError {
    /// The host has no KVM.
    #[error(
        "this machine offers no KVM: /dev/kvm: {0} (turn on VT-x or AMD-V in the firmware and load \
         the module kvm_intel or kvm_amd; start a container with --device /dev/kvm)"
    )]
    Missing(kvm_ioctls::Error),
    /// The host has KVM, but not for this user.
    #[error(
        "this user may not use KVM: /dev/kvm: {0} (join the group that owns it, most often with \
         'sudo usermod -aG kvm $USER' and a new login; start a container with --device /dev/kvm)"
    )]
    NotPermitted(kvm_ioctls::Error),
    /// /dev/kvm is there, and opening it fails for another reason.
    #[error("/dev/kvm cannot be opened: {0}")]
    Open(kvm_ioctls::Error),
    /// /dev/kvm does not speak the only version of the API there is.
    #[error("/dev/kvm is no KVM that this program knows: its API version is {0}, not 12")]
    ApiVersion(i32),
    /// KVM is too old.
    #[error("the host's KVM lacks {0}")]
    Capability(&'static str),
    /// KVM is too old for a device's registers to be memory.
    #[error("--disk: the host's KVM lacks {0}, without which there is no registers=mapped")]
    Registers(&'static str),
    /// KVM allows fewer vCPUs.
    #[error("--cpus: {cpus} vCPUs are more than the {max} that {limit} allows")]
    TooManyCpus {
        /// How many were asked for.
        cpus: u32,
        /// How many there can be.
        max: u8,
        /// What allows no more.
        limit: &'static str,
    },
    /// The CPUID of a vCPU has more leaves than KVM takes.
    #[error("the CPUID of a vCPU has {0} leaves, and KVM takes {KVM_MAX_CPUID_ENTRIES}")]
    LongCpuid(usize),
    /// KVM knows no such model-specific register, or not that value of it.
    #[error("KVM takes no access to the MSR {0:#x}")]
    Msr(u32),
    /// A call to KVM failed.
    #[error("KVM refuses to {what}: {source}")]
    Call {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: kvm_ioctls::Error,
    },
}

/// Names the call that failed, for `map_err`.
pub fn failed_to(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> KvmError {
    move |source| KvmError::Call { what, source }
}

/// Opens /dev/kvm.
///
/// # Errors
/// Where there is none, or not for this user, or it lacks what is needed.
pub fn open() -> Result<Kvm, KvmError> {
    let kvm = Kvm::new().map_err(|error| match error.errno() {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => KvmError::Missing(error),
        libc::EACCES | libc::EPERM => KvmError::NotPermitted(error),
        _ => KvmError::Open(error),
    })?;
    let version = kvm.get_api_version();
    if version != KVM_API_VERSION as i32 {
        return Err(KvmError::ApiVersion(version));
    }
    match REQUIRED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
        Some((_, name)) => Err(KvmError::Capability(name)),
        None => Ok(kvm),
    }
}

/// `cpus`, if a VM can have as many vCPUs. Their numbers are also their APIC ids, of which the one
/// with all eight bits set stands for all CPUs: there can be 255.
///
/// # Errors
/// Where there can be fewer.
pub fn check_cpus(kvm: &Kvm, cpus: u32) -> Result<u8, KvmError> {
    let allowed = kvm.get_max_vcpus().min(kvm.get_max_vcpu_id());
    let (max, limit) = match u8::try_from(allowed) {
        Ok(max) => (max, "the host's KVM"),
        Err(_) => (u8::MAX, "an 8-bit APIC id"),
    };
    match u8::try_from(cpus) {
        Ok(cpus) if cpus <= max => Ok(cpus),
        _ => Err(KvmError::TooManyCpus { cpus, max, limit }),
    }
}

/// How often KVM is asked for a VM, when the call is interrupted.
const CREATE_TRIES: u32 = 100;

/// A VM with nothing in it. KVM_CREATE_VM is interrupted by whatever waits to be done when its
/// thread leaves the kernel: a signal, or the completion of an io_uring.
fn create(kvm: &Kvm) -> Result<VmFd, kvm_ioctls::Error> {
    for _ in 1..CREATE_TRIES {
        match kvm.create_vm() {
            Err(error) if error.errno() == libc::EINTR => {}
            result => return result,
        }
    }
    kvm.create_vm()
}

/// A VM whose RAM is `memory`, which must outlive it, and that reads `windows` as memory, with PICs,
/// IOAPIC and, for each vCPU that is made, a local APIC.
///
/// # Errors
/// Where KVM refuses.
pub fn create_vm(
    kvm: &Kvm,
    memory: &GuestMemoryMmap,
    windows: &[MappedWindow],
) -> Result<VmFd, KvmError> {
    let vm = create(kvm).map_err(failed_to("create a VM"))?;
    // Memory comes before the interrupt controllers: once they are on its bus, KVM waits for a grace
    // period of RCU whenever the memory slots change, for some milliseconds.
    for (slot, region) in memory.iter().enumerate() {
        let host_address = region
            .get_host_address(MemoryRegionAddress(0))
            .map_err(|_| failed_to("find the guest's RAM")(kvm_ioctls::Error::new(libc::EFAULT)))?;
        let region = kvm_userspace_memory_region {
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: region.start_addr().0,
            memory_size: region.len(),
            userspace_addr: host_address as u64,
        };
        // SAFETY: the range is one mapping of `region.len()` bytes that belongs to `memory`. The
        // caller keeps `memory` for as long as the VM. All access to it in this process is
        // volatile, as vm-memory does it, so the guest may write it at any time.
        unsafe { vm.set_user_memory_region(region) }.map_err(failed_to("give the VM its RAM"))?;
    }
    for window in windows {
        window.show(&vm)?;
    }
    vm.set_identity_map_address(layout::KVM_IDENTITY_MAP)
        .map_err(failed_to("take the address of its identity map"))?;
    vm.set_tss_address(layout::KVM_TSS as usize)
        .map_err(failed_to("take the address of its TSS"))?;
    vm.create_irq_chip()
        .map_err(failed_to("create the interrupt controllers"))?;
    Ok(vm)
}
