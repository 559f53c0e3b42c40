//! What docs/src/broken.md shows of gdb: each of its sessions is held with the real one, and what
//! is printed compared. Addresses may be others, but the same where they are the same there.

use std::collections::HashMap;
use std::fs;

use libtest_mimic::Trial;

use super::{BREAKPOINTS, Debugged};
use crate::guests::start_on;
use crate::harness::file;

const TEXT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/broken.md");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/src/broken.gdb");
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
        let expected: String = printed.iter().map(|line| format!("{line}\n")).collect();
        assert_eq!(
            numbered(&hold(bug, &commands)),
            numbered(&expected),
            "bug={bug}"
        );
    }
}

/// What gdb prints for these commands, once the workload has seen that something is wrong.
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

/// `text` with a number for each address, in the order in which they come.
fn numbered(text: &str) -> String {
    let mut numbers = HashMap::new();
    let mut parts = text.split("0x");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |done, part| {
        let end = part.find(|c: char| !c.is_ascii_hexdigit());
        let (address, rest) = part.split_at(end.unwrap_or(part.len()));
        let next = numbers.len();
        let number = numbers.entry(address).or_insert(next);
        format!("{done}@{number}{rest}")
    })
}
