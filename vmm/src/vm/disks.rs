//! The disks of a machine that runs, for whoever learns that their images may have another size. What
//! a disk makes of that is its own matter.

use std::sync::{Arc, Weak};

use devices::DeviceError;

use crate::exit::Buses;
use crate::layout;

/// The disks of a machine, which may have gone. By default none.
#[derive(Debug, Default)]
pub struct Disks {
    buses: Weak<Buses>,
    count: usize,
}

impl Disks {
    /// The `count` disks on `buses`.
    pub(super) fn new(buses: &Arc<Buses>, count: usize) -> Self {
        Self {
            buses: Arc::downgrade(buses),
            count,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Has each disk look at the size of its image again. One that has a thread of its own has that
    /// do so, and one that a vCPU serves is waited for while it is at it.
    ///
    /// # Errors
    /// Those of a disk that cannot go on.
    pub fn look_again(&self) -> Result<(), DeviceError> {
        let Some(buses) = self.buses.upgrade() else {
            return Ok(());
        };
        (0..self.count).try_for_each(|index| buses.mmio.refresh(layout::virtio_mmio(index).base))
    }
}
