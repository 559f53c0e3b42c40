//! What is left of an image when the power fails, or the process is killed, at any moment.

#![cfg(feature = "qcow2")]
#![allow(clippy::unwrap_used)]

#[path = "common/qcow2.rs"]
mod qcow2;

use std::fs;
use std::sync::{Arc, Mutex};

use devices::virtio::block::backend::{BlockBackend, FileEvent, Recorder};
use qcow2::*;
use spec::rng::Rng;
use tempfile::TempDir;

/// What has been done to a file.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<FileEvent>>);

impl Recorder for Log {
    fn record(&self, event: FileEvent) {
        self.0.lock().unwrap().push(event);
    }
}

/// What is left of what was `done` to `image` when the power fails: all that was synced, and of the rest
/// some sectors, or where the process was killed and no more, all.
fn after_a_crash(image: &[u8], done: &[FileEvent], mut is_kept: impl FnMut() -> bool) -> Vec<u8> {
    let mut after = image.to_vec();
    let synced = done
        .iter()
        .rposition(|done| matches!(done, FileEvent::Synced));
    for (index, done) in done.iter().enumerate() {
        let is_stable = synced.is_some_and(|synced| index < synced);
        let (position, bytes) = match done {
            FileEvent::Synced => continue,
            FileEvent::Write(position, bytes) => (*position as usize, bytes.clone()),
            FileEvent::Clear(position, len) => (*position as usize, vec![0; *len as usize]),
        };
        after.resize(after.len().max(position + bytes.len()), 0);
        let mut at = 0;
        while at < bytes.len() {
            let end = (at + 512 - (position + at) % 512).min(bytes.len());
            if is_stable || is_kept() {
                after[position + at..position + end].copy_from_slice(&bytes[at..end]);
            }
            at = end;
        }
    }
    after
}

/// Something that a disk has been asked for.
struct Change {
    /// How much had been done to the file before.
    begun: usize,
    start: usize,
    end: usize,
    byte: u8,
}

/// A disk when it has been flushed.
struct Flushed {
    /// How much had been done to the file.
    done: usize,
    /// How many changes of the disk there had been.
    changes: usize,
    content: Vec<u8>,
}

/// That each sector is as it was `flushed`, or as one of the changes has it that were begun since.
#[track_caller]
fn assert_old_or_new(after: &[u8], flushed: &Flushed, begun: &[Change], what: &str) {
    for (index, sector) in after.chunks(512).enumerate() {
        let at = index * 512;
        let is = |byte: u8| sector.iter().all(|other| *other == byte);
        let mut since = begun
            .iter()
            .filter(|change| (change.start..change.end).contains(&at));
        assert!(
            sector == &flushed.content[at..at + 512] || since.any(|change| is(change.byte)),
            "{what}: sector {index} is {:02x?}",
            &sector[..4]
        );
    }
}

/// Changes the image at random, and has it checked after power failures at random moments.
fn try_power_failures(dir: &TempDir, content: Vec<u8>, seed: u64, what: &str) {
    let (path, size) = (dir.path().join("image"), content.len());
    let disk = || {
        qemu_img_says_ok(dir, "convert -t unsafe -f qcow2 -O raw image after");
        fs::read(dir.path().join("after")).unwrap()
    };
    let before = fs::read(&path).unwrap();
    let log = Arc::new(Log::default());
    let done = || log.0.lock().unwrap().len();
    let backend = open_recorded(&path, Arc::clone(&log) as _).unwrap();
    let mut rng = Rng::new(seed);
    let (mut model, mut changes) = (content.clone(), Vec::new());
    let mut flushed = vec![Flushed {
        done: 0,
        changes: 0,
        content,
    }];
    for _ in 0..150 {
        let (start, len) = range(&mut rng, size);
        let mut change = Change {
            begun: done(),
            start,
            end: start + len,
            byte: 0,
        };
        match below(&mut rng, 10) {
            0 => {
                backend.flush().unwrap();
                flushed.push(Flushed {
                    done: done(),
                    changes: changes.len(),
                    content: model.clone(),
                });
                continue;
            }
            how @ 1..4 => backend
                .write_zeroes(start as u64, len as u64, how > 1)
                .unwrap(),
            _ => {
                change.byte = below(&mut rng, 256) as u8;
                write(&backend, start as u64, &mut vec![change.byte; len]);
            }
        }
        model[start..start + len].fill(change.byte);
        changes.push(change);
    }
    drop(backend);
    let log = log.0.lock().unwrap().clone();
    for crash in 0..24 {
        let end = below(&mut rng, log.len() as u64 + 1) as usize;
        let chance = crash % 3;
        let is_kept = || chance == 0 || below(&mut rng, 3) < chance;
        fs::write(&path, after_a_crash(&before, &log[..end], is_kept)).unwrap();
        let output = qemu_img(dir, &["check", "-f", "qcow2", "image"]).unwrap();
        // 3 is for nothing worse than leaks.
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 3)), "{what}, {crash}: {output:?}");
        let last = flushed.iter().rfind(|flushed| flushed.done <= end).unwrap();
        let since = &changes[last.changes..];
        let begun = since.partition_point(|change| change.begun <= end);
        let what = format!("{what}, {crash}");
        assert_old_or_new(&disk(), last, &since[..begun], &what);
    }
    for flushed in flushed {
        fs::write(
            &path,
            after_a_crash(&before, &log[..flushed.done], || false),
        )
        .unwrap();
        qemu_img_says_ok(dir, "check -q -f qcow2 image");
        assert!(disk() == flushed.content, "{what}");
    }
}

/// More tables than imago keeps, where clusters are small.
const SIZE: usize = 6 * MIB;

#[test]
fn an_image_is_sound_whenever_the_power_fails_and_has_what_was_flushed() {
    let kinds = [
        "cluster_size=512",
        "cluster_size=4k",
        "cluster_size=512,refcount_bits=64",
        "cluster_size=1k,refcount_bits=2",
        "cluster_size=4k,compat=0.10",
    ];
    for (seed, kind) in (0..).zip(kinds) {
        let create = format!("create -q -f qcow2 -o {kind} image {SIZE}");
        let Some(dir) = made(&[&create]) else { return };
        try_power_failures(&dir, vec![0; SIZE], seed, kind);
    }
}

#[test]
fn a_power_failure_leaves_what_was_written_over_other_clusters_or_those() {
    let Some(dir) = made(&[]) else { return };
    let content: Vec<u8> = (0..SIZE).map(|at| (at / 512 * 7 + 1) as u8).collect();
    fs::write(dir.path().join("raw"), &content).unwrap();
    let ways: [(&str, &[&str]); 3] = [
        (
            "compressed",
            &["convert -c -f raw -O qcow2 -o cluster_size=4k raw image"],
        ),
        (
            "backing",
            &["create -q -f qcow2 -F raw -b raw -o cluster_size=1k image"],
        ),
        (
            "snapshot",
            &[
                "convert -f raw -O qcow2 -o cluster_size=1k raw image",
                "snapshot -q -c kept image",
            ],
        ),
    ];
    for (seed, (what, commands)) in (0..).zip(ways) {
        for command in commands {
            let args: Vec<_> = command.split(' ').collect();
            let Some(output) = qemu_img(&dir, &args) else {
                return;
            };
            assert!(output.status.success(), "{command}: {output:?}");
        }
        try_power_failures(&dir, content.clone(), seed, what);
    }
}
