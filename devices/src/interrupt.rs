//! What a device interrupts by. How the edge reaches a CPU is the machine's business.

use std::io;

/// An edge-triggered interrupt.
pub trait Interrupt: Send + Sync {
    /// Raises one edge.
    ///
    /// # Errors
    /// The edge could not be raised.
    fn signal(&self) -> io::Result<()>;

    /// Has all acknowledgements applied that the driver has written before this is called, where
    /// the machine lets them wait.
    fn settle(&self) {}
}
