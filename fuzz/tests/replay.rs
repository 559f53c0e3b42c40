//! Each target has its committed corpus again: what fuzzing has found stays found, on any toolchain.

// This is all test code, but its helper is no test.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

/// Runs `target` on every file of its corpus.
fn replay(name: &str, target: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let mut files: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(!files.is_empty(), "no corpus in {}", directory.display());
    files.sort();
    for file in files {
        // Shown where the test fails.
        println!("{}", file.display());
        target(&fs::read(&file).unwrap());
    }
}

#[test]
fn registers_do_what_the_model_says_for_every_input_of_the_corpus() {
    replay("registers", fuzz::registers);
}

#[test]
fn requests_are_parsed_as_the_model_says_for_every_input_of_the_corpus() {
    replay("request", fuzz::request);
}

#[test]
fn queues_are_drained_as_the_model_says_for_every_input_of_the_corpus() {
    replay("queue", fuzz::queue);
}

#[test]
fn the_device_does_what_the_model_says_for_every_input_of_the_corpus() {
    replay("device", fuzz::device);
}

#[test]
fn kernels_are_loaded_or_refused_soundly_for_every_input_of_the_corpus() {
    replay("loaders", fuzz::loaders);
}

#[test]
fn images_in_qcow2_are_used_or_refused_soundly_for_every_input_of_the_corpus() {
    replay("qcow2", fuzz::qcow2);
}

#[test]
fn command_lines_are_parsed_or_refused_soundly_for_every_input_of_the_corpus() {
    replay("command_line", fuzz::command_line);
}
