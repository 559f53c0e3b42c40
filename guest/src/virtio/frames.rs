//! What goes around the data of a request (section 5.2.6): headers and status bytes, in memory of
//! their own.

use spec::block::{HEADER_SIZE, RequestHeader};

use super::block::Token;
use super::queue::Buffer;
use crate::dma::{Arena, OutOfMemory, Region};

/// Where in a header its sector is, in bytes.
const HEADER_SECTOR: usize = 8;
/// What a status byte holds before the device has written it: none of the values it may write.
const STATUS_NOT_WRITTEN: u8 = 0xff;

/// A header and a status byte for each token.
pub(super) struct Frames<'m> {
    headers: Region<'m>,
    statuses: Region<'m>,
}

impl<'m> Frames<'m> {
    pub(super) fn new(tokens: u16, arena: &mut Arena<'m>) -> Result<Self, OutOfMemory> {
        let tokens = usize::from(tokens);
        Ok(Self {
            headers: arena.alloc(tokens * HEADER_SIZE, HEADER_SIZE as u64)?,
            statuses: arena.alloc(tokens, 1)?,
        })
    }

    /// The buffers of the header and of the status, ready for the device.
    pub(super) fn prepare(&self, token: Token, header: RequestHeader) -> (Buffer<'m>, Buffer<'m>) {
        let header_memory = self
            .headers
            .part(usize::from(token) * HEADER_SIZE, HEADER_SIZE);
        header_memory.write(0, &header.to_bytes());
        let status_memory = self.statuses.part(token.into(), 1);
        status_memory.fill(STATUS_NOT_WRITTEN);
        (
            Buffer::readable(header_memory),
            Buffer::writable(status_memory),
        )
    }

    /// Makes header and status, which have been prepared once, ready for the device again.
    pub(super) fn prepare_again(&self, token: Token, sector: u64) {
        let header = usize::from(token) * HEADER_SIZE;
        self.headers
            .write(header + HEADER_SECTOR, &sector.to_le_bytes());
        self.statuses.write(token.into(), &[STATUS_NOT_WRITTEN]);
    }

    pub(super) fn status(&self, token: Token) -> u8 {
        let mut status = [0];
        self.statuses.read(token.into(), &mut status);
        status[0]
    }
}
