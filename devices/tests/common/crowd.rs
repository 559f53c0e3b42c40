//! Many requests at a time, each with a header, a table, data and a status of its own.

use spec::block::{RequestHeader, request_type};
use spec::queue::DESC_SIZE;

use super::{
    DATA, Driver, HEADER, STATUS, TABLE, UNTOUCHED, Used, indirect, readable, table, writable,
};

/// Bytes of memory for the data of one request.
pub const CROWD_STRIDE: u64 = 0x1000;
/// The most descriptors of one request.
const DESCRIPTORS: u64 = 16;

/// Where the data of request `index` is.
pub fn crowd_data(index: u16) -> u64 {
    DATA + CROWD_STRIDE * u64::from(index)
}

impl Driver {
    /// Makes request `index` available, with these segments of data (address, length): its head is its
    /// index. The device must know indirect descriptors.
    pub fn offer_one_of_many(
        &mut self,
        index: u16,
        request_type: u32,
        sector: u64,
        segments: &[(u64, u32)],
    ) {
        let i = u64::from(index);
        let (header_at, status_at) = (HEADER + 16 * i, STATUS + i);
        let header = RequestHeader {
            request_type,
            sector,
        };
        self.put(header_at, &header.to_bytes());
        self.fill(status_at, 1, UNTOUCHED);
        let mut chain = vec![readable(header_at, 16)];
        let writes = request_type == request_type::OUT;
        chain.extend(segments.iter().map(|&(addr, len)| match writes {
            true => readable(addr, len),
            false => writable(addr, len),
        }));
        chain.push(writable(status_at, 1));
        let table_at = TABLE + DESC_SIZE * DESCRIPTORS * i;
        self.put(table_at, &table(&chain));
        let len = DESC_SIZE as u32 * chain.len() as u32;
        self.descriptor(index, indirect(table_at, len));
        self.offer(index);
    }

    /// The status of request `index`.
    pub fn status_of(&self, index: u16) -> u8 {
        self.bytes(STATUS + u64::from(index), 1)[0]
    }

    /// Waits for `count` requests.
    pub fn wait_for_many(&mut self, count: usize) -> Vec<Used> {
        (0..count).map(|_| self.wait_used()).collect()
    }
}
