//! How a device reaches its driver: the interrupt, the bits that tell what it is for, and
//! DEVICE_NEEDS_RESET. Shared between a transport and whatever thread serves the queues.

use std::fmt;
use std::sync::Arc;

use spec::mmio::InterruptStatus;

use super::page::RegisterPage;
use crate::error::DeviceError;
use crate::interrupt::Interrupt;

/// What a device has to tell its driver.
pub struct InterruptState {
    page: Arc<RegisterPage>,
    interrupt: Arc<dyn Interrupt>,
}

impl InterruptState {
    /// A device that has nothing to tell, and tells it in a page of its own.
    #[must_use]
    pub fn new(interrupt: Arc<dyn Interrupt>) -> Self {
        Self::on_page(Arc::default(), interrupt)
    }

    /// A device that tells in `page` what it has to.
    #[must_use]
    pub fn on_page(page: Arc<RegisterPage>, interrupt: Arc<dyn Interrupt>) -> Self {
        Self { page, interrupt }
    }

    /// Sends a used buffer notification.
    ///
    /// # Errors
    /// The interrupt could not be raised.
    pub fn used_buffer(&self) -> Result<(), DeviceError> {
        self.notify(InterruptStatus::USED_BUFFER)
    }

    /// Shows the driver another configuration space, as [`RegisterPage::show_config`] does, and sends
    /// a configuration change notification.
    ///
    /// # Errors
    /// It could not be shown, or the interrupt could not be raised.
    pub fn config_changed(&self, read: impl FnOnce(&mut [u8]) -> u32) -> Result<(), DeviceError> {
        self.page.show_config(read).map_err(DeviceError::Window)?;
        self.notify(InterruptStatus::CONFIG_CHANGE)
    }

    /// Sets DEVICE_NEEDS_RESET, and sends the configuration change notification that goes with it
    /// (section 2.1.2).
    ///
    /// # Errors
    /// It could not be shown, or the interrupt could not be raised.
    pub fn needs_reset(&self) -> Result<(), DeviceError> {
        self.page.add_needs_reset().map_err(DeviceError::Window)?;
        self.notify(InterruptStatus::CONFIG_CHANGE)
    }

    /// Tells of what the driver can see already. The bit is set before the edge, and every event has
    /// its own edge, whether the driver has acknowledged the last one or not: the handler that an
    /// edge starts finds the bit.
    ///
    /// The machine may still have acknowledgements from before, which are for earlier events: they
    /// come first, or one would take this bit away. One that it gets from here on is of a handler
    /// that looks after it has acknowledged, and so sees what this tells of.
    fn notify(&self, event: InterruptStatus) -> Result<(), DeviceError> {
        self.interrupt.settle();
        self.page.add_pending(event).map_err(DeviceError::Window)?;
        self.interrupt.signal().map_err(DeviceError::Interrupt)
    }
}

impl fmt::Debug for InterruptState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterruptState")
            .field("pending", &self.page.pending())
            .field("status", &self.page.status())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "interrupt_tests.rs"]
mod tests;
