use super::*;

const NAME_SIZE: usize = 48;

fn header(name_size: u32, count: u32) -> [u8; HEADER_SIZE] {
    let mut bytes = [0; HEADER_SIZE];
    let words = [0, name_size, count, 24, 72, 1096];
    for (to, word) in bytes.chunks_mut(4).zip(words) {
        to.copy_from_slice(&u32::to_ne_bytes(word));
    }
    bytes
}

fn descriptor(flags: u32, count: u16, offset: u32, name: &[u8]) -> Vec<u8> {
    let mut bytes = flags.to_ne_bytes().to_vec();
    bytes.extend((-9_i16).to_ne_bytes());
    bytes.extend(count.to_ne_bytes());
    bytes.extend(offset.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(name);
    bytes.resize(DESC_SIZE + NAME_SIZE, 0);
    bytes
}

fn counter(name: &str, offset: usize) -> Counter {
    let name = name.to_owned();
    Counter { name, offset }
}

#[test]
fn the_header_says_where_everything_is() {
    let header = Header::parse(&header(48, 16)).unwrap();
    assert_eq!(header.descriptors_size(), 16 * 64);
    assert_eq!((header.descriptors, header.data), (72, 1096));
}

#[test]
fn a_header_that_would_ask_for_much_memory_is_refused() {
    assert!(Header::parse(&header(MAX_NAME, MAX_COUNTERS)).is_ok());
    for (name_size, count) in [(MAX_NAME + 1, 1), (48, MAX_COUNTERS + 1)] {
        let refused = Header::parse(&header(name_size, count));
        assert!(matches!(refused, Err(KvmStatsError::Format(_))));
    }
}

#[test]
fn counters_of_one_value_are_found_and_histograms_are_not() {
    let header = Header::parse(&header(48, 5)).unwrap();
    let descriptors = [
        descriptor(0x00, 1, 904, b"exits"),
        descriptor(0x20, 1, 32, b"halt_poll_success_ns"),
        descriptor(0x24, 32, 56, b"halt_wait_hist"),
        descriptor(0x03, 1, 312, b"one_bucket_hist"),
        descriptor(0x41, 1, 824, &[b'x'; NAME_SIZE]),
    ]
    .concat();
    assert_eq!(descriptors.len(), header.descriptors_size());
    assert_eq!(
        header.counters(&descriptors).unwrap(),
        [
            counter("exits", 904),
            counter("halt_poll_success_ns", 32),
            counter(&"x".repeat(NAME_SIZE), 824),
        ]
    );
}

#[test]
fn a_name_that_is_not_text_is_refused() {
    let header = Header::parse(&header(48, 1)).unwrap();
    let refused = header.counters(&descriptor(0, 1, 0, b"\xff"));
    assert!(matches!(refused, Err(KvmStatsError::Format(_))));
}

#[test]
fn a_value_that_would_take_much_memory_to_reach_is_refused() {
    let header = Header::parse(&header(48, 1)).unwrap();
    let counters = |offset| header.counters(&descriptor(0, 1, offset, b"far"));
    assert!(counters(MAX_DATA).is_ok());
    assert!(matches!(
        counters(MAX_DATA + 1),
        Err(KvmStatsError::Format(_))
    ));
}

#[test]
fn values_are_read_at_their_offsets_and_none_beyond_the_end() {
    let mut data = vec![0; 24];
    data[8..16].copy_from_slice(&7_u64.to_ne_bytes());
    data[16..].copy_from_slice(&u64::MAX.to_ne_bytes());
    let counters = [counter("b", 16), counter("a", 8), counter("c", 17)];
    assert_eq!(
        values(&counters, &data),
        [("b".to_owned(), u64::MAX), ("a".to_owned(), 7)]
    );
}
