//! What docs/src/broken.md shows of gdb: each of its sessions is held with the real one, and what
//! is printed compared. Addresses may be others, but the same where they are the same there.

use std::collections::HashMap;
use std::fs;
use std::sync::LazyLock;

use libtest_mimic::Trial;
use regex::{Captures, Regex};

use super::{BREAKPOINTS, Debugged};
use crate::guests::start_on;
use crate::harness::file;

const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/broken.md");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/broken.gdb");
/// How lines begin that gdb prints at a terminal alone.
const AT_TERMINAL: [&str; 2] = ["Will ignore next ", "Run till exit from "];
/// What gdb is told to print around a session.
const MARK: &str = "----\n";

pub fn tests() -> Vec<Trial> {
    vec![crate::harness::test(
        "gdb_sees_of_each_broken_driver_what_the_exercise_says",
        BREAKPOINTS,
        sessions,
    )]
}

fn sessions() {
    let text = fs::read_to_string(TEXT).unwrap();
    // The first is with no bug at all.
    let sessions: Vec<_> = text
        .split("```gdb\n")
        .skip(1)
        .map(|rest| rest.split_once("```").unwrap().0)
        .collect();
    assert_eq!(sessions.len(), 6);
    for (bug, session) in sessions.into_iter().enumerate() {
        let (commands, printed): (Vec<_>, Vec<_>) =
            session.lines().partition(|line| line.starts_with("(gdb) "));
        let is_here = |line: &&&str| !AT_TERMINAL.iter().any(|begin| line.starts_with(begin));
        let printed = printed.iter().filter(is_here);
        let expected: String = printed.map(|line| format!("{line}\n")).collect();
        let printed = hold(bug, &commands);
        assert_eq!(
            without_places(&printed),
            without_places(&expected),
            "bug={bug}"
        );
    }
}

/// What gdb prints for these commands, when the script has been read.
fn hold(bug: usize, commands: &[&str]) -> String {
    let (_dir, path) = file("disk.img", &[0; 1 << 16]);
    let cmdline = format!("run=broken bug={bug}");
    let guest = Debugged::held(start_on(None, &[path.display().to_string()], &cmdline));
    let (source, mark) = (format!("source {SCRIPT}"), "echo ----\\n");
    let commands = commands.iter().map(|line| &line["(gdb) ".len()..]);
    let all: Vec<_> = [&source, mark]
        .into_iter()
        .chain(commands)
        .chain([mark])
        .collect();
    let printed = guest.gdb(&all).wait().stdout;
    assert_eq!(guest.wait().code(), i32::from(bug != 0));
    let printed = String::from_utf8(printed).unwrap();
    let mut parts = printed.split(MARK);
    parts
        .nth(1)
        .unwrap_or_else(|| panic!("{printed}"))
        .to_owned()
}

/// `text` without line numbers and numbers of frames, and with a number for each address, in the order
/// in which they come.
fn without_places(text: &str) -> String {
    static ADDRESS: LazyLock<Regex> = LazyLock::new(|| Regex::new("0x[0-9a-f]+").unwrap());
    static PLACES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?m)^\d+\t|^#\d+ |:\d+$|line \d+").unwrap());
    let mut numbers = HashMap::new();
    ADDRESS
        .replace_all(&PLACES.replace_all(text, "@"), |address: &Captures<'_>| {
            let next = numbers.len();
            let number = numbers.entry(address[0].to_owned()).or_insert(next);
            format!("@{number}")
        })
        .into_owned()
}
