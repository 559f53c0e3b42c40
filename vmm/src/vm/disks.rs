//! The disks of a machine that runs, for whoever learns that their images may have another size. What
//! a disk makes of that is its own matter.

use std::sync::{Arc, Mutex};

use devices::DeviceError;

use crate::exit::Buses;
use crate::layout;
use crate::locks::lock;

/// The disks of a machine, which may have gone. Clones are the same. By default none.
#[derive(Clone, Debug, Default)]
pub struct Disks {
    /// `None` once they are not to be kept any more.
    buses: Arc<Mutex<Option<Arc<Buses>>>>,
    count: usize,
}

impl Disks {
    /// The `count` disks on `buses`.
    pub(super) fn new(buses: &Arc<Buses>, count: usize) -> Self {
        Self {
            buses: Arc::new(Mutex::new(Some(Arc::clone(buses)))),
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
        let buses = lock(&self.buses);
        let Some(buses) = &*buses else {
            return Ok(());
        };
        (0..self.count).try_for_each(|index| buses.mmio.refresh(layout::virtio_mmio(index).base))
    }

    /// Keeps them no longer: who else has them is the one that takes them down.
    pub(super) fn let_go(&self) {
        *lock(&self.buses) = None;
    }
}
