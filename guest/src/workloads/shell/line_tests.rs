//! The editor against a model of it that is as simple as can be, and against a terminal, which must
//! show what the model has.

use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const PROMPT: &str = "> ";

/// A terminal that is wide enough: one line, and a cursor. It knows the sequences that the editor is
/// to make do with.
#[derive(Default)]
struct Terminal {
    cells: Vec<char>,
    cursor: usize,
    bells: usize,
    /// What has come of an escape sequence.
    sequence: Option<String>,
    entered: Vec<String>,
}

impl Write for Terminal {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().for_each(|char| self.char(char));
        Ok(())
    }
}

impl Terminal {
    fn char(&mut self, char: char) {
        if let Some(sequence) = &mut self.sequence {
            sequence.push(char);
            if char.is_ascii_alphabetic() {
                let sequence = self.sequence.take().unwrap();
                self.sequence(&sequence);
            }
            return;
        }
        match char {
            '\x1b' => self.sequence = Some(String::new()),
            BELL => self.bells += 1,
            '\n' => {
                self.entered.push(self.shown());
                self.cells.clear();
                self.cursor = 0;
            }
            _ => {
                assert!(!char.is_control(), "{char:?}");
                if self.cursor == self.cells.len() {
                    self.cells.push(char);
                } else {
                    self.cells[self.cursor] = char;
                }
                self.cursor += 1;
            }
        }
    }

    fn sequence(&mut self, sequence: &str) {
        if sequence == "[K" {
            self.cells.truncate(self.cursor);
            return;
        }
        let columns = sequence.strip_prefix('[').and_then(|s| s.strip_suffix('D'));
        let columns: usize = columns.unwrap().parse().unwrap();
        assert!(columns > 0 && columns <= self.cursor);
        self.cursor -= columns;
    }

    fn shown(&self) -> String {
        self.cells.iter().collect()
    }
}

/// The editor as it is meant.
#[derive(Clone, Default)]
struct Model {
    line: Vec<char>,
    cursor: usize,
    /// The lines of the history, and the new one.
    lines: Vec<Vec<char>>,
    place: usize,
    cut: Vec<char>,
    draft: Vec<char>,
}

/// What can be typed, and how.
#[derive(Clone, Debug)]
enum Press {
    Char(char),
    Key(&'static str),
}

fn press() -> impl Strategy<Value = Press> {
    let keys = [
        "\r", "\n", "\x7f", "\x08", "\x1b[3~", "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1bOA",
        "\x1b[H", "\x1b[F", "\x01", "\x02", "\x03", "\x05", "\x06", "\x0b", "\x0e", "\x10", "\x15",
        "\x17", "\x19", "\x04",
    ];
    prop_oneof![
        3 => prop_oneof!["[a-c ]", "[é€]"].prop_map(|text| Press::Char(text.chars().next().unwrap())),
        2 => prop::sample::select(keys.to_vec()).prop_map(Press::Key),
    ]
}

impl Model {
    /// Does what the keys mean; returns the line that is entered.
    fn press(&mut self, press: &Press) -> Typed {
        let (len, cursor) = (self.line.len(), self.cursor);
        match press {
            Press::Char(char) => {
                self.line.insert(cursor, *char);
                self.cursor += 1;
            }
            Press::Key(key) => match *key {
                "\r" | "\n" => {
                    let line = core::mem::take(&mut self.line);
                    let blank = line.iter().all(|char| *char == ' ');
                    if !blank && self.lines.last() != Some(&line) {
                        self.lines.push(line.clone());
                    }
                    if self.lines.len() > HISTORY_LINES {
                        self.lines.remove(0);
                    }
                    self.anew();
                    return Typed::Line(line.into_iter().collect());
                }
                "\x03" => {
                    self.anew();
                    return Typed::Cancelled;
                }
                "\x04" if len == 0 => return Typed::End,
                "\x7f" | "\x08" => self.remove(cursor.saturating_sub(1), cursor),
                "\x1b[3~" | "\x04" => self.remove(cursor, (cursor + 1).min(len)),
                "\x0b" => self.cut(cursor, len),
                "\x15" => self.cut(0, cursor),
                "\x17" => {
                    let mut start = cursor;
                    while start > 0 && self.line[start - 1] == ' ' {
                        start -= 1;
                    }
                    while start > 0 && self.line[start - 1] != ' ' {
                        start -= 1;
                    }
                    self.cut(start, cursor);
                }
                "\x19" => {
                    let cut = self.cut.clone();
                    self.line.splice(cursor..cursor, cut);
                    self.cursor += self.cut.len();
                }
                "\x1b[D" | "\x02" => self.cursor = cursor.saturating_sub(1),
                "\x1b[C" | "\x06" => self.cursor = (cursor + 1).min(len),
                "\x1b[H" | "\x01" => self.cursor = 0,
                "\x1b[F" | "\x05" => self.cursor = len,
                "\x1b[A" | "\x1bOA" | "\x10" => self.show(self.place.wrapping_sub(1)),
                "\x1b[B" | "\x0e" => self.show(self.place + 1),
                other => panic!("{other:?}"),
            },
        }
        Typed::More
    }

