//! Requests to a block device one at a time, each waited for: reads, writes and the like, for those
//! who have nothing else to do meanwhile. How requests get to the device is in `block`.

use spec::Features;
use spec::block::{ID_SIZE, RequestHeader, SEGMENT_SIZE, Segment, config, request_type};

use super::Error;
use super::block::Block;
use super::bring_up::ClearLimits;
use super::completion::Completion;
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

    /// Whether what is written is volatile until a flush, where the device tells.
    pub fn writeback(&mut self) -> Option<bool> {
        let accepted = self.info.accepted;
        accepted
            .contains(Features::VIRTIO_BLK_F_CONFIG_WCE)
            .then(|| self.link.transport.read_config_byte(config::WRITEBACK) != 0)
    }

    /// Has the device keep writes in its cache until a flush, or not.
    ///
    /// # Errors
    /// [`Error::MissingFeatures`] where it cannot be told to; [`Error::Busy`] where requests are in
    /// flight, which may be done the one way or the other.
    pub fn set_writeback(&mut self, writeback: bool) -> Result<(), Error> {
        let feature = Features::VIRTIO_BLK_F_CONFIG_WCE;
        if !self.info.accepted.contains(feature) {
            return Err(Error::MissingFeatures(feature));
        }
        if self.in_flight() != 0 {
            return Err(Error::Busy);
        }
        self.link
            .transport
            .write_config_byte(config::WRITEBACK, writeback.into());
        Ok(())
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

    /// Tells the device that there is no use for what the sectors of these segments hold; what they
    /// read from then on is the device's to choose. `memory` is for the segments, 16 bytes each.
    ///
    /// # Errors
    /// [`Error::MissingFeatures`] where the device takes no such request; [`Error::Segments`] and
    /// [`Error::SegmentSectors`] where it takes none like this; else as for [`Block::read`].
    pub fn discard(&mut self, segments: &[Segment], memory: Region<'m>) -> Result<(), Error> {
        let limits = self.info().discard_limits()?;
        self.clear(request_type::DISCARD, limits, segments, memory)
    }

    /// Makes the sectors of these segments zeros; those of a segment that is flagged UNMAP may be
    /// deallocated. `memory` is for the segments, 16 bytes each.
    ///
    /// # Errors
    /// As for [`Block::discard`].
    pub fn write_zeroes(&mut self, segments: &[Segment], memory: Region<'m>) -> Result<(), Error> {
        let limits = self.info().write_zeroes_limits()?;
        self.clear(request_type::WRITE_ZEROES, limits, segments, memory)
    }

    fn clear(
        &mut self,
        request_type: u32,
        limits: ClearLimits,
        segments: &[Segment],
        memory: Region<'m>,
    ) -> Result<(), Error> {
        if segments.is_empty() || segments.len() > limits.max_seg as usize {
            return Err(Error::Segments(segments.len()));
        }
        let mut lengths = segments.iter().map(|segment| segment.num_sectors);
        if let Some(count) = lengths.find(|count| *count > limits.max_sectors) {
            return Err(Error::SegmentSectors(count));
        }
        let data = put_segments(segments, memory);
        let header = RequestHeader {
            request_type,
            sector: 0,
        };
        self.execute(header, &[data])?.ok().map(drop)
    }
}

/// Puts `segments` into `memory`, which has room for them; returns them as data of a request.
pub fn put_segments<'m>(segments: &[Segment], memory: Region<'m>) -> Buffer<'m> {
    for (i, segment) in segments.iter().enumerate() {
        memory.write(i * SEGMENT_SIZE, &segment.to_bytes());
    }
    Buffer::readable(memory.part(0, segments.len() * SEGMENT_SIZE))
}
