//! An interrupt line into the guest, in the two ways that KVM has to make an edge on a GSI: by an
//! eventfd, and by hand. Devices know it as `Interrupt` and nothing of KVM.

use std::io;
use std::sync::{Arc, Mutex};

use devices::locks::lock;
use devices::virtio::Interrupt;
use kvm_ioctls::VmFd;
use probe::probe;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EventFd};

use crate::error::{Error, cannot};
use crate::kvm::failed_to;

/// An irqfd. What it stands for is an edge on a pin of the IOAPIC, which KVM leaves to a thread of the
/// kernel: that is cheap for whoever interrupts, and late by two changes of thread where there is one
/// CPU for all.
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

/// The line itself (KVM_IRQ_LINE): the edge has reached the local APIC when [`signal`](Self::signal)
/// returns, and no other thread has had a part in it.
pub struct IrqLine {
    gsi: u32,
    /// Held for both halves of an edge: a line that another thread holds high cannot rise.
    level: Mutex<SetLevel>,
}

/// Sets the level of a line.
type SetLevel = Box<dyn FnMut(bool) -> io::Result<()> + Send>;

impl IrqLine {
    /// The line `gsi` of `vm`, which is low.
    #[must_use]
    pub fn new(vm: Arc<VmFd>, gsi: u32) -> Self {
        let set_level = move |high| {
            let set = vm.set_irq_line(gsi, high);
            set.map_err(|error| io::Error::from_raw_os_error(error.errno()))
        };
        Self::on(Box::new(set_level), gsi)
    }

    fn on(set_level: SetLevel, gsi: u32) -> Self {
        let level = Mutex::new(set_level);
        Self { gsi, level }
    }
}

impl Interrupt for IrqLine {
    fn signal(&self) -> io::Result<()> {
        probe!(vmm, interrupt, self.gsi);
        let mut set_level = lock(&self.level);
        set_level(true)?;
        set_level(false)
    }
}

#[cfg(test)]
#[path = "interrupt_tests.rs"]
mod tests;
