//! Requests that are not what they should be: how each ends, and that the next well-formed request
//! is served.

#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use spec::block::{request_type, status};

fn disk_of(driver: &Driver) -> Vec<u8> {
    driver.disk.bytes().clone()
}

// What is right

#[test]
fn a_read_puts_the_sectors_into_memory_and_used_len_is_the_data_and_the_status() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, PLAIN);
        let answer = driver.request(request_type::IN, 9, &[writable(DATA, 1024)]);
        assert_eq!(answer, (1025, status::OK));
        assert_eq!(driver.bytes(DATA, 512), sector_content(9));
        assert_eq!(driver.bytes(DATA + 512, 512), sector_content(10));
    });
}

#[test]
fn a_write_puts_memory_into_the_sectors_and_used_len_is_1() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, PLAIN);
        let mut expected = disk_of(&driver);
        expected[9 * 512..11 * 512].fill(0x77);
        driver.fill(DATA, 1024, 0x77);
        let answer = driver.request(request_type::OUT, 9, &[readable(DATA, 1024)]);
        assert_eq!(answer, (1, status::OK));
        assert_eq!(disk_of(&driver), expected);
        driver.assert_serves();
    });
}

#[test]
fn the_last_sector_is_served_and_the_one_after_it_is_not() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    let data = [writable(DATA, 512)];
    let answer = driver.request(request_type::IN, SECTORS - 1, &data);
    assert_eq!(answer, (513, status::OK));
    let answer = driver.request(request_type::IN, SECTORS, &data);
    assert_eq!(answer, (1, status::IOERR));
}

#[test]
fn a_request_without_data_is_served() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    for kind in [request_type::IN, request_type::OUT] {
        assert_eq!(driver.request(kind, 0, &[]), (1, status::OK));
        assert_eq!(driver.request(kind, SECTORS, &[]), (1, status::OK));
        assert_eq!(driver.request(kind, SECTORS + 1, &[]), (1, status::IOERR));
    }
}

// Framing

#[test]
fn a_header_split_over_descriptors_is_served() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.header(request_type::IN, 4);
    // In three pieces, apart from one another in memory.
    let bytes = driver.bytes(HEADER, 16);
    driver.put(HEADER + 0x100, &bytes[..1]);
    driver.put(HEADER + 0x200, &bytes[1..9]);
    driver.put(HEADER + 0x300, &bytes[9..]);
    let len = driver.submit(&[
        readable(HEADER + 0x100, 1),
        readable(HEADER + 0x200, 8),
        readable(HEADER + 0x300, 7),
        writable(DATA, 512),
        writable(STATUS, 1),
    ]);
    assert_eq!((len, driver.status()), (513, status::OK));
    assert_eq!(driver.bytes(DATA, 512), sector_content(4));
}

#[test]
fn a_header_and_data_in_one_descriptor_are_served() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.header(request_type::OUT, 4);
    driver.fill(HEADER + 16, 512, 0x3c);
    let len = driver.submit(&[readable(HEADER, 16 + 512), writable(STATUS, 1)]);
    assert_eq!((len, driver.status()), (1, status::OK));
    assert_eq!(driver.disk.bytes()[4 * 512..5 * 512], [0x3c; 512]);
    driver.assert_serves();
}

#[test]
fn data_and_status_in_one_descriptor_are_served_and_the_status_is_its_last_byte() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.header(request_type::IN, 4);
    driver.fill(DATA, 514, UNTOUCHED);
    let len = driver.submit(&[readable(HEADER, 16), writable(DATA, 513)]);
    assert_eq!(len, 513);
    assert_eq!(driver.bytes(DATA, 512), sector_content(4));
    assert_eq!(driver.bytes(DATA + 512, 2), [status::OK, UNTOUCHED]);
}

#[test]
fn data_cut_anywhere_is_served_as_long_as_it_is_whole_sectors() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    let data = [
        writable(DATA, 1),
        writable(DATA + 1, 700),
        writable(DATA + 701, 323),
    ];
    assert_eq!(
        driver.request(request_type::IN, 1, &data),
        (1025, status::OK)
    );
    assert_eq!(driver.bytes(DATA, 1024), disk_of(&driver)[512..3 * 512]);
}

#[test]
fn a_header_shorter_than_16_bytes_is_refused() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.header(request_type::FLUSH, 0);
    for len in [1, 8, 15] {
        let used = driver.submit(&[readable(HEADER, len), writable(STATUS, 1)]);
        assert_eq!((used, driver.status()), (1, status::IOERR), "{len} bytes");
    }
    let used = driver.submit(&[
        readable(HEADER, 7),
        readable(HEADER, 8),
        writable(STATUS, 1),
    ]);
    assert_eq!((used, driver.status()), (1, status::IOERR));
    driver.assert_serves();
}

