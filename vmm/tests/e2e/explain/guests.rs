//! Guests of every kind: given as a kernel, Linux, and those of which there is no story to tell.

use std::fs;
use std::path::Path;

use vmm::explain::story::{Event, Story};

use super::{STEPS, Told, assert_steps, explain, explain_to, kinds, only};
use crate::guests::GUEST_ELF;
use crate::harness::{Vmm, file, run};
use crate::kernels;
use crate::linux::linux;

pub fn kernel() {
    let built_in = explain(&[]).story;
    let notify = |story: &Story| event!(&story.acts[0], Notify { by, value }).0;
    let elf = explain(&["--kernel", GUEST_ELF]);
    assert_eq!(elf.story.machine.kernel.as_deref(), Some(GUEST_ELF));
    assert_eq!(notify(&elf.story), notify(&built_in));
    // The flat binary has no symbols: what is not known is not said.
    let flat = explain(&["--kernel", env!("GUEST_BIN")]).story;
    let (known, unknown) = (notify(&built_in), notify(&flat));
    assert_eq!(
        (unknown.rip, unknown.instruction),
        (known.rip, known.instruction)
    );
    assert_eq!(unknown.symbol, None);
    assert!(flat.notes.iter().any(|note| note.contains("no symbols")));
    assert_steps(&flat.acts[0], &STEPS);
}

pub fn cut_short() {
    let (info, ended) = explain_to(125, &["--cmdline", "run=info"]);
    assert_eq!(info.story.acts.len(), 1);
    let message = ended.stderr.lines().last().unwrap();
    assert_eq!(
        message,
        "vmm: explain: the story ended before the guest wrote a sector"
    );
    assert!(
        ended.stderr.contains("info devices=1 ok\n"),
        "{}",
        ended.stderr
    );

    let (far, ended) = explain_to(1, &["--cmdline", "run=explain lba=1000"]);
    assert!(far.story.acts.is_empty() && far.story.queue.size > 0);
    let message = ended.stderr.lines().last().unwrap();
    assert!(
        message.ends_with("before the guest read or wrote a sector"),
        "{message}"
    );
    assert!(ended.stderr.contains("past the end of the disk"));

    let (crashed, ended) = explain_to(126, &["--cmdline", "run=crash how=triple-fault"]);
    assert!(crashed.story.negotiation.is_empty());
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(
        lines[0],
        "vmm: explain: the story ended before the guest touched the disk"
    );
    assert!(
        lines[1].starts_with("vmm: the guest crashed on vCPU 0: "),
        "{lines:?}"
    );

    let (_dir, path) = file("kernel", &kernels::exit(7));
    let (_, ended) = explain_to(7, &["--kernel", path.to_str().unwrap()]);
    assert_eq!(
        ended.message(),
        "explain: the story ended before the guest touched the disk"
    );
}

pub fn signal() {
    let (_dir, path) = file("kernel", kernels::READY_AND_HALT);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        ended_by(signal, &path);
    }
}

fn ended_by(signal: i32, path: &Path) {
    let running = Vmm::new(["explain", "--kernel"])
        .command(|command| _ = command.arg(path))
        .spawn();
    wait_for_guest(&running.proc("task"));
    running.signal(signal);
    let ended = running.wait();
    assert_eq!(ended.code(), 128 + signal, "{ended:?}");
    let message = ended.stderr.lines().last().unwrap();
    assert_eq!(
        message,
        "vmm: explain: the story ended before the guest touched the disk"
    );
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(text.contains("The story ends early"), "{text}");
}

/// Waits until there is a vCPU's thread.
fn wait_for_guest(tasks: &Path) {
    crate::harness::wait_until("a vCPU's thread", || {
        let tasks = fs::read_dir(tasks).unwrap();
        let mut names =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.any(|name| name.trim() == "vcpu0")
    });
}

pub fn wrong() {
    for (args, status, part) in [
        (&["--disk", "a,notify=poll"][..], 2, "notify=trap"),
        (&["--cpus", "2"], 2, "'--cpus'"),
        (&["frob"], 2, "'frob'"),
        (
            &["--html", "/none/story.html"],
            125,
            "cannot write /none/story.html: ",
        ),
        (
            &["--json", "/none/story.json"],
            125,
            "cannot write /none/story.json: ",
        ),
        (&["--kernel", "/none"], 125, "--kernel /none: "),
        (&["--disk", "/none"], 125, "/none"),
    ] {
        let ended = run([&["explain"], args].concat());
        assert_eq!(ended.code(), status, "{ended:?}");
        assert!(ended.message().contains(part), "{ended:?}");
        assert_eq!(ended.stdout, b"");
    }
}

pub fn linux_guest() {
    // A script that the initrd runs, on the disk that the story is about.
    let script = "dd if=/dev/vda of=/dev/vda bs=512 count=1 conv=notrunc,fsync; poweroff -f\n";
    let mut bytes = script.as_bytes().to_vec();
    bytes.resize(1 << 20, b'\n');
    let (_dir, path) = file("disk.img", &bytes);
    let (kernel, initrd) = (linux("vmlinuz"), linux("initrd"));
    let Told { story, text } = explain(&[
        "--kernel",
        kernel.to_str().unwrap(),
        "--initrd",
        initrd.to_str().unwrap(),
        "--disk",
        path.to_str().unwrap(),
        "--cmdline",
        "console=ttyS0 quiet script=/dev/vda",
    ]);
    assert_eq!(story.acts.len(), 2);
    for act in &story.acts {
        let (operation, len) = (act.operation, act.len);
        assert_eq!(
            event!(act, FileIo { offset, moved }),
            (act.sector * 512, len)
        );
        let (value, _) = event!(act, StatusWritten { value, address });
        assert_eq!(value, 0);
        let told = kinds(act);
        for kind in [
            "notify",
            "exit",
            "used_added",
            "interrupt",
            "handler_entered",
        ] {
            assert!(
                told.iter().any(|one| one == kind),
                "{operation:?}: {told:?}"
            );
        }
        assert!(
            !told.iter().any(|kind| kind == "woken"),
            "nobody has said so"
        );
    }
    assert!(text.contains("VIRTIO_F_INDIRECT_DESC") && text.contains("it cannot be seen"));
    assert!(fs::read(&path).unwrap() == bytes);
}
