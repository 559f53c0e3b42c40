//! Registers that are memory to which the guest can write: what comes of a write there when the device
//! finds it, which is when the guest exits at one of its registers. What is written is the cases' matter.

use spec::mmio::{DeviceStatus, Register};

use crate::virtio::Transport;

/// What a reset that is found in memory leaves of the status that was written.
const LEFT: DeviceStatus = DeviceStatus::ACKNOWLEDGE
    .union(DeviceStatus::DRIVER)
    .union(DeviceStatus::FAILED);

/// Has the device find what is written to memory, and the machine apply an acknowledgement that it
/// lets wait: a write that exits wherever registers are, and is nothing to a device with which the
/// driver has agreed on features.
pub fn settle(transport: &mut dyn Transport) {
    transport.write(Register::DriverFeaturesSel, 0);
}

/// Whether the guest can write to the registers from InterruptStatus on as to memory: then one of them
/// that cannot be read anywhere else holds what is written, until it is found.
pub fn is_open(transport: &mut dyn Transport) -> bool {
    settle(transport);
    transport.write(Register::SHMSel, 1);
    let held = transport.read(Register::SHMSel);
    settle(transport);
    held == 1
}

/// What the status becomes of `was` where `written` is found in memory: it stays as it was unless a bit
/// is missing, which stands for a reset. No case adds FAILED alone, or writes DRIVER without ACKNOWLEDGE.
pub fn found(was: DeviceStatus, written: DeviceStatus) -> DeviceStatus {
    match written.contains(was) {
        true => was,
        false => written & LEFT,
    }
}
