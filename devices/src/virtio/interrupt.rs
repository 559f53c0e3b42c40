//! How a device reaches its driver: the interrupt, the bits that tell what it is for, and
//! DEVICE_NEEDS_RESET. Shared between a transport and whatever thread serves the queues.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use spec::mmio::InterruptStatus;

use crate::error::DeviceError;
use crate::interrupt::Interrupt;

/// What a device has to tell its driver.
pub struct InterruptState {
    status: AtomicU32,
    needs_reset: AtomicBool,
    interrupt: Arc<dyn Interrupt>,
}

impl InterruptState {
    /// A device that has nothing to tell.
    #[must_use]
    pub fn new(interrupt: Arc<dyn Interrupt>) -> Self {
        Self {
            status: AtomicU32::new(0),
            needs_reset: AtomicBool::new(false),
            interrupt,
        }
    }

    /// Sends a used buffer notification.
    ///
    /// # Errors
    /// The interrupt could not be raised.
    pub fn used_buffer(&self) -> Result<(), DeviceError> {
        self.notify(InterruptStatus::USED_BUFFER)
    }

    /// Sends a configuration change notification.
    ///
    /// # Errors
    /// The interrupt could not be raised.
    pub fn config_changed(&self) -> Result<(), DeviceError> {
        self.notify(InterruptStatus::CONFIG_CHANGE)
    }

    /// Sets DEVICE_NEEDS_RESET, and sends the configuration change notification that goes with it
    /// (section 2.1.2).
    ///
    /// # Errors
    /// The interrupt could not be raised.
    pub fn needs_reset(&self) -> Result<(), DeviceError> {
        self.needs_reset.store(true, Ordering::SeqCst);
        self.config_changed()
    }

    /// The bit is set before the edge, and every event has its own edge, whether the driver has
    /// acknowledged the last one or not: the handler that an edge starts finds the bit.
    fn notify(&self, event: InterruptStatus) -> Result<(), DeviceError> {
        self.status.fetch_or(event.bits(), Ordering::SeqCst);
        self.interrupt.signal().map_err(DeviceError::Interrupt)
    }

    /// The events that the driver has not acknowledged.
    #[must_use]
    pub fn pending(&self) -> InterruptStatus {
        InterruptStatus::from_bits_truncate(self.status.load(Ordering::SeqCst))
    }

    /// The driver has handled `events`; those that are not pending are ignored.
    pub fn acknowledge(&self, events: InterruptStatus) {
        self.status.fetch_and(!events.bits(), Ordering::SeqCst);
    }

    /// Whether DEVICE_NEEDS_RESET is set.
    #[must_use]
    pub fn is_reset_needed(&self) -> bool {
        self.needs_reset.load(Ordering::SeqCst)
    }

    /// Forgets everything. Only when nothing serves the queues any more.
    pub fn reset(&self) {
        self.status.store(0, Ordering::SeqCst);
        self.needs_reset.store(false, Ordering::SeqCst);
    }
}

impl fmt::Debug for InterruptState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InterruptState")
            .field("pending", &self.pending())
            .field("needs_reset", &self.is_reset_needed())
            .finish_non_exhaustive()
    }
}
