//! Requests of every kind that a story can be of: on a user's disk, on one that cannot be written, in an
//! indirect table, and of a driver that polls.

use std::fs;

use vmm::explain::story::{Act, Direction, Event, Role, Step};

use super::{STEPS, Told, assert_steps, descriptor, explain, explain_to, kinds, only};
use crate::guests::disk;
use crate::harness::file;

/// An image of which no two sectors are alike.
fn image() -> Vec<u8> {
    (0..64_u32 << 9)
        .map(|n| (n ^ n >> 9).wrapping_mul(31) as u8)
        .collect()
}

pub fn users_disk() {
    let bytes = image();
    let (_dir, path) = file("disk.img", &bytes);
    for (options, lba, len) in [(",id=mine", 5, 512), (",block_size=4096", 8, 4096)] {
        let cmdline = format!("run=explain indirect=off queue_size=16 lba={lba}");
        let disk = disk(&path, options);
        let Told { story, text } = explain(&["--disk", &disk, "--cmdline", &cmdline]);
        assert_eq!(story.device.disk.as_deref(), path.to_str());
        assert_eq!((story.device.capacity, story.queue.size), (64, 16));
        let first = lba * 512;
        for act in &story.acts {
            assert_eq!((act.sector, act.len), (lba as u64, len as u64));
            assert_eq!(
                event!(act, FileIo { offset, len }),
                (first as u64, len as u64)
            );
            let last = act.steps.last().unwrap();
            let data = last
                .after
                .buffers
                .iter()
                .find(|buffer| buffer.role == Role::Data);
            let shown = &data.unwrap().bytes;
            assert!(!shown.is_empty() && bytes[first..].starts_with(shown));
        }
        assert!(text.contains(&format!("file offset {first}")), "{text}");
        assert!(fs::read(&path).unwrap() == bytes, "the disk has changed");
    }
}

pub fn read_only() {
    let bytes = image();
    let (_dir, path) = file("disk.img", &bytes);
    let (Told { story, text }, _) = explain_to(0, &["--disk", &disk(&path, ",readonly=on")]);
    assert!(story.device.read_only);
    let [read, write] = &story.acts[..] else {
        panic!("{} acts", story.acts.len());
    };
    assert_steps(read, &STEPS);
    let refused: Vec<&str> = STEPS
        .into_iter()
        .filter(|kind| *kind != "file_io")
        .collect();
    assert_steps(write, &refused);
    let (refusal, name) = event!(write, Parsed { refusal, name });
    assert_eq!(name.as_deref(), Some("VIRTIO_BLK_T_OUT"));
    assert!(refusal.is_some_and(|reason| reason.contains("read-only")));
    let (value, name) = event!(write, StatusWritten { value, name });
    assert_eq!((value, name.as_deref()), (1, Some("VIRTIO_BLK_S_IOERR")));
    assert_eq!(event!(write, UsedSeen { status, len }), (1, 1));
    assert!(text.contains("VIRTIO_BLK_S_IOERR") && text.contains("read-only"));
    assert!(fs::read(&path).unwrap() == bytes);
}

/// No read of a register is an exit, nor is an acknowledgement: the story says so, has neither, and
/// is told to its end all the same.
pub fn mapped() {
    let (_dir, path) = file("disk.img", &image());
    let told = explain(&["--disk", &disk(&path, ",registers=mapped")]);
    let Told { story, text } = told;
    assert_eq!(story.device.registers, "mapped");
    assert!(
        (story.negotiation.iter()).all(|access| access.direction == Direction::Write),
        "{:?}",
        story.negotiation
    );
    let unseen = ["handler_entered", "register"];
    let seen: Vec<&str> = STEPS
        .into_iter()
        .filter(|kind| !unseen.contains(kind))
        .collect();
    for act in &story.acts {
        assert_steps(act, &seen);
    }
    let note = |words: &str| story.notes.iter().any(|note| note.contains(words));
    assert!(
        note("registers=mapped: the guest reads"),
        "{:?}",
        story.notes
    );
    assert!(!note("the guest does not tell"), "{:?}", story.notes);
    assert!(text.contains("each write to a register"), "{text}");
}

/// The second request of a second waits, and a note says where.
pub fn throttled() {
    let (_dir, path) = file("disk.img", &image());
    let Told { story, .. } = explain(&["--disk", &disk(&path, ",throttle=iops:1")]);
    let note = |note: &String| note.contains("The disk is throttled");
    assert!(story.notes.iter().any(note), "{:?}", story.notes);
    let waits = |act: &Act| {
        let parsed = |step: &&Step| matches!(step.event, Event::Parsed { .. });
        act.steps.iter().find(parsed).unwrap().since_ns.unwrap() > 100_000_000
    };
    assert!(waits(&story.acts[1]), "{:?}", story.acts[1].steps);
}

pub fn indirect() {
    let Told { story, text } = explain(&["--cmdline", "run=explain event_idx=off"]);
    assert_eq!((story.queue.indirect, story.queue.event_idx), (true, false));
    for act in &story.acts {
        assert_steps(act, &STEPS);
        let (chain, table) = event!(act, DescriptorsWritten { chain, indirect });
        let [one] = &chain[..] else {
            panic!("{chain:?}");
        };
        let table = table.unwrap();
        let (addr, len, flags) = descriptor(&one.descriptor);
        assert_eq!((addr, len), (table.address, 3 * 16));
        assert_eq!(flags, ["INDIRECT"]);
        let entries = table.entries.into_iter().map(|entry| entry.descriptor);
        let (_, walked) = event!(act, Walked { head, chain });
        assert_eq!(entries.collect::<Vec<_>>(), walked);
        let (event, flags) = event!(
            act,
            NotificationWanted {
                avail_event,
                used_flags
            }
        );
        assert_eq!((event, flags), (None, Some(0)));
    }
    assert!(text.contains("INDIRECT"));
}

pub fn polling() {
    let Told { story, .. } = explain(&["--cmdline", "run=explain wait=poll"]);
    for act in &story.acts {
        let told = kinds(act);
        assert!(told.contains(&"interrupt_unwanted".into()), "{told:?}");
        assert!(
            !told
                .iter()
                .any(|kind| kind == "interrupt" || kind == "handler_entered")
        );
        assert_eq!(told.last().map(String::as_str), Some("used_seen"));
    }
}
