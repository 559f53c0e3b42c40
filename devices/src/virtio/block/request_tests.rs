use proptest::prelude::*;
use spec::queue::DescFlags;
use vm_memory::Bytes;

use super::super::extents::Extent;
use super::*;

const RAM: usize = 16 << 20;
const HEADER: u64 = 0x1000;
const STATUS: u64 = 0x2000;
const DATA: u64 = 0x10_0000;

const WRITABLE: Geometry = Geometry {
    capacity: 1 << 30,
    read_only: false,
    discard: true,
    write_zeroes: true,
};

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM)]).unwrap()
}

fn readable(addr: u64, len: u32) -> Descriptor {
    Descriptor {
        addr,
        len,
        ..Default::default()
    }
}

fn writable(addr: u64, len: u32) -> Descriptor {
    Descriptor {
        flags: DescFlags::WRITE,
        ..readable(addr, len)
    }
}

fn put_header(memory: &GuestMemoryMmap, request_type: u32, sector: u64) {
    let header = RequestHeader {
        request_type,
        sector,
    };
    memory
        .write_slice(&header.to_bytes(), GuestAddress(HEADER))
        .unwrap();
}

/// What comes of a request of this type with this data.
fn refusal(request_type: u32, sector: u64, data: &[Descriptor]) -> Option<Refusal> {
    let memory = memory();
    put_header(&memory, request_type, sector);
    let mut descriptors = vec![readable(HEADER, 16)];
    descriptors.extend_from_slice(data);
    descriptors.push(writable(STATUS, 1));
    let buffers = Buffers {
        memory: &memory,
        descriptors: &descriptors,
    };
    let error = Request::parse(&buffers, &WRITABLE).err()?;
    assert_eq!(error.status, Some(GuestAddress(STATUS)));
    Some(error.reason)
}

#[test]
fn a_read_has_its_position_its_data_and_its_status() {
    let memory = memory();
    put_header(&memory, request_type::IN, 3);
    let descriptors = [readable(HEADER, 16), writable(DATA, 1025)];
    let buffers = Buffers {
        memory: &memory,
        descriptors: &descriptors,
    };
    let request = Request::parse(&buffers, &WRITABLE).unwrap();
    assert_eq!(request.status, GuestAddress(DATA + 1024));
    let Operation::In { position, data } = request.operation else {
        panic!("{request:?}");
    };
    assert_eq!((position, data.len()), (1536, 1024));
}

#[test]
fn more_data_than_the_limits_allow_is_refused_and_as_much_is_not() {
    let whole = vec![writable(DATA, SIZE_MAX); SEG_MAX as usize];
    assert_eq!(refusal(request_type::IN, 0, &whole), None);
    let mut more = whole;
    more.push(writable(DATA, 512));
    let expected = Refusal::TooLong(DATA_MAX + 512);
    assert_eq!(refusal(request_type::IN, 0, &more), Some(expected));
}

#[test]
fn sectors_that_end_past_the_last_position_are_refused_whatever_the_capacity() {
    let memory = memory();
    let geometry = Geometry {
        capacity: u64::MAX,
        ..WRITABLE
    };
    let (sector, count) = (u64::MAX / 512, 2);
    put_header(&memory, request_type::IN, sector);
    let descriptors = [
        readable(HEADER, 16),
        writable(DATA, 1024),
        writable(STATUS, 1),
    ];
    let buffers = Buffers {
        memory: &memory,
        descriptors: &descriptors,
    };
    let error = Request::parse(&buffers, &geometry).unwrap_err();
    assert_eq!(error.reason, Refusal::BeyondEnd { sector, count });
}

#[test]
fn each_refusal_says_why() {
    let data = [writable(DATA, 1024)];
    for (kind, sector, data, expected) in [
        (9, 0, &data[..], "unknown request type 9"),
        (
            0,
            0,
            &[readable(DATA, 512)],
            "512 bytes of data in the wrong direction",
        ),
        (
            0,
            0,
            &[writable(DATA, 7)],
            "7 bytes of data are not whole sectors",
        ),
        (
            0,
            (1 << 30) - 1,
            &data,
            "2 sectors from 1073741823 are not all on the disk",
        ),
        (
            0,
            0,
            &[writable(0xff_ff00, 512)],
            "the buffer of 0x200 bytes at 0xffff00 is not in RAM",
        ),
        (0, 0, &[writable(DATA, 0)], "a buffer of length 0"),
        (
            11,
            0,
            &[readable(DATA, 17)],
            "17 bytes of data are not from 1 to 4 segments of 16",
        ),
    ] {
        assert_eq!(refusal(kind, sector, data).unwrap().to_string(), expected);
    }
}

