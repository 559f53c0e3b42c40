//! What a terminal sends, as keys: control characters, the escape sequences of VT100 and xterm, and
//! UTF-8. Knows nothing of what the keys do.

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character that is shown.
    Char(char),
    /// Enter.
    Enter,
    /// The key for the character before the cursor.
    Backspace,
    /// The key for the character under the cursor.
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    /// A control character that is none of the above, by its letter: `c` for Ctrl-C.
    Control(char),
}

/// The bytes of a key that is not complete, and what was before them.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// Whether the last byte was a carriage return: a line feed after it is no second Enter.
    after_return: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After ESC `[` or ESC `O`: the first parameter, and whether it is over.
    Sequence { parameter: u8, over: bool },
    /// In the middle of a character of UTF-8.
    Char {
        bytes: [u8; 4],
        have: usize,
        needed: usize,
    },
}

const ESC: u8 = 0x1b;
const DEL: u8 = 0x7f;

impl Decoder {
    /// Takes the next byte; returns the key that it completes.
    pub fn byte(&mut self, byte: u8) -> Option<Key> {
        let after_return = core::mem::replace(&mut self.after_return, byte == b'\r');
        match core::mem::take(&mut self.state) {
            State::Escape if matches!(byte, b'[' | b'O') => {
                self.state = State::Sequence {
                    parameter: 0,
                    over: false,
                };
                None
            }
            // What has begun was no key: Enter and Ctrl-C are not lost behind it.
            State::Escape | State::Sequence { .. } if is_control(byte) => {
                self.ground(byte, after_return)
            }
            // Alt and a key.
            State::Escape => None,
            State::Sequence { parameter, over } => self.sequence(byte, parameter, over),
            State::Char {
                bytes,
                have,
                needed,
            } if byte & 0xc0 == 0x80 => self.char(byte, bytes, have, needed),
            // What has begun was no character, and is left out.
            State::Ground | State::Char { .. } => self.ground(byte, after_return),
        }
    }

    fn ground(&mut self, byte: u8, after_return: bool) -> Option<Key> {
        let needed = match byte {
            ESC => {
                self.state = State::Escape;
                return None;
            }
            b'\n' if after_return => return None,
            b'\r' | b'\n' => return Some(Key::Enter),
            8 | DEL => return Some(Key::Backspace),
            // A tabulator is a space: there is nothing to complete.
            b'\t' => return Some(Key::Char(' ')),
            0 => return None,
            1..b' ' => return Some(Key::Control(char::from(byte | 0x60))),
            b' '..DEL => return Some(Key::Char(char::from(byte))),
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return None,
        };
        self.state = State::Char {
            bytes: [byte, 0, 0, 0],
            have: 1,
            needed,
        };
        None
    }

    fn char(&mut self, byte: u8, mut bytes: [u8; 4], have: usize, needed: usize) -> Option<Key> {
        bytes[have] = byte;
        let have = have + 1;
        if have < needed {
            self.state = State::Char {
                bytes,
                have,
                needed,
            };
            return None;
        }
        let text = core::str::from_utf8(&bytes[..needed]).ok()?;
        let char = text.chars().next()?;
        // Such as would move the cursor.
        (!char.is_control()).then_some(Key::Char(char))
    }

    fn sequence(&mut self, byte: u8, parameter: u8, over: bool) -> Option<Key> {
        match byte {
            b'0'..=b'9' if !over => {
                let parameter = parameter.saturating_mul(10).saturating_add(byte - b'0');
                self.state = State::Sequence { parameter, over };
                None
            }
            // Further parameters, as of a key with Shift, and intermediate characters.
            0x20..=0x3f => {
                self.state = State::Sequence {
                    parameter,
                    over: true,
                };
                None
            }
            b'A' => Some(Key::Up),
            b'B' => Some(Key::Down),
            b'C' => Some(Key::Right),
            b'D' => Some(Key::Left),
            b'H' => Some(Key::Home),
            b'F' => Some(Key::End),
            b'~' => match parameter {
                1 | 7 => Some(Key::Home),
                4 | 8 => Some(Key::End),
                3 => Some(Key::Delete),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Whether `byte` is a key by itself, whatever was before it.
const fn is_control(byte: u8) -> bool {
    byte < b' ' || byte == DEL
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