#[test]
fn a_header_that_is_not_device_readable_is_refused() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.header(request_type::FLUSH, 0);
    let len = driver.submit(&[writable(HEADER, 16), writable(STATUS, 1)]);
    assert_eq!((len, driver.status()), (1, status::IOERR));
    driver.assert_serves();
}

#[test]
fn a_chain_without_a_status_byte_is_returned_with_length_0() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, PLAIN);
        driver.header(request_type::OUT, 0);
        let before = disk_of(&driver);
        let len = driver.submit(&[readable(HEADER, 16), readable(DATA, 512)]);
        assert_eq!(len, 0);
        assert_eq!(disk_of(&driver), before);
        driver.assert_serves();
    });
}

#[test]
fn a_status_byte_that_is_read_only_is_returned_with_length_0() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.header(request_type::IN, 0);
    driver.fill(DATA, 512, 0x11);
    let chain = [
        readable(HEADER, 16),
        writable(DATA, 512),
        readable(STATUS, 1),
    ];
    assert_eq!(driver.submit(&chain), 0);
    assert_eq!(
        (driver.status(), driver.bytes(DATA, 512)),
        (UNTOUCHED, vec![0x11; 512])
    );
    driver.assert_serves();
}

#[test]
fn a_status_byte_in_the_middle_is_returned_with_length_0() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.header(request_type::OUT, 0);
    let chain = [
        readable(HEADER, 16),
        writable(STATUS, 1),
        readable(DATA, 512),
    ];
    assert_eq!(driver.submit(&chain), 0);
    assert_eq!(driver.status(), UNTOUCHED);
    driver.assert_serves();
}

#[test]
fn a_status_byte_outside_ram_is_returned_with_length_0() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.header(request_type::FLUSH, 0);
    for addr in [HOLE, END, u64::MAX] {
        let chain = [readable(HEADER, 16), writable(addr, 1)];
        assert_eq!(driver.submit(&chain), 0, "{addr:#x}");
    }
    driver.assert_serves();
}

#[test]
fn a_status_descriptor_of_several_bytes_gets_one_byte_the_last() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.header(request_type::FLUSH, 0);
    driver.fill(STATUS, 5, UNTOUCHED);
    let len = driver.submit(&[readable(HEADER, 16), writable(STATUS, 4)]);
    assert_eq!(len, 1);
    let expected = [UNTOUCHED, UNTOUCHED, UNTOUCHED, status::OK, UNTOUCHED];
    assert_eq!(driver.bytes(STATUS, 5), expected);
}

#[test]
fn a_chain_of_one_descriptor_is_refused() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    assert_eq!(driver.submit(&[readable(HEADER, 16)]), 0);
    assert_eq!(driver.submit(&[writable(STATUS, 1)]), 1);
    assert_eq!(driver.status(), status::IOERR);
    driver.assert_serves();
}

#[test]
fn data_of_the_wrong_direction_ends_with_ioerr() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    let before = disk_of(&driver);
    driver.fill(DATA, 512, 0x11);
    for (kind, data) in [
        (request_type::IN, readable(DATA, 512)),
        (request_type::OUT, writable(DATA, 512)),
        (request_type::GET_ID, readable(DATA, 20)),
    ] {
        assert_eq!(
            driver.request(kind, 0, &[data]),
            (1, status::IOERR),
            "{kind}"
        );
    }
    // Both directions at once.
    let both = [readable(DATA, 512), writable(DATA, 512)];
    for kind in [request_type::IN, request_type::OUT] {
        assert_eq!(driver.request(kind, 0, &both), (1, status::IOERR), "{kind}");
    }
    assert_eq!(
        (disk_of(&driver), driver.bytes(DATA, 512)),
        (before, vec![0x11; 512])
    );
    driver.assert_serves();
}

// Lengths and sectors

#[test]
fn a_data_length_that_is_no_multiple_of_512_ends_with_ioerr() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    let before = disk_of(&driver);
    driver.fill(DATA, 2048, 0x11);
    for len in [1, 511, 513, 1023] {
        let answer = driver.request(request_type::IN, 0, &[writable(DATA, len)]);
        assert_eq!(answer, (1, status::IOERR), "{len}");
        let answer = driver.request(request_type::OUT, 0, &[readable(DATA, len)]);
        assert_eq!(answer, (1, status::IOERR), "{len}");
    }
    assert_eq!(
        (disk_of(&driver), driver.bytes(DATA, 2048)),
        (before, vec![0x11; 2048])
    );
    driver.assert_serves();
}

