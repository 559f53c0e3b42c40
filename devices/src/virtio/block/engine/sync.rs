//! The engine that has a transfer made when it is submitted, by the backend: any backend can do that.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::{Ended, Engine, Transfer};
use crate::virtio::block::backend::BlockBackend;

/// Makes transfers one after the other, on the thread that submits them.
pub struct SyncEngine {
    backend: Arc<dyn BlockBackend>,
    ended: VecDeque<Ended>,
}

impl SyncEngine {
    /// An engine for transfers from and to `backend`.
    #[must_use]
    pub fn new(backend: Arc<dyn BlockBackend>) -> Self {
        let ended = VecDeque::new();
        Self { backend, ended }
    }
}

impl Engine for SyncEngine {
    fn submit(&mut self, transfer: Box<Transfer>) {
        let result = transfer.make(&*self.backend);
        self.ended.push_back(Ended { transfer, result });
    }

    fn enter(&mut self, _wait: bool) -> io::Result<()> {
        Ok(())
    }

    fn reap(&mut self) -> Option<Ended> {
        self.ended.pop_front()
    }

    fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    fn event(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl fmt::Debug for SyncEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncEngine").finish_non_exhaustive()
    }
}
