//! The time during which the guest writes to the second page of the registers without an exit, and what
//! the driver has written there meanwhile: it counts as written at the moment at which it is found.

use spec::mmio::DeviceStatus;

use super::MmioTransport;
use crate::error::DeviceError;
use crate::virtio::status::{Step, step};

/// What a driver can have written to Status since a reset without an exit, and to effect: to agree on
/// features it accesses registers that are not on the page.
const SINCE_RESET: DeviceStatus = DeviceStatus::ACKNOWLEDGE
    .union(DeviceStatus::DRIVER)
    .union(DeviceStatus::FAILED);

impl MmioTransport {
    /// Opens the page, where that can be and the device lives.
    pub(super) fn open_page(&self) -> Result<(), DeviceError> {
        if !self.is_live() {
            return Ok(());
        }
        let config = self.device.writable_config();
        self.page.open(config).map_err(DeviceError::Window)
    }

    /// Does what the driver has written there, with the guest standing still: most often it has
    /// acknowledged, and no more.
    pub(super) fn find_written(&mut self) -> Result<(), DeviceError> {
        match self.page.settle() {
            true => self.close_page(),
            false => Ok(()),
        }
    }

    /// Closes the page, if it is open, and does what the driver has written there. Until that is done
    /// the driver cannot read: it would find what was there before it wrote.
    pub(super) fn close_page(&mut self) -> Result<(), DeviceError> {
        let Some(written) = self.page.close().map_err(DeviceError::Window)? else {
            return Ok(());
        };
        let range = self.device.writable_config();
        self.device
            .write_config(range.start as u64, &written.config);
        self.show_config()?;
        let mut status = DeviceStatus::from_bits_retain(written.status);
        if !status.contains(self.status) {
            // Only a reset takes bits away.
            self.reset()?;
            status &= SINCE_RESET;
        }
        // FAILED may have come after any of the others.
        for status in [status - DeviceStatus::FAILED, status] {
            if let Step::Accept(status) = step(self.status, status.bits()) {
                self.set_status(status);
            }
        }
        self.page.show().map_err(DeviceError::Window)
    }
}
