use super::*;

/// What the guest gets when these keys are pressed; an error when the console is left.
fn guest_gets(keys: &[u8]) -> Result<Vec<u8>, ()> {
    let mut state = Keys::default();
    let mut got = Vec::new();
    for &key in keys {
        match state.press(key) {
            Key::Guest(bytes) => got.extend(bytes),
            Key::Nothing => {}
            Key::Quit => return Err(()),
        }
    }
    Ok(got)
}

#[test]
fn every_key_but_ctrl_a_is_the_guests() {
    let keys: Vec<u8> = (0..=255).filter(|&key| key != 1).collect();
    assert_eq!(guest_gets(&keys), Ok(keys));
}

#[test]
fn ctrl_a_x_leaves() {
    assert_eq!(guest_gets(b"ab\x01x"), Err(()));
    assert_eq!(guest_gets(b"\x01X"), Err(()));
}

#[test]
fn ctrl_a_twice_or_followed_by_a_is_one_ctrl_a_for_the_guest() {
    assert_eq!(guest_gets(b"\x01\x01"), Ok(vec![1]));
    assert_eq!(guest_gets(b"\x01a"), Ok(vec![1]));
    assert_eq!(guest_gets(b"\x01\x01x"), Ok(vec![1, b'x']));
}

#[test]
fn ctrl_a_before_any_other_key_is_passed_on_with_it() {
    assert_eq!(guest_gets(b"\x01q"), Ok(vec![1, b'q']));
}
