//! How much of the file of an image is on stable storage. What is written to it, and when, is not decided
//! here.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use log::warn;

use crate::locks;

/// Something that is done to the file of an image.
#[derive(Clone, Debug)]
pub enum FileEvent {
    /// These bytes are written, from this position on.
    Write(u64, Vec<u8>),
    /// So many bytes from this position on are made zeros.
    Clear(u64, u64),
    /// All that has been done before is on stable storage.
    Synced,
}

/// Is told of all that is done to the file of an image, in its order, to try out what is left of it when
/// the power fails.
pub trait Recorder: Debug + Send + Sync {
    /// Is told of one thing.
    fn record(&self, event: FileEvent);
}

/// A file, and how much of it is on stable storage.
///
/// After a sync that has failed none succeeds, since the host counts what it could not write as
/// written.
#[derive(Debug)]
pub(super) struct SyncedFile {
    file: File,
    /// Held while a sync is under way.
    failed: Mutex<bool>,
    /// Of what is referred to: data, or refcounts.
    pub referents: Writes,
    /// Of what refers to it.
    pub references: Writes,
    /// For each entry of the L1 table of an image that is written, whether there is an L2 table that is
    /// the image's alone.
    pub has_table: RwLock<Vec<bool>>,
    recorder: Option<Arc<dyn Recorder>>,
}

/// The writes of one kind: how many have ended, and how many of these are stable.
#[derive(Debug, Default)]
pub(super) struct Writes {
    ended: AtomicU64,
    stable: AtomicU64,
}

impl Writes {
    /// Counts one that has ended, well or not. Who is to wait for it must not begin before.
    pub fn count(&self) {
        self.ended.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether all that have ended are stable.
    pub fn are_stable(&self) -> bool {
        let stable = self.stable.load(Ordering::Acquire);
        self.ended.load(Ordering::Acquire) == stable
    }
}

impl SyncedFile {
    pub fn new(file: File, recorder: Option<Arc<dyn Recorder>>) -> Self {
        Self {
            file,
            failed: Mutex::new(false),
            referents: Writes::default(),
            references: Writes::default(),
            has_table: RwLock::default(),
            recorder,
        }
    }

    /// Whether there is a table for entry `index` of the L1 table that need not be made to be changed.
    pub fn has_table(&self, index: u64) -> bool {
        let has_table = locks::read(&self.has_table);
        let index = usize::try_from(index).ok();
        index.and_then(|index| has_table.get(index).copied()) == Some(true)
    }

    /// Tells the recorder, if there is one.
    pub fn record(&self, event: impl FnOnce() -> FileEvent) {
        if let Some(recorder) = &self.recorder {
            recorder.record(event());
        }
    }

    /// Returns when all that has been written before is on stable storage.
    ///
    /// # Errors
    /// It could not be made so, this time or earlier.
    pub fn sync(&self) -> io::Result<()> {
        let mut failed = locks::lock(&self.failed);
        if *failed {
            return Err(io::Error::other("an earlier flush failed"));
        }
        // Others write meanwhile: of that the sync says nothing, and of what was before it not until
        // it has ended.
        let kinds = [&self.referents, &self.references];
        let ended = kinds.map(|writes| writes.ended.load(Ordering::Acquire));
        self.file.sync_data().inspect_err(|error| {
            *failed = true;
            warn!(
                "block: a flush failed, and none will succeed until the image is opened anew: \
                 {error}"
            );
        })?;
        self.record(|| FileEvent::Synced);
        for (writes, ended) in kinds.into_iter().zip(ended) {
            writes.stable.store(ended, Ordering::Release);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "synced_tests.rs"]
mod tests;
