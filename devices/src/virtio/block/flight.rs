//! The requests of a queue whose data is on its way: made into transfers for the engine, and out of
//! those again when they have ended. It decides nothing of rings, and writes no status.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use vm_memory::GuestMemoryMmap;

use super::answer::{Begun, Data, Outcome};
use super::backend::{BlockBackend, TransferError};
use super::engine::{Direction, Ended, Engine, Transfer};

/// The requests of one queue that an engine has, and those that it has done with.
pub(super) struct Flight {
    engine: Box<dyn Engine>,
    memory: Arc<GuestMemoryMmap>,
    /// How many transfers the engine has.
    transfers: usize,
    /// Transfers of nothing, for the room that they have.
    spare: Vec<Transfer>,
    ended: VecDeque<(Begun, Outcome)>,
}

impl Flight {
    /// Nothing, for `engine` to take to and from `memory`.
    pub(super) fn new(engine: Box<dyn Engine>, memory: Arc<GuestMemoryMmap>) -> Self {
        Self {
            engine,
            memory,
            transfers: 0,
            spare: Vec::new(),
            ended: VecDeque::new(),
        }
    }

    /// Sends the `data` of `request` on its way.
    ///
    /// # Errors
    /// A part of it is not in RAM.
    pub(super) fn push(&mut self, request: Begun, data: &Data<'_>) -> io::Result<()> {
        let spare = self.spare.pop();
        let mut transfer = spare.unwrap_or_else(|| Transfer::new(Arc::clone(&self.memory)));
        transfer.restart(data.direction, data.position);
        transfer.add(request, data.memory)?;
        self.transfers = self.transfers.saturating_add(1);
        self.engine.submit(transfer);
        Ok(())
    }

    /// A request whose data has come to its end on the way between memory and `backend`.
    pub(super) fn pop(&mut self, backend: &dyn BlockBackend) -> Option<(Begun, Outcome)> {
        if self.ended.is_empty() {
            let ended = self.engine.reap()?;
            self.transfers = self.transfers.saturating_sub(1);
            self.end(ended, backend);
        }
        self.ended.pop_front()
    }

    /// The engine.
    pub(super) fn into_engine(self) -> Box<dyn Engine> {
        self.engine
    }

    /// Ends the requests of a transfer.
    fn end(&mut self, Ended { transfer, result }: Ended, backend: &dyn BlockBackend) {
        let mut result = result;
        for part in transfer.parts() {
            let moved = std::mem::replace(&mut result, Ok(()));
            let outcome = outcome(&transfer, part.len, moved);
            let outcome = outcome.and_then(|written| {
                if part.request.flushes {
                    backend.flush()?;
                }
                Ok(written)
            });
            self.ended.push_back((part.request, outcome));
        }
        self.spare.push(transfer);
    }
}

/// What has become of a request for `len` bytes in this direction, whose transfer came to this
/// `result`.
fn outcome(transfer: &Transfer, len: u64, result: Result<(), TransferError>) -> Outcome {
    match (transfer.direction(), result) {
        (Direction::In, result) => result.map(|()| len),
        (Direction::Out, Ok(())) => Ok(0),
        // Nothing has been written to memory.
        (Direction::Out, Err(error)) => Err(error.source.into()),
    }
}
