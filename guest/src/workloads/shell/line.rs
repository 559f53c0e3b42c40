//! The line that is being typed: editing, history, and how a terminal shows both. It takes keys and
//! returns lines; what they mean is not its matter. A line longer than the terminal is wide is shown
//! as the terminal wraps it, and is right again when its end is edited or it is entered.

use alloc::collections::VecDeque;
use alloc::string::String;
use core::fmt::{self, Write};

use super::keys::{Decoder, Key};

/// The longest line, in bytes. What is typed beyond is answered by a bell.
pub const LINE_MAX: usize = 16 << 10;
/// How many lines are remembered, and how many bytes they have at most.
pub const HISTORY_LINES: usize = 64;
const HISTORY_BYTES: usize = 4 * LINE_MAX;

const BELL: char = '\x07';

/// What has come of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// The line goes on.
    More,
    /// The line has been entered.
    Line(String),
    /// The user has given up on the line.
    Cancelled,
    /// The user has asked for the end, on an empty line.
    End,
}

/// The line editor.
#[derive(Debug, Default)]
pub struct Editor {
    decoder: Decoder,
    line: String,
    /// Where the cursor is, in bytes from the start of the line.
    cursor: usize,
    history: VecDeque<String>,
    /// Which line of the history is shown; one past the last for the one that is new.
    place: usize,
    /// The new line, while another is shown.
    draft: String,
    /// What was last cut.
    cut: String,
}

impl Editor {
    /// Takes what has been typed of a line, as at the end of the input.
    pub fn take(&mut self) -> String {
        self.cursor = 0;
        core::mem::take(&mut self.line)
    }

    /// Takes the next byte that the terminal sends, and shows on it what that changes.
    ///
    /// # Errors
    /// That of `out`.
    pub fn byte(&mut self, byte: u8, out: &mut dyn Write) -> Result<Typed, fmt::Error> {
        match self.decoder.byte(byte) {
            None => Ok(Typed::More),
            Some(key) => self.key(key, out),
        }
    }

    fn key(&mut self, key: Key, out: &mut dyn Write) -> Result<Typed, fmt::Error> {
        let len = self.line.len();
        match key {
            Key::Char(char) => self.insert(char.encode_utf8(&mut [0; 4]), out)?,
            Key::Enter => {
                out.write_char('\n')?;
                return Ok(Typed::Line(self.enter()));
            }
            Key::Control('c') => {
                out.write_str("^C\n")?;
                self.forget();
                return Ok(Typed::Cancelled);
            }
            Key::Control('d') if self.line.is_empty() => return Ok(Typed::End),
            Key::Control('d') | Key::Delete => self.remove(self.cursor, self.after(), out)?,
            Key::Backspace => self.remove(self.before(), self.cursor, out)?,
            Key::Control('k') => self.cut(self.cursor, len, out)?,
            Key::Control('u') => self.cut(0, self.cursor, out)?,
            Key::Control('w') => self.cut(self.word_before(), self.cursor, out)?,
            Key::Control('y') => {
                let cut = core::mem::take(&mut self.cut);
                self.insert(&cut, out)?;
                self.cut = cut;
            }
            Key::Left | Key::Control('b') => self.go_to(self.before(), out)?,
            Key::Right | Key::Control('f') => self.go_to(self.after(), out)?,
            Key::Home | Key::Control('a') => self.go_to(0, out)?,
            Key::End | Key::Control('e') => self.go_to(len, out)?,
            Key::Up | Key::Control('p') => self.show_place(self.place.checked_sub(1), out)?,
            Key::Down | Key::Control('n') => self.show_place(self.place.checked_add(1), out)?,
            Key::Control(_) => out.write_char(BELL)?,
        }
        Ok(Typed::More)
    }

    /// Where the character before the cursor begins.
    fn before(&self) -> usize {
        let char = self.line[..self.cursor].chars().next_back();
        self.cursor - char.map_or(0, char::len_utf8)
    }

    /// Where the character under the cursor ends.
    fn after(&self) -> usize {
        let char = self.line[self.cursor..].chars().next();
        self.cursor + char.map_or(0, char::len_utf8)
    }

    /// Where the word before the cursor begins.
    fn word_before(&self) -> usize {
        let text = self.line[..self.cursor].trim_end_matches(' ');
        text.rfind(' ').map_or(0, |space| space + 1)
    }

    fn insert(&mut self, text: &str, out: &mut dyn Write) -> fmt::Result {
        if self.line.len() + text.len() > LINE_MAX {
            return out.write_char(BELL);
        }
        self.line.insert_str(self.cursor, text);
        // At the end, this is all that the terminal is told.
        out.write_str(&self.line[self.cursor..])?;
        self.cursor += text.len();
        left(out, columns(&self.line[self.cursor..]))
    }

    fn remove(&mut self, start: usize, end: usize, out: &mut dyn Write) -> fmt::Result {
        if start == end {
            return out.write_char(BELL);
        }
        self.go_to(start, out)?;
        self.line.replace_range(start..end, "");
        let rest = &self.line[start..];
        out.write_str(rest)?;
        out.write_str("\x1b[K")?;
        left(out, columns(rest))
    }

    fn cut(&mut self, start: usize, end: usize, out: &mut dyn Write) -> fmt::Result {
        if start < end {
            self.cut = self.line[start..end].into();
        }
        self.remove(start, end, out)
    }

    fn go_to(&mut self, to: usize, out: &mut dyn Write) -> fmt::Result {
        if to < self.cursor {
            left(out, columns(&self.line[to..self.cursor]))?;
        } else {
            out.write_str(&self.line[self.cursor..to])?;
        }
        self.cursor = to;
        Ok(())
    }

    /// Shows another line of the history, or the new one, instead of this.
    fn show_place(&mut self, place: Option<usize>, out: &mut dyn Write) -> fmt::Result {
        let Some(place) = place.filter(|&place| place <= self.history.len()) else {
            return out.write_char(BELL);
        };
        self.go_to(0, out)?;
        if self.place == self.history.len() {
            self.draft = core::mem::take(&mut self.line);
        }
        self.place = place;
        self.line = match self.history.get(place) {
            Some(line) => line.clone(),
            None => core::mem::take(&mut self.draft),
        };
        self.cursor = self.line.len();
        out.write_str(&self.line)?;
        out.write_str("\x1b[K")
    }

    /// Ends the line, and remembers it unless it is blank or was the last one too.
    fn enter(&mut self) -> String {
        let line = self.take();
        if !line.trim_ascii().is_empty() && self.history.back() != Some(&line) {
            self.history.push_back(line.clone());
        }
        let mut bytes: usize = self.history.iter().map(String::len).sum();
        while bytes > HISTORY_BYTES || self.history.len() > HISTORY_LINES {
            bytes -= self.history.pop_front().map_or(bytes, |line| line.len());
        }
        self.forget();
        line
    }

    fn forget(&mut self) {
        self.line.clear();
        self.draft.clear();
        self.cursor = 0;
        self.place = self.history.len();
    }
}

/// How many columns `text` takes up.
fn columns(text: &str) -> usize {
    text.chars().count()
}

/// Moves the cursor to the left.
fn left(out: &mut dyn Write, columns: usize) -> fmt::Result {
    match columns {
        0 => Ok(()),
        _ => write!(out, "\x1b[{columns}D"),
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
