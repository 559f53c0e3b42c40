//! Register windows without exits (`registers=mapped`): each is memory that the guest may only read,
//! and its writes to InterruptACK wait in a ring; or memory of which it may write a part while its
//! device lives. What registers hold is the device's to say, and when acknowledgements are due in
//! `acks`.

mod acks;

use std::io;
use std::sync::Arc;

use devices::virtio::page::{PAGE_SIZE, WINDOW_OFFSET};
use devices::virtio::{Access, Interrupt, PageMapping, RegisterPage};
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VmFd};
use spec::mmio::Register;

pub use acks::{ACK_SIZE, AckRing};

use crate::config::{Notify, Registers, VmConfig};
use crate::interrupt::IrqLine;
use crate::kvm::{KvmError, failed_to};

/// What KVM must be able to do for it, by the names of its documentation.
const REQUIRED: [(Cap, &str); 2] = [
    (Cap::ReadonlyMem, "KVM_CAP_READONLY_MEM"),
    (Cap::CoalescedMmio, "KVM_CAP_COALESCED_MMIO"),
];

/// The window of a virtio-mmio device that is memory of the guest.
#[derive(Clone, Debug)]
pub struct MappedWindow {
    /// Guest-physical address of the window.
    pub base: u64,
    /// What the guest reads there.
    pub page: Arc<RegisterPage>,
    /// Whether the guest may write to the second of its pages, when the device lets it: then
    /// acknowledgements are not waited for in a ring.
    pub can_open: bool,
    /// KVM's memory slot of the first page; that of the second is the next.
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
        .map(|(index, disk)| MappedWindow {
            base: disk.window(index).base,
            page: Arc::default(),
            // Then the device does nothing but while the one vCPU waits for it.
            can_open: config.cpus == 1 && disk.notify == Notify::Trap,
            slot: (ram_slots + 2 * index) as u32,
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
    /// Gives the guest of `vm` both pages to read. The window, or a clone, must live for as long as
    /// vCPUs of `vm` run.
    ///
    /// # Errors
    /// Where KVM refuses.
    pub fn show(&self, vm: &VmFd) -> Result<(), KvmError> {
        let [first, second] = self.regions();
        set(vm, first)
            .and_then(|()| set(vm, second))
            .map_err(failed_to("let the guest read registers as memory"))
    }

    /// Lets the guest's writes to InterruptACK wait in the ring of `vm`, where it may never make them
    /// in memory, and its access to the second page change.
    ///
    /// # Errors
    /// Where KVM refuses.
    pub fn connect(&self, vm: &Arc<VmFd>) -> Result<(), KvmError> {
        if !self.can_open {
            let address = IoEventAddress::Mmio(self.base + Register::InterruptACK.offset());
            vm.register_coalesced_mmio(address, ACK_SIZE)
                .map_err(failed_to("let writes to InterruptACK wait"))?;
        }
        let [_, region] = self.regions();
        let second = SecondSlot {
            vm: Arc::clone(vm),
            region,
            access: Access::Read,
        };
        self.page.mapped_by(Box::new(second), self.can_open);
        Ok(())
    }

    /// Both pages, for the guest to read.
    fn regions(&self) -> [kvm_userspace_memory_region; 2] {
        [0, 1].map(|page| {
            let offset = u64::from(page) * PAGE_SIZE as u64;
            kvm_userspace_memory_region {
                slot: self.slot + page,
                flags: KVM_MEM_READONLY,
                guest_phys_addr: self.base - WINDOW_OFFSET as u64 + offset,
                memory_size: PAGE_SIZE as u64,
                userspace_addr: self.page.address() as u64 + offset,
            }
        })
    }
}

/// The memory slot of the second page, which is the page's to have: so it lives as long as this does.
struct SecondSlot {
    vm: Arc<VmFd>,
    /// The slot, for the guest to read.
    region: kvm_userspace_memory_region,
    access: Access,
}

impl PageMapping for SecondSlot {
    fn allow(&mut self, access: Access) -> io::Result<()> {
        // A slot that is there keeps its flags.
        if self.access != Access::None {
            self.set(0, self.region.flags)?;
        }
        self.access = access;
        match access {
            Access::None => Ok(()),
            Access::Read => self.set(self.region.memory_size, KVM_MEM_READONLY),
            Access::Write => self.set(self.region.memory_size, 0),
        }
    }
}

impl SecondSlot {
    fn set(&self, memory_size: u64, flags: u32) -> io::Result<()> {
        let region = kvm_userspace_memory_region {
            memory_size,
            flags,
            ..self.region
        };
        set(&self.vm, region).map_err(|error| io::Error::from_raw_os_error(error.errno()))
    }
}

/// Sets the memory slot of a page.
fn set(vm: &VmFd, region: kvm_userspace_memory_region) -> Result<(), kvm_ioctls::Error> {
    // SAFETY: the region is nothing, or all of a page that lives, as all callers see to. All that is
    // there may change at any time, and all access to it in this process is atomic.
    unsafe { vm.set_user_memory_region(region) }
}

/// The interrupt of a device with a mapped window: acknowledgements may wait in a ring. Whoever
/// interrupts sets the line itself, so that no thread of the kernel has to run before the guest can.
pub struct MappedIrq {
    /// The interrupt itself.
    pub line: IrqLine,
    /// Where acknowledgements wait, if they do.
    pub acks: Option<Arc<AckRing>>,
}

impl Interrupt for MappedIrq {
    fn signal(&self) -> io::Result<()> {
        self.line.signal()
    }

    fn settle(&self) {
        if let Some(acks) = &self.acks {
            acks.apply();
        }
    }
}

#[cfg(test)]
#[path = "mapped_tests.rs"]
mod tests;
