//! Virtio: what a device is to its transport, and the parts that every device shares. The
//! transport knows no device, and a device knows no transport.

pub mod block;
pub mod chain;
pub mod interrupt;
pub mod mmio;
pub mod page;
pub mod queue;
pub mod ram;
pub mod status;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use spec::Features;
use vm_memory::GuestMemoryMmap;

pub use interrupt::InterruptState;
pub use mmio::MmioTransport;
pub use page::{Access, PageMapping, RegisterPage};

pub use crate::interrupt::Interrupt;

use crate::bus::{Response, Work};
use crate::error::DeviceError;
use queue::QueueLayout;

/// A virtio device, as its transport drives it.
pub trait VirtioDevice: Send {
    /// The device type (section 5).
    fn device_type(&self) -> u32;

    /// The features that the device offers. Features of the ring are among them.
    fn features(&self) -> Features;

    /// The largest size of each queue, in descriptors; as many as there are queues.
    fn queue_max_sizes(&self) -> &[u16];

    /// Fills `space`, which is all 0, with the configuration space, and returns its generation at the
    /// same moment: another one after each change that is not the driver's (section 2.5.4). The rest
    /// of `space` is left as it is.
    fn read_config(&self, space: &mut [u8]) -> u32;

    /// The driver writes `data` to the configuration space at `offset`. Most devices have nothing
    /// there that a driver may write.
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let _ = (offset, data);
    }

    /// The part of the configuration space that a driver may write, as offsets. Most devices have none.
    fn writable_config(&self) -> Range<usize> {
        0..0
    }

    /// Looks again at what the device stands for on the host, which may have changed: tells the
    /// driver of it, or has that done by the thread that serves the device.
    ///
    /// # Errors
    /// The host side failed in a way that the machine cannot go on from.
    fn refresh(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Driver and device have agreed on `features`: the driver has set FEATURES_OK. What the
    /// configuration space holds may depend on it.
    fn negotiated(&mut self, features: Features) {
        let _ = features;
    }

    /// Begins to live: the driver has set DRIVER_OK. The transport notifies each ready queue
    /// afterwards, for buffers that were made available before.
    ///
    /// # Errors
    /// The host side failed in a way that the machine cannot go on from.
    fn activate(&mut self, activation: Activation) -> Result<(), DeviceError>;

    /// Sees to it that `queue` is served, where it is live, or returns the work of serving it for whoever
    /// has notified. The driver notifies when there is more after a drain that was complete.
    ///
    /// # Errors
    /// The host side failed in a way that the machine cannot go on from.
    fn notify(&mut self, queue: u16) -> Result<Option<Arc<dyn Work>>, DeviceError>;

    /// Stops using `queue`. When this returns nothing is in flight in it, and neither its rings
    /// nor its buffers are touched until the device is activated again.
    ///
    /// # Errors
    /// The host side failed in a way that the machine cannot go on from.
    fn stop_queue(&mut self, queue: u16) -> Result<(), DeviceError>;

    /// Stops using all queues, as [`stop_queue`](Self::stop_queue) does, and forgets all that the
    /// driver has set: the device is as new.
    ///
    /// # Errors
    /// The host side failed in a way that the machine cannot go on from.
    fn reset(&mut self) -> Result<(), DeviceError>;
}

/// What a device lives on, from DRIVER_OK to the next reset.
#[derive(Debug)]
pub struct Activation {
    /// The RAM of the guest.
    pub memory: GuestMemoryMmap,
    /// The features that driver and device have agreed on.
    pub features: Features,
    /// Where each queue is, by index; `None` where the driver does not use it.
    pub queues: Vec<Option<QueueLayout>>,
    /// How to reach the driver.
    pub interrupt: Arc<InterruptState>,
}

/// How a drain of a queue ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// The queue is empty, or someone else sees to it.
    Complete,
    /// There is more, for which the driver will not notify: call again.
    More,
    /// The same, after this time: the device may do no more before.
    Later(Duration),
    /// Requests are in flight: call again when one has come to its end, and for a notification.
    InFlight,
}

impl From<Result<Drain, DeviceError>> for Response {
    fn from(drained: Result<Drain, DeviceError>) -> Self {
        match drained {
            Ok(Drain::Complete) => Self::Done,
            Ok(Drain::More | Drain::InFlight) => Self::Again,
            Ok(Drain::Later(wait)) => Self::Later(wait),
            Err(error) => Self::Failed(error),
        }
    }
}

impl From<Result<(), DeviceError>> for Response {
    fn from(done: Result<(), DeviceError>) -> Self {
        done.map_or_else(Self::Failed, |()| Self::Done)
    }
}
