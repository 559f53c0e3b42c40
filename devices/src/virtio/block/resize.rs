//! What becomes of a disk whose image has got another size: the wish of one thread that another, which
//! serves the disk, look at it, and why it can be in vain. Nothing is looked at here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::backend::SizeError;

/// Why a disk keeps the size that it had.
#[derive(Debug, thiserror::Error)]
pub enum ResizeError {
    /// The backend does not tell.
    #[error("that of its image cannot be found out: {0}")]
    Unknown(#[from] io::Error),
    /// No disk has the new one.
    #[error("its image cannot be used: {0}")]
    Size(#[from] SizeError),
}

/// Whether whoever serves the disk is to look at its size. Clones are the same wish.
#[derive(Clone, Debug, Default)]
pub(super) struct SizeWish(Arc<AtomicBool>);

impl SizeWish {
    /// Wishes for it.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether somebody wishes for it.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Whether somebody has wished for it since this was last asked.
    pub(super) fn take(&self) -> bool {
        // Most often nobody has, and then nothing is written.
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::SeqCst)
    }
}
