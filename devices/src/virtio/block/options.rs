//! What can be chosen of a block device, and why there is none like that.

use std::io;

use spec::block::ID_SIZE;

use super::{NotifyMode, QUEUES_MAX};

/// What can be chosen of a block device.
#[derive(Debug)]
pub struct BlockOptions {
    /// Refuse everything that would change the disk.
    pub read_only: bool,
    /// What GET_ID answers: at most 20 printable ASCII characters.
    pub id: String,
    /// How the device learns of available buffers, for each of its queues: from 1 to [`QUEUES_MAX`].
    pub notify: Vec<NotifyMode>,
}

/// Why a block device cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The identity does not fit the 20 bytes that the specification has for it.
    #[error("the id '{0}' is longer than {ID_SIZE} bytes")]
    IdTooLong(String),
    /// The identity has characters that the specification does not allow.
    #[error("the id '{0}' is not printable ASCII")]
    IdNotPrintable(String),
    /// The disk does not end with a whole block, or no block can have this size.
    #[error("a disk of {capacity} sectors is not made of blocks of {size} bytes")]
    BlockSize {
        /// Size of a block, in bytes.
        size: u32,
        /// Size of the disk, in sectors.
        capacity: u64,
    },
    /// No device has this number of queues.
    #[error("a disk has 1 to {QUEUES_MAX} queues, not {0}")]
    Queues(usize),
    /// The thread that is to serve a queue could not be started.
    #[error("cannot start the thread '{name}': {source}")]
    Thread {
        /// Name of the thread.
        name: String,
        /// Why not.
        source: io::Error,
    },
}

impl BlockOptions {
    /// The identity as GET_ID has it: 0 after its end.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn id_bytes(&self) -> Result<[u8; ID_SIZE], BlockError> {
        let id = &self.id;
        if !id.chars().all(|c| c == ' ' || c.is_ascii_graphic()) {
            return Err(BlockError::IdNotPrintable(id.clone()));
        }
        let mut bytes = [0; ID_SIZE];
        let place = bytes.get_mut(..id.len());
        let place = place.ok_or_else(|| BlockError::IdTooLong(id.clone()))?;
        place.copy_from_slice(id.as_bytes());
        Ok(bytes)
    }

    /// How many queues there are to be.
    ///
    /// # Errors
    /// No device has so many, or none.
    pub(super) fn queue_count(&self) -> Result<u16, BlockError> {
        let count = self.notify.len();
        let few = u16::try_from(count).ok();
        few.filter(|few| (1..=QUEUES_MAX).contains(few))
            .ok_or(BlockError::Queues(count))
    }
}
