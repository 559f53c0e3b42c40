//! Whether a command has printed what the guide shows: the same words, whatever the numbers. Runs
//! nothing.

use std::sync::LazyLock;

use regex::Regex;

/// A line of this in the guide stands for lines that it leaves out, be there any or not.
const LEFT_OUT: &str = "...";

/// A line without what differs from run to run and from machine to machine: each number is `N`,
/// whatever its base, sign and length, the unit of a time or size after it is `U`, and each gap is
/// one space.
fn normalised(line: &str) -> String {
    static RULES: LazyLock<[(Regex, &str); 7]> = LazyLock::new(|| {
        let rule = |pattern, to| (Regex::new(pattern).unwrap(), to);
        [
            // Figures of two columns that touch.
            (rule(r"([a-z])([0-9]+\.[0-9])", "$1 $2")),
            // Of digits alone, or hexadecimal with a digit in it: not the number in a name.
            (rule(r"\b(0x[0-9a-fA-F]+|[0-9a-f]*[0-9][0-9a-f]*)\b", "N")),
            // With a unit right behind it.
            (rule(r"\b[0-9]+([A-Za-z]+)\b", "N $1")),
            (rule(r"N([.,]N)+\b", "N")),
            (rule(r"\bN[-+]N\b", "N N")),
            (rule(r"(^|[\s(])[-+±]N\b", "${1}N")),
            (rule(r"\bN\s+(ns|us|ms|s|B|KiB|MiB|GiB)\b", "N U")),
        ]
    });
    let line = RULES.iter().fold(line.to_owned(), |line, (pattern, to)| {
        pattern.replace_all(&line, *to).into_owned()
    });
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether `printed` is `shown`.
pub fn agree(shown: &[String], printed: &[String]) -> bool {
    let lines = |lines: &[String]| -> Vec<String> {
        let lines: Vec<_> = lines.iter().map(|line| normalised(line)).collect();
        let end = lines.iter().rposition(|line| !line.is_empty());
        lines[..end.map_or(0, |last| last + 1)].to_vec()
    };
    let (shown, printed) = (lines(shown), lines(printed));
    let mut pieces = shown.split(|line| line == LEFT_OUT);
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<_> = pieces.collect();
    let Some(last) = pieces.pop() else {
        return rest.is_empty();
    };
    // Each piece at the first place where it is: nothing is lost for those that follow.
    for piece in pieces {
        let places = 0..(rest.len() + 1).saturating_sub(piece.len());
        match places.into_iter().find(|&at| rest[at..].starts_with(piece)) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
