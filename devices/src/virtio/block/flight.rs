//! The requests of a queue whose data is on its way: made into transfers for the engine, neighbours
//! into one, and out of those again at their end. It decides nothing of rings, and writes no status.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use vm_memory::GuestMemoryMmap;

use super::answer::{Begun, Data, Outcome};
use super::backend::{BlockBackend, TransferError};
use super::engine::{Direction, Ended, Engine, SLICES_MAX, TRANSFERS_MAX, Transfer};

/// The most bytes that requests are merged to.
const MERGED_MAX: u64 = 1 << 20;

/// The requests of one queue that an engine has, those that it is to have next, and those that it has
/// done with.
pub(super) struct Flight {
    engine: Box<dyn Engine>,
    memory: Arc<GuestMemoryMmap>,
    /// A request for as many bytes, or more, is not merged with others.
    merges_below: u64,
    /// What the engine gets next, unless it has neighbours that come after it.
    open: Option<Box<Transfer>>,
    /// How many transfers the engine has.
    transfers: usize,
    /// Transfers of nothing, for the room that they have.
    #[expect(clippy::vec_box, reason = "an engine takes them in their boxes")]
    spare: Vec<Box<Transfer>>,
    ended: VecDeque<(Begun, Outcome)>,
}

impl Flight {
    /// Nothing, for `engine` to take to and from `memory`. Requests for fewer bytes than
    /// `merges_below` are merged with their neighbours.
    pub(super) fn new(
        engine: Box<dyn Engine>,
        memory: Arc<GuestMemoryMmap>,
        merges_below: u64,
    ) -> Self {
        Self {
            engine,
            memory,
            merges_below,
            open: None,
            transfers: 0,
            spare: Vec::new(),
            ended: VecDeque::new(),
        }
    }

    /// Whether no request is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.transfers == 0 && self.open.is_none() && self.ended.is_empty()
    }

    /// Whether no more may go on the way before something has come to its end.
    pub(super) fn is_full(&self) -> bool {
        let open = usize::from(self.open.is_some());
        self.transfers.saturating_add(open) >= TRANSFERS_MAX
    }

    /// Whether there is something to [pop](Self::pop).
    pub(super) fn has_ended(&self) -> bool {
        self.transfers > 0 && self.engine.has_ended()
    }

    /// What can be read when there is, while something is on its way.
    pub(super) fn event(&self) -> Option<BorrowedFd<'_>> {
        self.engine.event().filter(|_| self.transfers > 0)
    }

    /// Has the host know of what has been [sent](Self::send), and waits until there is something to
    /// [pop](Self::pop) if there is reason to `wait`.
    ///
    /// # Errors
    /// The engine fails.
    pub(super) fn enter(&mut self, wait: bool) -> io::Result<()> {
        self.engine.enter(wait)
    }

    /// Whether `data` may go on the way with that of the requests before, as one transfer.
    pub(super) fn continues(&self, data: &Data<'_>) -> bool {
        let Some((open, last)) = self.open.as_ref().and_then(|open| {
            let last = open.parts().last()?;
            Some((open, last.len))
        }) else {
            return false;
        };
        // A descriptor is two slices where it lies in two regions of RAM.
        let slices = data.memory.descriptor_count().saturating_mul(2);
        open.direction() == data.direction
            && open.end() == data.position
            && last.max(data.memory.len()) < self.merges_below
            && open.len().saturating_add(data.memory.len()) <= MERGED_MAX
            && open.slices().len().saturating_add(slices) <= SLICES_MAX
    }

    /// Has the `data` of `request` go on its way, with that of the requests before where it
    /// [continues](Self::continues) it. What it does not continue must have been
    /// [sent](Self::send) on its way.
    ///
    /// # Errors
    /// A part of it is not in RAM.
    pub(super) fn push(&mut self, request: Begun, data: &Data<'_>) -> io::Result<()> {
        let transfer = self.open.get_or_insert_with(|| {
            let spare = self.spare.pop();
            let new = || Box::new(Transfer::new(Arc::clone(&self.memory)));
            let mut transfer = spare.unwrap_or_else(new);
            transfer.restart(data.direction, data.position);
            transfer
        });
        transfer.add(request, data.memory)
    }

    /// Sends what has been pushed on its way, and returns for how many requests that is.
    pub(super) fn send(&mut self) -> usize {
        let Some(transfer) = self.open.take() else {
            return 0;
        };
        let requests = transfer.parts().len();
        match requests {
            0 => self.spare.push(transfer),
            _ => {
                self.transfers = self.transfers.saturating_add(1);
                self.engine.submit(transfer);
            }
        }
        requests
    }

    /// A request whose data has come to its end on the way between memory and `backend`, and to
    /// stable storage where that was asked for.
    pub(super) fn pop(&mut self, backend: &dyn BlockBackend) -> Option<(Begun, Outcome)> {
        if self.ended.is_empty() && self.transfers > 0 {
            let Ended { transfer, result } = self.engine.reap()?;
            self.transfers = self.transfers.saturating_sub(1);
            self.end(&transfer, result, backend);
            self.spare.push(transfer);
        }
        self.ended.pop_front()
    }

    /// The engine.
    pub(super) fn into_engine(self) -> Box<dyn Engine> {
        self.engine
    }

    /// Ends the requests of a transfer: those that have been moved as a whole, the one that has been
    /// cut short, and those that have not begun, each of which is tried alone.
    fn end(
        &mut self,
        transfer: &Transfer,
        result: Result<(), TransferError>,
        backend: &dyn BlockBackend,
    ) {
        let (mut moved, mut failure) = match result {
            Ok(()) => (transfer.len(), None),
            Err(error) => (error.transferred, Some(error.source)),
        };
        let (is_alone, mut flushes) = (transfer.parts().len() == 1, false);
        for (index, part) in transfer.parts().iter().enumerate() {
            let transferred = moved.min(part.len);
            moved = moved.saturating_sub(part.len);
            let is_cut = 0 < transferred && transferred < part.len;
            let result = match failure.take_if(|_| is_cut || is_alone) {
                Some(source) => Err(TransferError {
                    transferred,
                    source,
                }),
                None if transferred == part.len => Ok(()),
                // What is in flight may be what the backend would wait for.
                None => match self.engine.settle() {
                    Ok(()) => transfer.make_part(backend, index),
                    Err(error) => Err(error.into()),
                },
            };
            let outcome = match (transfer.direction(), result) {
                (Direction::In, result) => result.map(|()| part.len),
                (Direction::Out, Ok(())) => Ok(0),
                // Nothing has been written to memory.
                (Direction::Out, Err(error)) => Err(error.source.into()),
            };
            flushes |= part.request.flushes && outcome.is_ok();
            self.ended.push_back((part.request, outcome));
        }
        if flushes && let Err(error) = backend.flush() {
            for (request, outcome) in &mut self.ended {
                if request.flushes && outcome.is_ok() {
                    *outcome = Err(io::Error::new(error.kind(), error.to_string()).into());
                }
            }
        }
    }
}
