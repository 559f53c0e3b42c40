//! Register windows without exits (`registers=mapped`): each is memory that the guest may only read,
//! and its writes to InterruptACK wait in a ring. What registers hold is the device's to say, and
//! when acknowledgements are due in `acks`.

mod acks;

use std::io;
use std::sync::Arc;

use devices::virtio::page::PAGE_SIZE;
use devices::virtio::{Interrupt, PageMapping, RegisterPage};
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VmFd};
use spec::mmio::Register;

pub use acks::{ACK_SIZE, AckRing};

use crate::config::{Registers, VmConfig};
use crate::interrupt::IrqLine;
use crate::kvm::{KvmError, failed_to};
use crate::layout;

/// What KVM must be able to do for it, by the names of its documentation.
const REQUIRED: [(Cap, &str); 2] = [
    (Cap::ReadonlyMem, "KVM_CAP_READONLY_MEM"),
    (Cap::CoalescedMmio, "KVM_CAP_COALESCED_MMIO"),
];

/// The window of a virtio-mmio device that is memory of the guest.
#[derive(Clone, Debug)]
pub struct MappedWindow {
    /// The number of the device.
    pub index: usize,
    /// Guest-physical address of the window.
    pub base: u64,
    /// What the guest reads there.
    pub page: Arc<RegisterPage>,
    slot: u32,
}

/// The windows that `config` wants mapped, in a machine whose RAM takes `ram_slots` of KVM's memory
/// slots: theirs come after.
///
/// # Errors
/// Where there are some, and `kvm` cannot.
pub fn windows(
    config: &VmConfig,
    kvm: &Kvm,
    ram_slots: usize,
) -> Result<Vec<MappedWindow>, KvmError> {
    let disks = config.disks.iter().enumerate();
    let mapped = disks.filter(|(_, disk)| disk.registers == Registers::Mapped);
    let windows: Vec<MappedWindow> = mapped
        .map(|(index, _)| MappedWindow {
            index,
            base: layout::virtio_mmio(index).base,
            page: Arc::default(),
            slot: (ram_slots + index) as u32,
        })
        .collect();
    match lacking(|cap| kvm.check_extension(cap)) {
        Some(name) if !windows.is_empty() => Err(KvmError::Registers(name)),
        _ => Ok(windows),
    }
}

/// What is not there of what is needed, where `has` says what is.
fn lacking(has: impl Fn(Cap) -> bool) -> Option<&'static str> {
    let mut missing = REQUIRED.iter().filter(|(cap, _)| !has(*cap));
    missing.next().map(|(_, name)| *name)
}

impl MappedWindow {
    /// Gives the guest of `vm` the page to read. The window, or a clone, must live for as long as
    /// vCPUs of `vm` run.
    ///
    /// # Errors
    /// Where KVM refuses.
    pub fn show(&self, vm: &VmFd) -> Result<(), KvmError> {
        set(vm, self.region()).map_err(failed_to("let the guest read registers as memory"))
    }

    /// Lets the guest's writes to InterruptACK wait in the ring of `vm`, and the page be taken from
    /// the guest while what is in it changes.
    ///
    /// # Errors
    /// Where KVM refuses.
    pub fn connect(&self, vm: &Arc<VmFd>) -> Result<(), KvmError> {
        let address = IoEventAddress::Mmio(self.base + Register::InterruptACK.offset());
        vm.register_coalesced_mmio(address, ACK_SIZE)
            .map_err(failed_to("let writes to InterruptACK wait"))?;
        let (vm, region) = (Arc::clone(vm), self.region());
        self.page.mapped_by(Box::new(Slot { vm, region }));
        Ok(())
    }

    fn region(&self) -> kvm_userspace_memory_region {
        kvm_userspace_memory_region {
            slot: self.slot,
            flags: KVM_MEM_READONLY,
            guest_phys_addr: self.base,
            memory_size: PAGE_SIZE as u64,
            userspace_addr: self.page.address() as u64,
        }
    }
}

/// The memory slot of a page, which is the page's to have: so it lives as long as this does.
struct Slot {
    vm: Arc<VmFd>,
    region: kvm_userspace_memory_region,
}

impl PageMapping for Slot {
    fn hide(&self) -> io::Result<()> {
        let nothing = kvm_userspace_memory_region {
            memory_size: 0,
            ..self.region
        };
        set(&self.vm, nothing).map_err(io_error)
    }

    fn show(&self) -> io::Result<()> {
        set(&self.vm, self.region).map_err(io_error)
    }
}

/// Sets the memory slot of a page.
fn set(vm: &VmFd, region: kvm_userspace_memory_region) -> Result<(), kvm_ioctls::Error> {
    // SAFETY: the region is nothing, or all of a page that lives, as both callers see to. The guest
    // can only read it, and all access to it in this process is atomic.
    unsafe { vm.set_user_memory_region(region) }
}

fn io_error(error: kvm_ioctls::Error) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

/// The interrupt of a device with a mapped window: acknowledgements may wait in a ring. Whoever
/// interrupts sets the line itself, so that no thread of the kernel has to run before the guest can.
pub struct MappedIrq {
    /// The interrupt itself.
    pub line: IrqLine,
    /// Where acknowledgements wait.
    pub acks: Arc<AckRing>,
}

impl Interrupt for MappedIrq {
    fn signal(&self) -> io::Result<()> {
        self.line.signal()
    }

    fn settle(&self) {
        self.acks.apply();
    }
}

#[cfg(test)]
#[path = "mapped_tests.rs"]
mod tests;
