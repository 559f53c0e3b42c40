//! A property of the driver and the device together: many random requests at a time, in random
//! pieces, leave a disk that is like its model. What each of them does at its limits is in `driver`.

use std::collections::HashMap;

use guest::dma::Region;
use guest::rng::{Rng, pattern};
use guest::virtio::queue::Buffer;
use guest::virtio::{Block, Options};
use proptest::prelude::*;
use spec::block::{RequestHeader, SECTOR_SIZE, request_type, status};

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
                let (request_type, offset, sectors, seed) = match operation {
                    Operation::Read { offset, sectors } => (request_type::IN, offset, sectors, 0),
                    Operation::Write { offset, sectors, seed } => {
                        (request_type::OUT, offset, sectors, seed)
                    }
                    Operation::Flush => (request_type::FLUSH, 0, 0, 0),
                };
                let sector = first_sector(share, offset, sectors);
                let memory = memory.part(share * MAX_SECTORS * SECTOR, sectors * SECTOR);
                let mut bytes = vec![0; memory.len()];
                let is_read = request_type == request_type::IN;
                if is_read {
                    memory.read(0, &mut bytes);
                } else {
                    pattern(seed, sector, &mut bytes);
                    memory.write(0, &bytes);
                }
                let start = sector as usize * SECTOR;
                let (status, written) = match model.get_mut(start..start + bytes.len()) {
                    None => (status::IOERR, None),
                    Some(place) if is_read => {
                        bytes.copy_from_slice(place);
                        (status::OK, Some(bytes.len() as u32 + 1))
                    }
                    Some(place) => {
                        place.copy_from_slice(&bytes);
                        (status::OK, Some(1))
                    }
                };
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
