//! Requests to a block device one at a time, each waited for: reads, writes and the like, for those
//! who have nothing else to do meanwhile. How requests get to the device is in `block`.

use spec::Features;
use spec::block::{ID_SIZE, RequestHeader, request_type};

use super::Error;
use super::block::{Block, Completion};
use super::queue::Buffer;
use crate::dma::Region;

impl<'m> Block<'_, 'm> {
    /// Makes one request and waits for it.
    ///
    /// # Errors
    /// [`Error::Busy`] where others are in flight; else as for [`Block::submit`] and
    /// [`Block::wait`]. A status other than OK is none: see [`Completion::ok`].
    pub fn execute(
        &mut self,
        header: RequestHeader,
        data: &[Buffer<'m>],
    ) -> Result<Completion, Error> {
        if self.in_flight() != 0 {
            return Err(Error::Busy);
        }
        self.submit(header, data)?;
        self.notify();
        self.wait()
    }

    /// Reads the sectors from `sector` on into `data`.
    ///
    /// # Errors
    /// As for [`Block::execute`], and a status other than OK.
    pub fn read(&mut self, sector: u64, data: Region<'m>) -> Result<(), Error> {
        let header = RequestHeader {
            request_type: request_type::IN,
            sector,
        };
        self.execute(header, &[Buffer::writable(data)])?
            .ok()
            .map(drop)
    }

    /// Writes `data` to the sectors from `sector` on.
    ///
    /// # Errors
    /// As for [`Block::read`].
    pub fn write(&mut self, sector: u64, data: Region<'m>) -> Result<(), Error> {
        let header = RequestHeader {
            request_type: request_type::OUT,
            sector,
        };
        self.execute(header, &[Buffer::readable(data)])?
            .ok()
            .map(drop)
    }

    /// Commits what has been written to stable storage. Where the device has no flush, a write
    /// is stable when it completes (section 5.2.5.2).
    ///
    /// # Errors
    /// As for [`Block::read`].
    pub fn flush(&mut self) -> Result<(), Error> {
        if !self.info().accepted.contains(Features::VIRTIO_BLK_F_FLUSH) {
            return Ok(());
        }
        let header = RequestHeader {
            request_type: request_type::FLUSH,
            sector: 0,
        };
        self.execute(header, &[])?.ok().map(drop)
    }

    /// Reads the identity of the device into `data`, which must be 20 bytes long.
    ///
    /// # Errors
    /// As for [`Block::read`].
    pub fn get_id(&mut self, data: Region<'m>) -> Result<[u8; ID_SIZE], Error> {
        let header = RequestHeader {
            request_type: request_type::GET_ID,
            sector: 0,
        };
        self.execute(header, &[Buffer::writable(data)])?.ok()?;
        let mut id = [0; ID_SIZE];
        data.read(0, &mut id);
        Ok(id)
    }
}
