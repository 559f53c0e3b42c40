//! A property of the driver and the device together: many random requests at a time, in random
//! pieces, leave a disk that is like its model. What each of them does at its limits is in `driver`.

use std::collections::HashMap;

use devices::virtio::block::backend::MemoryBackend;
use guest::dma::Region;
use guest::rng::{Rng, pattern};
use guest::virtio::queue::Buffer;
use guest::virtio::{Block, Options};
use proptest::prelude::*;
use spec::block::{
    RequestHeader, SECTOR_SIZE, SEGMENT_SIZE, Segment, request_type, segment_flags, status,
};

use crate::driver::{SECTOR, SECTORS, all_options, empty_disk};
use crate::host::{Host, Notify, Ram};

/// Requests that are in flight together have sectors of their own, as nobody promises an order
/// in which they are done: the first this many have, and so on.
const SHARE: u64 = 16;
const MAX_BATCH: usize = (SECTORS / SHARE) as usize;
/// The longest request, in sectors.
const MAX_SECTORS: usize = 8;

/// One thing that is done to a disk, `offset` sectors into a share of it.
#[derive(Clone, Debug)]
enum Operation {
    Read {
        offset: u64,
        sectors: usize,
    },
    Write {
        offset: u64,
        sectors: usize,
        seed: u64,
    },
    Discard {
        offset: u64,
        sectors: usize,
    },
    WriteZeroes {
        offset: u64,
        sectors: usize,
        unmap: bool,
    },
    Flush,
}

fn operation() -> impl Strategy<Value = Operation> {
    // Past the end as well.
    let extent = || (0..SHARE + 4, 1..=MAX_SECTORS);
    prop_oneof![
        extent().prop_map(|(offset, sectors)| Operation::Read { offset, sectors }),
        (extent(), any::<u64>()).prop_map(|((offset, sectors), seed)| Operation::Write {
            offset,
            sectors,
            seed
        }),
        extent().prop_map(|(offset, sectors)| Operation::Discard { offset, sectors }),
        (extent(), any::<bool>()).prop_map(|((offset, sectors), unmap)| {
            Operation::WriteZeroes {
                offset,
                sectors,
                unmap,
            }
        }),
        Just(Operation::Flush),
    ]
}

/// The first sector of a request in the given share; only from the last one it may get out, past
/// the end of the disk.
fn first_sector(share: usize, offset: u64, sectors: usize) -> u64 {
    let offset = match share + 1 {
        MAX_BATCH => offset,
        _ => offset.min(SHARE - sectors as u64),
    };
    share as u64 * SHARE + offset
}

/// What the data of a request is.
enum Content {
    /// What is read.
    Read,
    /// The pattern of a seed, to be written.
    Pattern(u64),
    /// A segment with these flags, of which each byte is to become this one.
    Clear(u32, u8),
}

/// What is to come of a request.
struct Expected<'m> {
    status: u8,
    /// Said only of those that succeed.
    written: Option<u32>,
    memory: Region<'m>,
    bytes: Vec<u8>,
}

