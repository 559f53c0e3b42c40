//! What becomes of a disk whose image has got another size: the size that a disk can have, and the
//! wish of one thread that another, which serves the disk, look at it. Nothing is looked at here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use spec::block::SECTOR_SIZE;

/// Why a disk keeps the size that it had.
#[derive(Debug, thiserror::Error)]
pub enum ResizeError {
    /// The backend does not tell.
    #[error("the new one cannot be found out: {0}")]
    Unknown(#[from] io::Error),
    /// There is nothing left of the disk.
    #[error("its image is empty")]
    Empty,
    /// The disk would not end with a whole block.
    #[error("that of its image, {size} bytes, is not a multiple of {block}")]
    PartialBlock {
        /// Size of the image, in bytes.
        size: u64,
        /// Size of a logical block, in bytes.
        block: u32,
    },
}

/// How many sectors a disk of `size` bytes has that is made of blocks of `block` bytes.
pub(super) fn sectors(size: u64, block: u32) -> Result<u64, ResizeError> {
    if size == 0 {
        Err(ResizeError::Empty)
    } else if !size.is_multiple_of(block.into()) {
        Err(ResizeError::PartialBlock { size, block })
    } else {
        Ok(size / SECTOR_SIZE)
    }
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
