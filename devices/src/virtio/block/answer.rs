//! How a request is answered: it begins, is done, by the disk here or by an engine with its data, and
//! ends with its status byte. Rings and interrupts are not its business.

use std::io;

use spec::block::status;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::backend::TransferError;
use super::disk::{Disk, Warned};
use super::engine::Direction;
use super::extents::Extent;
use super::request::{Operation, ParseError, Request};
use super::stats::RequestKind;
use crate::virtio::chain::Run;
use crate::virtio::ram;

/// What has become of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What it asked for.
    pub kind: RequestKind,
    /// Whether the host failed it.
    pub failed: bool,
    /// The status byte; `None` where there is none that may be written.
    pub status: Option<u8>,
    /// How many of the device-writable bytes of the chain have been written: `used.len`.
    pub written: u32,
    /// How many bytes of the disk the backend was asked to move or clear.
    pub moved: u64,
    /// Whether it was to bring data to stable storage.
    pub flushed: bool,
    /// How many segments it was to clear.
    pub clears: u64,
}

/// What has become of what a request asks for: how many bytes of data have been written to the memory
/// of the guest; an error says the same.
pub(super) type Outcome = Result<u64, TransferError>;

/// A sound request that has begun: what there is to know of it at its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    /// The head of its chain.
    pub(super) head: u16,
    kind: RequestKind,
    status: GuestAddress,
    /// How many bytes of the disk it is to move or clear.
    pub(super) moved: u64,
    /// Whether it is to bring data to stable storage.
    pub(super) flushes: bool,
    /// How many segments it is to clear.
    pub(super) clears: u64,
}

/// What a request asks an engine for.
pub(super) struct Data<'a> {
    pub(super) direction: Direction,
    /// First byte on the disk.
    pub(super) position: u64,
    pub(super) memory: Run<'a>,
}

impl<'a> Data<'a> {
    /// What `operation` asks an engine for, if it does.
    pub(super) fn of(operation: &Operation<'a>) -> Option<Self> {
        let (direction, position, memory) = match *operation {
            Operation::In { position, data } => (Direction::In, position, data),
            Operation::Out { position, data } => (Direction::Out, position, data),
            Operation::Flush
            | Operation::GetId { .. }
            | Operation::Discard(_)
            | Operation::WriteZeroes(_) => return None,
        };
        Some(Self {
            direction,
            position,
            memory,
        })
    }
}

impl Disk {
    /// Begins the `request` of the chain from `head`.
    pub(super) fn begin(&self, head: u16, request: &Request<'_>) -> Begun {
        let flushes = match request.operation {
            Operation::Flush => true,
            // The driver may change its mind at any time: this is what it wants for this one.
            Operation::Out { .. } | Operation::WriteZeroes(_) => self.is_write_through(),
            Operation::In { .. } | Operation::GetId { .. } | Operation::Discard(_) => false,
        };
        Begun {
            head,
            kind: RequestKind::of_operation(&request.operation),
            status: request.status,
            moved: request.operation.byte_count(),
            flushes,
            clears: request.operation.segment_count(),
        }
    }

    /// Does what is asked, and needs no engine.
    pub(super) fn execute(
        &self,
        memory: &GuestMemoryMmap,
        begun: &Begun,
        operation: &Operation<'_>,
    ) -> Outcome {
        let (backend, mut written) = (self.backend(), 0);
        match operation {
            Operation::In { .. } | Operation::Out { .. } => {
                return Err(io::Error::other("its data is for an engine to move").into());
            }
            Operation::Flush => {}
            Operation::GetId { data } => written = data.write(memory, &self.id())? as u64,
            Operation::Discard(extents) => {
                for Extent { position, len, .. } in extents.iter() {
                    backend.discard(position, len)?;
                }
            }
            Operation::WriteZeroes(extents) => {
                for extent in extents.iter() {
                    let Extent {
                        position,
                        len,
                        unmap,
                    } = extent;
                    backend.write_zeroes(position, len, unmap)?;
                }
            }
        }
        if begun.flushes {
            backend.flush()?;
        }
        Ok(written)
    }

    /// Ends a request of which this is the `outcome`.
    pub(super) fn end(&self, memory: &GuestMemoryMmap, begun: &Begun, outcome: Outcome) -> Answer {
        let failed = outcome.is_err();
        let (written, code) = match outcome {
            Ok(written) => (written, status::OK),
            Err(error) => {
                self.warn(Warned::Failed, || {
                    format!("a request failed, and more may: {}", error.source)
                });
                (error.transferred, status::IOERR)
            }
        };
        let answer = Answer {
            kind: begun.kind,
            failed,
            moved: begun.moved,
            flushed: begun.flushes,
            clears: begun.clears,
            ..Answer::default()
        };
        answer.written(memory, begun.status, written, code)
    }

    /// Refuses a request.
    pub(super) fn refuse(&self, memory: &GuestMemoryMmap, error: &ParseError) -> Answer {
        self.warn(Warned::Refused, || {
            format!("refused a request, and may refuse more: {error}")
        });
        let Some(address) = error.status else {
            // What is no request is of the default kind.
            return Answer::default();
        };
        let answer = Answer {
            kind: RequestKind::of_error(error),
            ..Answer::default()
        };
        answer.written(memory, address, 0, error.code())
    }
}

impl Answer {
    /// The same with the `status` byte at this `address`, after `written` bytes of data.
    fn written(
        self,
        memory: &GuestMemoryMmap,
        address: GuestAddress,
        written: u64,
        status: u8,
    ) -> Self {
        // Parsing has checked the address: this succeeds.
        let status_written = ram::write(memory, address, &[status]).is_ok();
        let total = written.saturating_add(u64::from(status_written));
        Self {
            status: status_written.then_some(status),
            written: u32::try_from(total).unwrap_or(u32::MAX),
            ..self
        }
    }
}
