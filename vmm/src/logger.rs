//! What the log facade carries, one line each on stderr. Whatever a guest has put into a message
//! arrives there as harmless text.

use std::io::{self, Write};

use log::{LevelFilter, Log, Metadata, Record, SetLoggerError};

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LevelFilter::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = match record.level() {
                log::Level::Error => "error",
                _ => "warning",
            };
            say(&format!("{level}: {}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// Sends warnings and errors to stderr.
///
/// # Errors
/// Where there is a logger already.
pub fn init() -> Result<(), SetLoggerError> {
    log::set_logger(&Stderr)?;
    log::set_max_level(LevelFilter::Warn);
    Ok(())
}

/// Writes one line `vmm: MESSAGE` to stderr.
pub fn say(message: &str) {
    // When stderr is gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "vmm: {}", printable(message));
}

/// `text` in one line, with control characters escaped.
fn printable(text: &str) -> String {
    escaped(text, char::is_control)
}

/// `text` with control characters escaped, but for the ends of its lines.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    escaped(text, |c| c != '\n' && c.is_control())
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_all_else_is_kept() {
        assert_eq!(printable("a\nb\x1b[31m\u{7f}"), "a\\nb\\u{1b}[31m\\u{7f}");
        assert_eq!(printable("gr\u{fc}n: 100%"), "gr\u{fc}n: 100%");
        assert_eq!(printable_lines("a\nb\x1b\n"), "a\nb\\u{1b}\n");
    }
}
