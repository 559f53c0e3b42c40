//! The disks of a machine that runs, for whoever learns that their images may have another size. What
//! a disk makes of that is its own matter.

use std::sync::{Arc, Mutex};

use devices::DeviceError;
use devices::locks::lock;

use crate::exit::Buses;

/// The disks of a machine, which may have gone. Clones are the same. By default none.
#[derive(Clone, Debug, Default)]
pub struct Disks {
    /// `None` once they are not to be kept any more.
    buses: Arc<Mutex<Option<Arc<Buses>>>>,
    /// Guest-physical addresses of their windows.
    windows: Vec<u64>,
}

impl Disks {
    /// The disks on `buses` with these `windows`.
    pub(super) fn new(buses: &Arc<Buses>, windows: Vec<u64>) -> Self {
        Self {
            buses: Arc::new(Mutex::new(Some(Arc::clone(buses)))),
            windows,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
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
        (self.windows.iter()).try_for_each(|base| buses.mmio.refresh(*base))
    }

    /// Keeps them no longer: who else has them is the one that takes them down.
    pub(super) fn let_go(&self) {
        *lock(&self.buses) = None;
    }
}