    fn anew(&mut self) {
        self.line.clear();
        self.cursor = 0;
        self.place = self.lines.len();
        self.draft.clear();
    }

    fn show(&mut self, place: usize) {
        if place > self.lines.len() {
            return;
        }
        if self.place == self.lines.len() {
            self.draft = self.line.clone();
        }
        self.place = place;
        self.line = match self.lines.get(place) {
            Some(line) => line.clone(),
            None => self.draft.clone(),
        };
        self.cursor = self.line.len();
    }

    fn remove(&mut self, start: usize, end: usize) {
        self.line.drain(start..end);
        self.cursor = start;
    }

    fn cut(&mut self, start: usize, end: usize) {
        if start < end {
            self.cut = self.line[start..end].to_vec();
        }
        self.remove(start, end);
    }
}

/// Presses a key in the editor, at `terminal`.
fn type_at(editor: &mut Editor, terminal: &mut Terminal, press: &Press) -> Typed {
    let text = match press {
        Press::Char(char) => char.to_string(),
        Press::Key(key) => (*key).into(),
    };
    let mut typed = Typed::More;
    for byte in text.bytes() {
        assert_eq!(typed, Typed::More, "before the last byte of {text:?}");
        typed = editor.byte(byte, terminal).unwrap();
    }
    typed
}

proptest! {
    #[test]
    fn keys_do_to_the_line_and_the_terminal_shows_what_the_model_says(
        presses in prop::collection::vec(press(), 0..400),
    ) {
        let (mut editor, mut model) = (Editor::default(), Model::default());
        model.anew();
        let mut terminal = Terminal::default();
        terminal.write_str(PROMPT).unwrap();
        let mut after_return = false;
        for press in presses {
            // A line feed after a return is the second half of one key.
            let half = after_return && matches!(press, Press::Key("\n"));
            after_return = matches!(press, Press::Key("\r"));
            let typed = type_at(&mut editor, &mut terminal, &press);
            let expected = if half { Typed::More } else { model.press(&press) };
            prop_assert_eq!(&typed, &expected, "{:?}", press);
            if matches!(typed, Typed::Line(_) | Typed::Cancelled) {
                terminal.write_str(PROMPT).unwrap();
            }
            let line: String = model.line.iter().collect();
            prop_assert_eq!(&editor.line, &line);
            prop_assert_eq!(editor.line[..editor.cursor].chars().count(), model.cursor);
            prop_assert_eq!(terminal.shown(), [PROMPT, &line].concat());
            prop_assert_eq!(terminal.cursor, PROMPT.len() + model.cursor);
        }
    }

    #[test]
    fn whatever_is_sent_the_terminal_shows_the_line(bytes: Vec<u8>) {
        let (mut editor, mut terminal) = (Editor::default(), Terminal::default());
        for byte in bytes {
            editor.byte(byte, &mut terminal).unwrap();
            prop_assert_eq!(terminal.shown(), editor.line.as_str());
        }
    }
}

#[test]
fn a_line_that_is_entered_is_shown_as_it_is_and_nothing_else() {
    let (mut editor, mut out) = (Editor::default(), String::new());
    for byte in b"read 0\r" {
        editor.byte(*byte, &mut out).unwrap();
    }
    assert_eq!(out, "read 0\n");
}

#[test]
fn a_line_has_an_end_that_a_bell_tells_of() {
    let (mut editor, mut terminal) = (Editor::default(), Terminal::default());
    for _ in 0..LINE_MAX + 3 {
        editor.byte(b'x', &mut terminal).unwrap();
    }
    assert_eq!(terminal.bells, 3);
    assert_eq!(editor.line.len(), LINE_MAX);
}

#[test]
fn the_history_is_bounded_in_lines_and_in_bytes() {
    let (mut editor, mut terminal) = (Editor::default(), Terminal::default());
    for i in 0..3 * HISTORY_LINES {
        for byte in std::format!("{i}\r").bytes() {
            editor.byte(byte, &mut terminal).unwrap();
        }
    }
    assert_eq!(editor.history.len(), HISTORY_LINES);
    assert_eq!(editor.history.back().map(String::as_str), Some("191"));
    for i in 0..8 {
        for byte in std::format!("{i}{}\r", "x".repeat(LINE_MAX - 1)).bytes() {
            editor.byte(byte, &mut terminal).unwrap();
        }
    }
    assert_eq!(editor.history.len(), HISTORY_BYTES / LINE_MAX);
}
