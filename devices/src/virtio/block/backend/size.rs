//! The size that a disk can have: the one rule for an image that is opened, for one that has got
//! another size, and for the blocks that a guest is told of.

use spec::block::SECTOR_SIZE;

/// Why a disk cannot have a size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// There is nothing.
    #[error("it is empty")]
    Empty,
    /// It does not end with a whole block.
    #[error("its size, {size} bytes, is not a multiple of {block}")]
    PartialBlock {
        /// The size, in bytes.
        size: u64,
        /// Size of a block, in bytes.
        block: u32,
    },
}

/// How many sectors a disk of `size` bytes has that is made of blocks of `block` bytes.
///
/// # Errors
/// There is no such disk.
pub(in super::super) fn sectors(size: u64, block: u32) -> Result<u64, SizeError> {
    if size == 0 {
        Err(SizeError::Empty)
    } else if !size.is_multiple_of(block.into()) {
        Err(SizeError::PartialBlock { size, block })
    } else {
        Ok(size / SECTOR_SIZE)
    }
}