/// `memory` in pieces, the lengths of which `cuts` decides.
fn pieces<'m>(memory: Region<'m>, cuts: u64, writable: bool) -> Vec<Buffer<'m>> {
    let mut rng = Rng::new(cuts);
    let (mut buffers, mut offset) = (Vec::new(), 0);
    while offset < memory.len() {
        let rest = memory.len() - offset;
        // Few enough pieces for a small queue.
        let len = if buffers.len() == 12 {
            rest
        } else {
            rest.min(1 + rng.next() as usize % 900)
        };
        let device_writable = writable;
        let memory = memory.part(offset, len);
        buffers.push(Buffer {
            memory,
            device_writable,
        });
        offset += len;
    }
    buffers
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        // A lost interrupt is noticed by a time limit: seek no smaller example for ever.
        max_shrink_time: 30_000,
        ..ProptestConfig::default()
    })]

    /// Whatever is done, how many at a time, in whatever pieces and modes: what is read is what a
    /// disk would have, and what is past its end is an error that changes nothing.
    #[test]
    fn the_disk_behaves_like_its_model(
        batches in proptest::collection::vec(
            proptest::collection::vec((operation(), any::<u64>()), 1..=MAX_BATCH),
            1..30,
        ),
        mode in 0usize..8,
        notify in proptest::sample::select(vec![Notify::Trap, Notify::IoEventFd, Notify::Poll]),
    ) {
        let options = Options {
            // As many pieces as there can be in flight.
            queue_size: Some(64),
            ..all_options().nth(mode).unwrap()
        };
        let disk = empty_disk();
        let mut model = disk.bytes().clone();
        let mut ram = Ram::new();
        let mut host = Host::new(&ram, &disk, notify, false);
        let mut arena = ram.arena();
        let memory = arena.alloc(MAX_BATCH * MAX_SECTORS * SECTOR, SECTOR_SIZE).unwrap();
        let mut block = Block::new(&mut host, &options, &mut arena).unwrap();

        for batch in batches {
            let mut in_flight = HashMap::new();
            for (share, (operation, cuts)) in batch.into_iter().enumerate() {
                let (request_type, offset, sectors, content) = match operation {
                    Operation::Read { offset, sectors } => {
                        (request_type::IN, offset, sectors, Content::Read)
                    }
                    Operation::Write { offset, sectors, seed } => {
                        (request_type::OUT, offset, sectors, Content::Pattern(seed))
                    }
                    Operation::Discard { offset, sectors } => {
                        let content = Content::Clear(0, MemoryBackend::DISCARDED);
                        (request_type::DISCARD, offset, sectors, content)
                    }
                    Operation::WriteZeroes { offset, sectors, unmap } => {
                        let flags = if unmap { segment_flags::UNMAP } else { 0 };
                        (request_type::WRITE_ZEROES, offset, sectors, Content::Clear(flags, 0))
                    }
                    Operation::Flush => (request_type::FLUSH, 0, 0, Content::Pattern(0)),
                };
                let sector = first_sector(share, offset, sectors);
                let len = match content {
                    Content::Clear(..) => SEGMENT_SIZE,
                    _ => sectors * SECTOR,
                };
                let memory = memory.part(share * MAX_SECTORS * SECTOR, len);
                let mut bytes = vec![0; len];
                match content {
                    Content::Read => memory.read(0, &mut bytes),
                    Content::Pattern(seed) => pattern(seed, sector, &mut bytes),
                    Content::Clear(flags, _) => {
                        let num_sectors = sectors as u32;
                        bytes = Segment { sector, num_sectors, flags }.to_bytes().to_vec();
                    }
                }
                memory.write(0, &bytes);
                let start = sector as usize * SECTOR;
                let place = model.get_mut(start..start + sectors * SECTOR);
                let (status, written) = match (place, &content) {
                    (None, _) => (status::IOERR, None),
                    (Some(place), Content::Read) => {
                        bytes.copy_from_slice(place);
                        (status::OK, Some(len as u32 + 1))
                    }
                    (Some(place), Content::Pattern(_)) => {
                        place.copy_from_slice(&bytes);
                        (status::OK, Some(1))
                    }
                    (Some(place), Content::Clear(_, byte)) => {
                        place.fill(*byte);
                        (status::OK, Some(1))
                    }
                };
                let is_read = request_type == request_type::IN;
                let header = RequestHeader { request_type, sector };
                let token = block.submit(header, &pieces(memory, cuts, is_read)).unwrap();
                let expected = Expected { status, written, memory, bytes };
                prop_assert!(in_flight.insert(token, expected).is_none());
            }
            block.notify();
            while !in_flight.is_empty() {
                let done = block.wait().unwrap();
                let expected = in_flight.remove(&done.token).unwrap();
                prop_assert_eq!(done.status, expected.status);
                prop_assert_eq!(done.written, expected.written.unwrap_or(done.written));
                let mut now = vec![0; expected.bytes.len()];
                expected.memory.read(0, &mut now);
                prop_assert_eq!(now, expected.bytes);
            }
        }
        drop(block);
        prop_assert!(*disk.bytes() == model);
    }
}
