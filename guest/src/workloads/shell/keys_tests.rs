//! What terminals send for each key, and what no terminal sends.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut decoder = Decoder::default();
    bytes.iter().filter_map(|&b| decoder.byte(b)).collect()
}

#[test]
fn each_key_has_the_sequences_that_terminals_send() {
    for (key, sequences) in [
        (Key::Up, &["\x1b[A", "\x1bOA", "\x1b[1;5A"][..]),
        (Key::Down, &["\x1b[B", "\x1bOB"]),
        (Key::Right, &["\x1b[C", "\x1bOC"]),
        (Key::Left, &["\x1b[D", "\x1bOD"]),
        (Key::Home, &["\x1b[H", "\x1bOH", "\x1b[1~", "\x1b[7~"]),
        (Key::End, &["\x1b[F", "\x1bOF", "\x1b[4~", "\x1b[8~"]),
        (Key::Delete, &["\x1b[3~", "\x1b[3;2~"]),
        (Key::Backspace, &["\x7f", "\x08"]),
        (Key::Enter, &["\r", "\n", "\r\n"]),
        (Key::Control('a'), &["\x01"]),
        (Key::Control('w'), &["\x17"]),
        (Key::Char('é'), &["é"]),
        (Key::Char('€'), &["€"]),
        (Key::Char('😀'), &["😀"]),
    ] {
        for sequence in sequences {
            let typed = [b"x", sequence.as_bytes(), b"y"].concat();
            let expected = [Key::Char('x'), key, Key::Char('y')];
            assert_eq!(keys(&typed), expected, "{sequence:?}");
        }
    }
}

#[test]
fn a_line_feed_ends_a_line_of_its_own_where_no_return_is_before_it() {
    assert_eq!(keys(b"\r\n\r\n"), [Key::Enter; 2]);
    assert_eq!(keys(b"\n\n"), [Key::Enter; 2]);
    assert_eq!(keys(b"\r\r"), [Key::Enter; 2]);
}

#[test]
fn a_sequence_that_is_broken_off_takes_no_key_with_it() {
    for begun in ["\x1b", "\x1b[", "\x1bO", "\x1b[1;", "\x1b\x1b", "\x1b[\x1b"] {
        for (key, sequence) in [
            (Key::Enter, "\r"),
            (Key::Control('c'), "\x03"),
            (Key::Backspace, "\x7f"),
            (Key::Up, "\x1b[A"),
        ] {
            let typed = [begun, sequence, "k"].concat();
            let expected = [key, Key::Char('k')];
            assert_eq!(keys(typed.as_bytes()), expected, "{typed:?}");
        }
    }
}

#[test]
fn what_is_no_key_is_left_out_and_the_next_one_is_not() {
    for nothing in [
        &b"\x1b[5~"[..],
        b"\x1b[200~",
        b"\x1bx",
        b"\x1b[?25h",
        b"\0",
        b"\xff",
        b"\xc3\xc3\xa9",
        b"\xe2\x82",
        b"\xed\xa0\x80",
        b"\xc2\x9b",
        b"\x1b[99999999999999999999~",
    ] {
        let typed = [nothing, b"k"].concat();
        let keys = keys(&typed);
        assert_eq!(keys.last(), Some(&Key::Char('k')), "{nothing:?}");
        assert!(keys.len() <= 2, "{nothing:?}: {keys:?}");
    }
}

proptest! {
    #[test]
    fn text_comes_out_as_it_went_in(text in "[^\\x00-\\x1f\\x7f-\\x9f]{0,40}") {
        let typed: Vec<Key> = text.chars().map(Key::Char).collect();
        prop_assert_eq!(keys(text.as_bytes()), typed);
    }

    #[test]
    fn whatever_is_sent_no_character_is_a_control_character(bytes: Vec<u8>) {
        for key in keys(&bytes) {
            prop_assert!(!matches!(key, Key::Char(char) if char.is_control()));
        }
    }
}
