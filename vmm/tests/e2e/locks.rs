//! An image that more than one would use: other disks of the same machine, other machines, and
//! QEMU. Who only reads shares it with those who only read.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::guests::{disk, run_on, start_on};
use crate::harness::{Running, Vmm, file};
use crate::kernels::READY_AND_HALT;
use crate::needs::{Needs, tool};

pub fn tests() -> Vec<Trial> {
    let qemu_io = Needs::KvmAndTool("qemu-io");
    let test = crate::harness::test;
    vec![
        test("disk_in_use_is_refused_to_others", Needs::OwnKvm, others),
        test("disk_in_use_by_qemu_is_refused", qemu_io, in_use_by_qemu),
        test("disk_in_use_is_refused_to_qemu", qemu_io, refused_to_qemu),
    ]
}

fn image() -> (TempDir, PathBuf) {
    file("disk.img", &[0; 8 * 512])
}

/// A machine that has this disk, and waits for ever.
fn waiting(disk: String) -> (Running, TempDir) {
    let (dir, kernel) = file("kernel", READY_AND_HALT);
    let mut running = start_on(Some(&kernel), &[disk], "").spawn();
    running.expect("R");
    (running, dir)
}

fn stop((running, _dir): (Running, TempDir)) {
    running.signal(libc::SIGTERM);
    assert_eq!(running.wait().code(), 128 + libc::SIGTERM);
}

#[track_caller]
fn assert_in_use(disks: &[String], path: &Path, lock: &str) {
    let refused = run_on(None, disks, "");
    assert_eq!(refused.code(), 125);
    let expected = format!(
        "--disk: cannot use {} as a disk image: it is in use (locked by {lock})",
        path.display()
    );
    assert_eq!(refused.message(), expected);
}

fn others() {
    let (_dir, path) = image();
    let (writer, reader) = (disk(&path, ""), disk(&path, ",readonly=on"));
    assert_in_use(&[writer.clone(), writer.clone()], &path, "flock");
    let two_readers = run_on(None, &[reader.clone(), reader.clone()], "");
    two_readers.assert_ok("info devices=2 ok");

    let running = waiting(writer);
    assert_in_use(&[reader], &path, "flock");
    stop(running);
}

/// QEMU's tool with the image open; `-r` only to read.
fn qemu_io(path: &Path, options: &[&str]) -> Vmm {
    let mut qemu_io = tool("qemu-io");
    qemu_io.args(["-f", "raw"]).args(options).arg(path);
    Vmm::from_command(qemu_io)
}

fn in_use_by_qemu() {
    let (_dir, path) = image();
    let (writer, reader) = (disk(&path, ""), disk(&path, ",readonly=on"));
    for options in [&[][..], &["-r"]] {
        let mut qemu = qemu_io(&path, options).stdin(Stdio::piped()).spawn();
        qemu.expect("qemu-io> ");
        assert_in_use(std::slice::from_ref(&writer), &path, "fcntl");
        if options.is_empty() {
            assert_in_use(std::slice::from_ref(&reader), &path, "fcntl");
        } else {
            let shared = run_on(None, std::slice::from_ref(&reader), "");
            shared.assert_ok("info devices=1 ok");
        }
        assert_eq!(qemu.wait().code(), 0);
    }
    run_on(None, &[writer], "").assert_ok("info devices=1 ok");
}

fn refused_to_qemu() {
    let (_dir, path) = image();
    let read = |options: &[&str]| {
        let options = [options, &["-c", "read 0 512"]].concat();
        qemu_io(&path, &options).spawn().wait().code()
    };
    let running = waiting(disk(&path, ""));
    assert_eq!((read(&[]), read(&["-r"])), (1, 1));
    stop(running);
    let running = waiting(disk(&path, ",readonly=on"));
    assert_eq!((read(&[]), read(&["-r"])), (1, 0));
    stop(running);
    assert_eq!((read(&[]), read(&["-r"])), (0, 0));
}