#[test]
fn sectors_that_are_not_all_on_the_disk_end_with_ioerr_and_not_even_the_part_that_fits_is_moved() {
    in_every_mode(|mode| {
        let mut driver = Driver::live(mode, PLAIN);
        let before = disk_of(&driver);
        driver.fill(DATA, 1024, 0x11);
        for sector in [
            SECTORS - 1, // across the end
            SECTORS,     // past the end
            1 << 40,
            1 << 55, // sector * 512 overflows to 0
            (1 << 55) + 1,
            u64::MAX / 512,
            u64::MAX - 1, // sector + count overflows
            u64::MAX,
        ] {
            let answer = driver.request(request_type::IN, sector, &[writable(DATA, 1024)]);
            assert_eq!(answer, (1, status::IOERR), "IN {sector:#x}");
            let answer = driver.request(request_type::OUT, sector, &[readable(DATA, 1024)]);
            assert_eq!(answer, (1, status::IOERR), "OUT {sector:#x}");
        }
        assert_eq!(
            (disk_of(&driver), driver.bytes(DATA, 1024)),
            (before, vec![0x11; 1024])
        );
        driver.assert_serves();
    });
}

#[test]
fn the_header_is_read_once_so_that_changing_it_after_the_check_has_no_effect() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    // The read overwrites its own header, with what would be a write elsewhere.
    let mut sector = sector_content(6);
    sector[..16].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0x30, 0, 0, 0, 0, 0, 0, 0]);
    driver.disk.bytes()[6 * 512..7 * 512].copy_from_slice(&sector);
    let before = disk_of(&driver);
    let answer = driver.request(request_type::IN, 6, &[writable(HEADER, 512)]);
    assert_eq!(answer, (513, status::OK));
    assert_eq!(
        (driver.bytes(HEADER, 512), disk_of(&driver)),
        (sector, before)
    );
    driver.assert_serves();
}

// Types

#[test]
fn an_unknown_request_type_ends_with_unsupp() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    for kind in [2, 3, 5, 7, 9, 10, 11, 13, 14, 15, 0x8000_0000, u32::MAX] {
        for data in [&[][..], &[writable(DATA, 512)], &[readable(DATA, 16)]] {
            assert_eq!(
                driver.request(kind, 0, data),
                (1, status::UNSUPP),
                "type {kind}"
            );
        }
    }
    driver.assert_serves();
}

#[test]
fn write_discard_and_write_zeroes_on_a_read_only_disk_end_with_ioerr() {
    in_every_mode(|mode| {
        let mut driver = Driver::read_only(mode);
        let before = disk_of(&driver);
        for kind in [
            request_type::OUT,
            request_type::DISCARD,
            request_type::WRITE_ZEROES,
            request_type::SECURE_ERASE,
        ] {
            let answer = driver.request(kind, 0, &[readable(DATA, 512)]);
            assert_eq!(answer, (1, status::IOERR), "type {kind}");
        }
        assert_eq!(disk_of(&driver), before);
        driver.assert_serves();
    });
}

#[test]
fn flush_and_get_id_on_a_read_only_disk_succeed() {
    let mut driver = Driver::read_only(Mode::Trap);
    assert_eq!(driver.request(request_type::FLUSH, 0, &[]), (1, status::OK));
    let answer = driver.request(request_type::GET_ID, 0, &[writable(DATA, 20)]);
    assert_eq!(answer, (21, status::OK));
}

#[test]
fn get_id_answers_the_id_padded_with_zeros() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.fill(DATA, 21, 0xff);
    let answer = driver.request(request_type::GET_ID, 0, &[writable(DATA, 20)]);
    assert_eq!(answer, (21, status::OK));
    assert_eq!(
        driver.bytes(DATA, 21),
        b"test disk\0\0\0\0\0\0\0\0\0\0\0\xff"
    );
}

#[test]
fn get_id_with_a_buffer_of_less_than_20_bytes_writes_what_fits_and_never_past_it() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    for len in [1, 4, 19] {
        driver.fill(DATA, 32, 0xff);
        let answer = driver.request(request_type::GET_ID, 0, &[writable(DATA, len)]);
        assert_eq!(answer, (len + 1, status::OK));
        let id = driver.bytes(DATA, 32);
        let (written, rest) = id.split_at(len as usize);
        assert_eq!(written, &b"test disk\0\0\0\0\0\0\0\0\0\0\0"[..len as usize]);
        assert!(rest.iter().all(|byte| *byte == 0xff), "{len}");
    }
    assert_eq!(
        driver.request(request_type::GET_ID, 0, &[]),
        (1, status::OK)
    );
}

#[test]
fn get_id_with_a_buffer_of_more_than_20_bytes_writes_20() {
    let mut driver = Driver::live(Mode::Trap, PLAIN);
    driver.fill(DATA, 512, 0xff);
    let answer = driver.request(request_type::GET_ID, 0, &[writable(DATA, 512)]);
    assert_eq!(answer, (21, status::OK));
    assert_eq!(driver.bytes(DATA + 20, 492), [0xff; 492]);
}
