//! Command lines: the program's own, as any words, and the kernel's, as the guest reads it. What is
//! accepted makes sense, and the guest finds in the kernel's what the program has put there.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use guest::cmdline::{self, CommandLine, Window};
use spec::block::ID_SIZE;
use spec::board::{VIRTIO_MMIO_MAX, VIRTIO_MMIO_SIZE};
use vmm::cli::{self, Command, NoRun};
use vmm::config::{self, VmConfig};
use vmm::layout::{self, CMDLINE_SIZE, MIN_MEMORY, PAGE_SIZE};

/// Parses `data`: as the words of a command line, with a NUL between one and the next, and as a
/// kernel command line, as far as it is text.
pub fn command_line(data: &[u8]) {
    let words = data.split(|&byte| byte == 0).map(OsStr::from_bytes);
    let words = words.map(OsString::from);
    match cli::parse([OsString::from("vmm")].into_iter().chain(words)) {
        Ok(Command::Run(config)) => assert_sound(&config),
        Ok(Command::Explain(request)) => assert_sound(&request.config),
        Ok(Command::Bench(_)) | Err(NoRun::Text(_)) => {}
        Err(NoRun::Wrong(reason)) => {
            assert!(
                !reason.is_empty() && !reason.contains('\n'),
                "not a line: {reason:?}"
            );
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        read_by_guest(text);
    }
}

/// What a machine needs, and no argument can undo.
fn assert_sound(config: &VmConfig) {
    assert!(config.cpus >= 1);
    assert!(
        config.memory >= MIN_MEMORY && config.memory.is_multiple_of(PAGE_SIZE),
        "{config:?}"
    );
    assert!(config.disks.len() <= VIRTIO_MMIO_MAX);
    for disk in &config.disks {
        assert!(!disk.path.as_os_str().is_empty());
        assert!((1..=ID_SIZE).contains(&disk.id.len()), "{disk:?}");
        assert!(
            disk.id.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{disk:?}"
        );
    }
    let cmdline = config.cmdline.as_bytes_with_nul();
    assert!(cmdline.len() <= CMDLINE_SIZE, "{} bytes", cmdline.len());

    // The guest may be told of other devices by the user, but of these in this order.
    let mut windows = CommandLine(config.cmdline.to_str().unwrap()).devices();
    for layout::VirtioMmio { base, gsi } in config::windows(&config.disks) {
        let size = VIRTIO_MMIO_SIZE;
        let window = Window { base, size, gsi };
        assert!(
            windows.any(|found| found == Ok(window)),
            "no {window:?} in {:?}",
            config.cmdline
        );
    }
}

/// The guest's own reading of a command line.
fn read_by_guest(text: &str) {
    let line = CommandLine(text);
    let words: Vec<String> = line
        .words()
        .map(|(key, value)| value.map_or(key.into(), |value| format!("{key}={value}")))
        .collect();
    assert!(
        words
            .iter()
            .map(String::as_str)
            .eq(text.split_ascii_whitespace())
    );
    for (key, _) in line.pairs() {
        let last = line.pairs().filter(|(other, _)| *other == key).last();
        assert_eq!(line.value(key), last.map(|(_, value)| value));
    }
    for window in line.devices().flatten() {
        assert!(
            window.size > 0 && window.base.checked_add(window.size).is_some(),
            "{window:?}"
        );
    }
    for word in text.split_ascii_whitespace() {
        assert_number(word);
    }
}

/// A number is digits, and as a size it is the same.
fn assert_number(word: &str) {
    let (number, size) = (cmdline::number(word), cmdline::size(word));
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        assert_eq!(number, word.parse().ok(), "{word}");
    }
    if number.or(size).is_some() {
        assert!(
            word.starts_with(|first: char| first.is_ascii_digit()),
            "{word}"
        );
        assert!(!word.contains(['+', '-']), "{word}");
    }
    if number.is_some() {
        assert!(size.is_none_or(|size| Some(size) == number), "{word}");
    }
}
