//! What registers read as, and the configuration space: kept in the page, whether the guest reads
//! there or asks the transport. What a write does is not here.

use spec::mmio::{DeviceStatus, MAGIC, Register, VERSION};

use super::{MmioTransport, Warned};
use crate::error::DeviceError;

/// What VendorID reads: "vmm" and a NUL in ASCII, little endian.
const VENDOR: u32 = u32::from_le_bytes(*b"vmm\0");

impl MmioTransport {
    pub(super) fn show_constants(&self) {
        for (register, value) in [
            (Register::MagicValue, MAGIC),
            (Register::Version, VERSION),
            (Register::DeviceID, self.device.device_type()),
            (Register::VendorID, VENDOR),
            // No device has shared memory: length and base of a region that does not exist.
            (Register::SHMLenLow, u32::MAX),
            (Register::SHMLenHigh, u32::MAX),
            (Register::SHMBaseLow, u32::MAX),
            (Register::SHMBaseHigh, u32::MAX),
        ] {
            self.page.set(register, value);
        }
    }

    /// Shows what the selectors select.
    pub(super) fn show_selected(&self) {
        let features = self.device.features().word(self.device_features_sel);
        self.page.set(Register::DeviceFeatures, features);
        let num_max = self.queue_num_max().into();
        self.page.set(Register::QueueNumMax, num_max);
        let queue = self.queues.get(usize::from(self.queue_sel));
        let ready = queue.is_some_and(|queue| queue.ready.is_some());
        self.page.set(Register::QueueReady, ready.into());
    }

    /// Shows the configuration space as the device has it.
    pub(super) fn show_config(&self) -> Result<(), DeviceError> {
        let read = |space: &mut [u8]| self.device.read_config(space);
        self.page.show_config(read).map_err(DeviceError::Window)
    }

    /// The status as far as the driver has come.
    pub(super) fn set_status(&mut self, status: DeviceStatus) {
        self.status = status;
        self.page.add_status(status);
    }

    pub(super) fn read_register(&mut self, register: Register) -> u32 {
        if !register.is_readable() {
            self.warn(Warned::Direction, || format!("reads {register:?}"));
        }
        self.page.get(register)
    }
}
