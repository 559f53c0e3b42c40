//! An interrupt line into the guest: an eventfd that KVM turns into an edge on a GSI. Devices know
//! it as `Interrupt` and nothing of KVM.

use std::io;

use devices::virtio::Interrupt;
use kvm_ioctls::VmFd;
use probe::probe;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EventFd};

use crate::error::{Error, cannot};
use crate::kvm::failed_to;

/// An irqfd.
#[derive(Debug)]
pub struct IrqFd {
    event: EventFd,
    gsi: u32,
}

impl IrqFd {
    /// An irqfd for `gsi` of `vm`.
    ///
    /// # Errors
    /// Where KVM or the host refuses.
    pub fn new(vm: &VmFd, gsi: u32) -> Result<Self, Error> {
        let event = EventFd::new(EFD_CLOEXEC).map_err(cannot("create an eventfd"))?;
        vm.register_irqfd(&event, gsi)
            .map_err(failed_to("connect an eventfd to an interrupt"))?;
        Ok(Self { event, gsi })
    }
}

impl Interrupt for IrqFd {
    fn signal(&self) -> io::Result<()> {
        probe!(vmm, interrupt, self.gsi);
        self.event.write(1)
    }
}