#[test]
fn only_an_unknown_type_or_flag_is_unsupp() {
    let code = |reason| {
        let status = None;
        ParseError { reason, status }.code()
    };
    assert_eq!(code(Refusal::Unknown(3)), status::UNSUPP);
    assert_eq!(code(Refusal::Flags(2)), status::UNSUPP);
    assert_eq!(code(Refusal::Segments(0)), status::IOERR);
    assert_eq!(code(Refusal::SegmentTooLong(1 << 31)), status::IOERR);
    assert_eq!(code(Refusal::ReadOnly(1)), status::IOERR);
    assert_eq!(code(Refusal::NoStatus), status::IOERR);
}

fn any_descriptor() -> impl Strategy<Value = Descriptor> {
    let addr = prop_oneof![
        4 => Just(HEADER),
        4 => Just(DATA),
        2 => 0..RAM as u64 + 0x1000,
        1 => any::<u64>(),
    ];
    let len = prop_oneof![
        4 => prop::sample::select(vec![1, 15, 16, 17, 512, 513, 528, 1024]),
        1 => 0..0x1000_u32,
        1 => any::<u32>(),
    ];
    (addr, len, any::<bool>()).prop_map(|(addr, len, write)| Descriptor {
        flags: if write {
            DescFlags::WRITE
        } else {
            DescFlags::empty()
        },
        ..readable(addr, len)
    })
}

/// Mostly chains in the right order, so that more than the order is looked at.
fn any_chain() -> impl Strategy<Value = Vec<Descriptor>> {
    let chain = prop::collection::vec(any_descriptor(), 0..8);
    (chain, prop::bool::weighted(0.8)).prop_map(|(mut chain, sort)| {
        if sort {
            chain.sort_by_key(|descriptor| descriptor.flags.contains(DescFlags::WRITE));
        }
        chain
    })
}

proptest! {
    #[test]
    fn any_chain_is_refused_or_is_a_request_within_the_disk_and_the_chain(
        descriptors in any_chain(),
        kind in prop_oneof![4 => 0..2_u32, 4 => prop::sample::select(vec![11_u32, 13]), 1 => 0..16_u32, 1 => any::<u32>()],
        sector in prop_oneof![4 => 0..70_u64, 1 => any::<u64>()],
        read_only in any::<bool>(),
    ) {
        let memory = memory();
        put_header(&memory, kind, sector);
        memory.write_slice(&RequestHeader { request_type: kind, sector }.to_bytes(), GuestAddress(DATA)).unwrap();
        let geometry = Geometry { capacity: 64, read_only, discard: true, write_zeroes: true };
        let buffers = Buffers { memory: &memory, descriptors: &descriptors };
        let total = |write: bool| -> u64 {
            let wanted = descriptors.iter().filter(|d| d.flags.contains(DescFlags::WRITE) == write);
            wanted.map(|d| u64::from(d.len)).sum()
        };
        let last_byte = |address: GuestAddress| {
            let last = descriptors.last().unwrap();
            last.flags.contains(DescFlags::WRITE)
                && address.0 == last.addr + u64::from(last.len) - 1
                && address.0 < RAM as u64
        };
        match Request::parse(&buffers, &geometry) {
            Err(error) => prop_assert!(error.status.is_none_or(last_byte)),
            Ok(request) => {
                prop_assert!(last_byte(request.status));
                let (position, len) = match request.operation {
                    Operation::In { position, data } => {
                        prop_assert_eq!(data.len() + 1, total(true));
                        prop_assert_eq!(total(false), 16);
                        (position, data.len())
                    }
                    Operation::Out { position, data } => {
                        prop_assert!(!read_only);
                        prop_assert_eq!(data.len() + 16, total(false));
                        prop_assert_eq!(total(true), 1);
                        (position, data.len())
                    }
                    Operation::GetId { data } => {
                        prop_assert_eq!(data.len() + 1, total(true));
                        (0, 0)
                    }
                    Operation::Flush => (0, 0),
                    Operation::Discard(extents) | Operation::WriteZeroes(extents) => {
                        prop_assert!(!read_only);
                        prop_assert_eq!(total(true), 1);
                        prop_assert!((32..=80).contains(&total(false)));
                        for Extent { position, len, .. } in extents.iter() {
                            prop_assert!(len % 512 == 0 && position % 512 == 0);
                            prop_assert!(position + len <= 64 * 512);
                        }
                        (0, 0)
                    }
                };
                prop_assert!(len % 512 == 0 && position % 512 == 0);
                prop_assert!(position + len <= 64 * 512);
            }
        }
    }
}
