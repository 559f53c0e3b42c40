//! The request parser: any descriptors over any RAM. The model says what is asked for, and which
//! bytes of RAM it speaks of.

use devices::virtio::block::extents::Extents;
use devices::virtio::block::request::{Buffers, Geometry, Operation, Request};
use devices::virtio::chain::Run;
use spec::queue::{DescFlags, Descriptor};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

use crate::input::{Record, records};
use crate::model::ram::Ram;
use crate::model::request::{self as model, Expected, Stretches};
use crate::ram;

/// Where the bytes go that a header may be made of.
const HEADERS: u64 = 0x7ff0;
/// The most descriptors of a chain: more data fit than a request may have.
const CHAIN_MAX: usize = 2048;

/// Parses a chain: after 16 bytes that choose the disk and 32 that lie in RAM, each record of `data`
/// is a descriptor, or the last one many times over.
pub fn request(data: &[u8]) {
    let Some((disk, data)) = data.split_first_chunk::<16>() else {
        return;
    };
    let Some((header, data)) = data.split_first_chunk::<32>() else {
        return;
    };
    let memory = ram::zeroed();
    memory.write_slice(header, GuestAddress(HEADERS)).unwrap();
    let before = ram::contents(&memory);

    let [c0, c1, c2, c3, c4, c5, c6, c7, kind, ..] = *disk;
    let capacity = u64::from_le_bytes([c0, c1, c2, c3, c4, c5, c6, c7]);
    let (read_only, discard, write_zeroes) = (kind & 1 != 0, kind & 2 != 0, kind & 4 != 0);
    let mut descriptors = Vec::new();
    for record in records(data) {
        add(record, &mut descriptors);
    }
    descriptors.truncate(CHAIN_MAX);
    let buffers = Buffers {
        memory: &memory,
        descriptors: &descriptors,
    };

    let parsed = Request::parse(
        &buffers,
        &Geometry {
            capacity,
            read_only,
            discard,
            write_zeroes,
        },
    );
    let seen = match parsed {
        Ok(request) => {
            let operation = match request.operation {
                Operation::In { position, data } => {
                    model::Operation::In(position, stretches(data, &memory))
                }
                Operation::Out { position, data } => {
                    model::Operation::Out(position, stretches(data, &memory))
                }
                Operation::Flush => model::Operation::Flush,
                Operation::GetId { data } => model::Operation::GetId(stretches(data, &memory)),
                Operation::Discard(found) => model::Operation::Discard(extents(&found)),
                Operation::WriteZeroes(found) => model::Operation::WriteZeroes(extents(&found)),
            };
            Expected::Done(operation, request.status.0)
        }
        Err(error) => match error.status {
            Some(address) => Expected::Refused(error.code(), address.0),
            None => Expected::NoStatus,
        },
    };
    let geometry = model::Geometry {
        capacity,
        read_only,
        discard,
        write_zeroes,
    };
    let expected = match model::expected(&mut Ram::of(&memory), &descriptors, geometry) {
        Expected::Done(operation, address) => Expected::Done(join(operation), address),
        other => other,
    };
    assert_eq!(seen, expected, "{descriptors:?}");
    assert!(ram::contents(&memory) == before, "parsing wrote to RAM");
}

fn add(record: Record, descriptors: &mut Vec<Descriptor>) {
    let Record { code, a, b, value } = record;
    let flags = if code & 1 != 0 {
        DescFlags::WRITE
    } else {
        DescFlags::empty()
    };
    let descriptor = match code >> 1 & 7 {
        // The last one again, many times.
        0 => {
            let last = descriptors.last().copied();
            descriptors.extend(last.into_iter().cycle().take(8 * usize::from(a)));
            descriptors.truncate(CHAIN_MAX);
            return;
        }
        // In the first 64 KiB, the regions beyond, near the end of all addresses, and anywhere.
        1..4 => (u64::from(b), value),
        4 => (u64::from(b) + 0x1_0000, value),
        5 => (u64::MAX - u64::from(b), value),
        6 => (u64::from(b) << 48 | u64::from(value), u32::from(a) << 8),
        _ => (HEADERS + u64::from(b % 64), value % 64),
    };
    let (addr, len) = descriptor;
    descriptors.push(Descriptor {
        addr,
        len,
        flags,
        next: 0,
    });
}

/// Where in guest RAM the host memory of `run` is; stretches that touch are one.
fn stretches(run: Run<'_>, memory: &GuestMemoryMmap) -> Stretches {
    let mut slices = Vec::new();
    run.slices(memory, &mut slices).unwrap();
    let found = slices.iter().map(|slice| {
        let host = slice.ptr_guard().as_ptr() as u64;
        let mut regions = ram::REGIONS.into_iter();
        let addr = regions.find_map(|(base, size)| {
            let start = memory.get_host_address(GuestAddress(base)).unwrap() as u64;
            let offset = host.checked_sub(start)?;
            (offset + slice.len() as u64 <= size as u64).then_some(base + offset)
        });
        (addr.expect("a slice outside RAM"), slice.len() as u64)
    });
    let found = joined(found.collect());
    assert_eq!(model::len(&found), run.len());
    found
}

fn extents(extents: &Extents) -> Vec<model::Extent> {
    extents
        .iter()
        .map(|extent| (extent.position, extent.len))
        .collect()
}

/// Stretches that touch are one.
fn joined(stretches: Stretches) -> Stretches {
    let mut joined: Stretches = Vec::new();
    for (addr, len) in stretches {
        match joined.last_mut() {
            Some((last, last_len)) if *last + *last_len == addr => *last_len += len,
            _ => joined.push((addr, len)),
        }
    }
    joined
}

fn join(operation: model::Operation) -> model::Operation {
    match operation {
        model::Operation::In(position, data) => model::Operation::In(position, joined(data)),
        model::Operation::Out(position, data) => model::Operation::Out(position, joined(data)),
        model::Operation::GetId(data) => model::Operation::GetId(joined(data)),
        other => other,
    }
}
