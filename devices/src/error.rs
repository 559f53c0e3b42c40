//! What can fail of a device for a reason that lies with the host. What the guest does wrong is
//! never an error of this kind.

use std::io;

/// A failure of the host side of a device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// An interrupt could not be raised.
    #[error("cannot raise the interrupt: {0}")]
    Interrupt(#[source] io::Error),
    /// What the guest wrote to the serial port could not be passed on.
    #[error("cannot write the output of the serial port: {0}")]
    Output(#[source] io::Error),
    /// The thread that serves a queue could not be woken or could not wait.
    #[error("cannot use the eventfd of a queue: {0}")]
    Kick(#[source] io::Error),
    /// The requests that a disk has in flight could not be passed on to the host or waited for.
    #[error("cannot use the engine of a disk: {0}")]
    Engine(#[source] io::Error),
    /// The page of a device's registers could not be taken from the guest or given back.
    #[error("cannot map the registers of a device: {0}")]
    Window(#[source] io::Error),
}
