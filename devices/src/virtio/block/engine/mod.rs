//! How the data of requests comes from the disk and goes to it: an engine is given transfers, and
//! gives them back when they have ended. It knows nothing of requests, rings and interrupts.

#[cfg(feature = "io-uring")]
mod io_uring;
mod sync;
mod transfer;
pub mod trial;

use std::io;
use std::os::fd::BorrowedFd;

#[cfg(feature = "io-uring")]
pub use io_uring::IoUringEngine;
pub use sync::SyncEngine;
pub use transfer::{Direction, Transfer};

use super::backend::TransferError;

/// The most transfers that an engine has at a time.
pub const TRANSFERS_MAX: usize = 128;

/// The most [slices](Transfer::slices) that a transfer has: as many as one call takes (IOV_MAX).
pub const SLICES_MAX: usize = 1024;

/// Makes the transfers of one queue. Those that it has at the same time may be made in any order, or
/// together.
///
/// Dropping an engine waits for what it has been given: until then the host may write to memory of
/// the guest.
pub trait Engine: Send {
    /// Begins a transfer: there are at most [`TRANSFERS_MAX`] that have not been
    /// [reaped](Self::reap). It may have ended by the time this returns.
    fn submit(&mut self, transfer: Box<Transfer>);

    /// Passes on to the host what has been submitted, and waits until there is one to reap if there
    /// is one to `wait` for.
    ///
    /// # Errors
    /// The host takes none. What it has taken before goes on.
    fn enter(&mut self, wait: bool) -> io::Result<()>;

    /// Waits until all transfers that it has have ended, and can be [reaped](Self::reap): before the
    /// backend is asked to change the disk by other ways, as it may wait for them. By default nothing is
    /// waited for.
    ///
    /// # Errors
    /// The host cannot be waited for.
    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Gives back a transfer that has ended.
    fn reap(&mut self) -> Option<Ended>;

    /// Whether there is one to reap. It costs little.
    fn has_ended(&self) -> bool;

    /// What is readable (POLLIN) once the host has done with a transfer. One who waits for that sees
    /// first that none [has ended](Self::has_ended). `None` where all have when
    /// [`submit`](Self::submit) returns.
    fn event(&self) -> Option<BorrowedFd<'_>>;
}

/// A transfer that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The transfer.
    pub transfer: Box<Transfer>,
    /// What has become of it. An error says how much of it has been made, from its first byte on.
    pub result: Result<(), TransferError>,
}
