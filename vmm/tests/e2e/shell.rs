//! `run=shell`: as a person at a terminal has it, and as a script that pipes commands into it.

mod by_hand;
mod files;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::guests::{NOTIFY_MODES, entries, start_on};
use crate::harness::{Ended, Running, file, write_all};
use crate::limits::assert_comes_to_rest;
use crate::needs::Needs;
use crate::pty::Pty;

pub fn tests() -> Vec<Trial> {
    let test = |name, body| crate::harness::test(name, Needs::Kvm, body);
    let on_own_kvm = |name, body| crate::harness::test(name, Needs::OwnKvm, body);
    let with_mkfs = |name, body| crate::harness::test(name, Needs::KvmAndTool("mkfs.ext4"), body);
    vec![
        test("shell_keys_edit_the_line", editing),
        test("shell_arrow_keys_go_through_the_history", history),
        test("shell_requests_do_what_they_say", requests),
        test("shell_shows_the_rings_and_the_registers_as_they_are", views),
        test(
            "shell_request_by_hand_is_served_in_each_notify_mode",
            by_hand::served,
        ),
        test(
            "shell_malformed_chain_is_refused_and_the_next_is_served",
            by_hand::malformed,
        ),
        test(
            "shell_device_that_needs_a_reset_is_brought_back",
            by_hand::needs_reset,
        ),
        test("shell_has_the_size_that_a_disk_gets_meanwhile", resized),
        test("shell_exit_gives_the_status_of_vmm", exit),
        test("shell_is_the_same_however_the_guest_boots", boots),
        test("shell_ctrl_a_x_leaves", ctrl_a_x),
        test("shell_piped_commands_are_carried_out_in_order", piped),
        test("shell_ends_with_its_input", end_of_input),
        on_own_kvm("shell_10000_pasted_bytes_arrive_without_loss", pasted),
        on_own_kvm("shell_that_waits_costs_no_cpu_time", idle),
        with_mkfs("shell_files_are_those_that_the_host_wrote", files::written),
        with_mkfs(
            "shell_outlives_file_systems_with_random_bytes",
            files::corrupted,
        ),
    ]
}

/// A disk of 1 MiB, each of whose sectors tells its number; and its directory.
fn disk() -> (TempDir, PathBuf) {
    let sectors: Vec<u8> = (0..2048_u32)
        .flat_map(|lba| format!("{:<512}", format!("sector {lba}")).into_bytes())
        .collect();
    file("disk.img", &sectors)
}

/// A person at a terminal.
struct Session {
    pty: Pty,
    vmm: Running,
}

impl Session {
    /// Who has the prompt of a shell on `disk`.
    fn begin(disk: &str) -> Self {
        let mut pty = Pty::new();
        let vmm = start_on(None, &[disk.to_owned()], "run=shell")
            .stdin(pty.terminal())
            .stdout(pty.terminal())
            .command(Pty::control)
            .spawn();
        pty.expect("disk 0> ");
        assert!(pty.is_raw());
        Self { pty, vmm }
    }

    /// Types these keys, and waits until all of this has been shown, one after the other.
    #[track_caller]
    fn keys(&mut self, keys: &str, shown: &[&str]) {
        self.pty.press(keys.as_bytes());
        for text in shown {
            self.pty.expect(text);
        }
    }

    /// Enters a command, and waits until all of this has been shown, and the next prompt.
    #[track_caller]
    fn enter(&mut self, command: &str, shown: &[&str]) {
        self.keys(&format!("{command}\r"), shown);
        self.pty.expect("> ");
    }

    /// Leaves the shell, which must end in this way.
    #[track_caller]
    fn exit(mut self) -> Ended {
        self.keys("exit\r", &["shell commands=", " ok"]);
        let ended = self.vmm.wait();
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        ended
    }
}

/// Runs a shell on `disks` that is piped these commands, to its end; what it printed.
#[track_caller]
fn pipe(disks: &[String], commands: &str) -> (Ended, String) {
    let mut vmm = start_on(None, disks, "run=shell")
        .stdin(Stdio::piped())
        .spawn();
    let stdin = vmm.stdin.take().unwrap();
    let writer = write_all(stdin, commands.as_bytes().to_vec());
    let ended = vmm.wait();
    writer.join().unwrap();
    let shown = String::from_utf8(ended.stdout.clone()).unwrap();
    (ended, shown)
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn editing() {
    let (_dir, image) = disk();
    let mut session = Session::begin(&path(&image));
    for keys in [
        // Home by its two sequences, and by Ctrl-A, which is typed twice here.
        "rc 7\x1b[Hc\r",
        "rc 7\x1bOHc\x1b[F\r",
        "rc 7\x01\x01c\x05\r",
        // The arrows, Backspace and Delete.
        "crrc 7\x1b[D\x1b[D\x1b[D\x7f\r",
        "crx 7\x1b[D\x1b[D\x1b[D\x1b[3~c\x1b[C\r",
        // Ctrl-U, Ctrl-K, Ctrl-W, Ctrl-D.
        "frobnicate\x15crc 7\r",
        "crc 7 8 9\x1b[D\x1b[D\x1b[D\x1b[D\x0b\r",
        "crc 8 9\x17\x177\r",
        "ccrc 7\x01\x01\x04\r",
        // Ctrl-C begins anew.
        "frobnicate\x03crc 7\r",
    ] {
        session.keys(keys, &["crc lba=7 count=1 crc32=", " ok\r\n", "disk 0> "]);
    }
    session.exit();
}

fn history() {
    let (_dir, image) = disk();
    let mut session = Session::begin(&path(&image));
    session.enter("crc 1", &["crc lba=1 count=1"]);
    session.enter("crc 2", &["crc lba=2 count=1"]);
    session.enter("crc 3", &["crc lba=3 count=1"]);
    session.enter("\x1b[A\x1b[A\x1b[A", &["crc lba=1 count=1"]);
    // What is shown can be edited, and what was begun comes back below it.
    session.enter("\x1b[A\x1b[A\x7f9", &["crc lba=9 count=1"]);
    session.enter("crc 4\x1b[A\x1b[A\x1b[B\x1b[B", &["crc lba=4 count=1"]);
    session.enter("\x1bOA", &["crc lba=4 count=1"]);
    session.exit();
}

fn requests() {
    let (_dir, image) = disk();
    let mut session = Session::begin(&path(&image));
    let sector = format!("{:<512}", "sector 5");
    let crc = crc32fast::hash(sector.as_bytes());
    session.enter("help", &["read LBA [COUNT]", "exit [STATUS]"]);
    session.enter(
        "disks",
        &["disk 0  at 0xd0000000, GSI 5, 2048 sectors, open"],
    );
    let dumped = "00000a00  73 65 63 74 6f 72 20 35  20 20 20 20 20 20 20 20  |sector 5        |";
    let verdict = format!("read lba=5 count=1 crc32={crc:08x} ok");
    session.enter("read 5", &[dumped, &verdict]);
    session.enter(
        "crc 0x5",
        &[&format!("crc lba=5 count=1 crc32={crc:08x} ok")],
    );
    session.enter("write 6 hello there", &["write lba=6 count=1 bytes=11 ok"]);
    session.enter("fill 7 2 0x5a", &["fill lba=7 count=2 byte=0x5a ok"]);
    session.enter("poll", &["wants no interrupts"]);
    session.enter(
        "bench 20",
        &[
            "notifications, 0 interrupts",
            "bench requests=20 bytes=4096 ok",
        ],
    );
    session.enter("irq", &["until the device interrupts"]);
    session.enter("notify off", &["notify off"]);
    session.enter("read 6", &["read FAILED: the request is in the queue"]);
    session.enter("kick", &["513 bytes written, status 0x00 (OK)"]);
    session.enter("notify on", &["notify on"]);
    session.enter("read 6", &["|hello there.....|", "read lba=6 count=1"]);
    session.enter("stats", &["0 failed, 0 in flight", "for interrupts"]);
    session.enter(
        "read 2048",
        &["past the end of the disk: it has 2048 sectors"],
    );
    session.enter("fill", &["usage: fill LBA COUNT [BYTE]"]);
    session.enter("what", &["there is no command \"what\""]);
    session.enter("disk 3", &["there is no disk 3: disks=1", "no disk"]);
    session.enter("disk 0", &["disk 0"]);
    session.exit();
    let written = fs::read(&image).unwrap();
    assert!(written[6 * 512..].starts_with(b"hello there\0"));
    assert!(written[7 * 512..9 * 512] == [0x5a; 1024]);
    assert!(written[9 * 512..].starts_with(b"sector 9 "));
}

fn views() {
    let (_dir, image) = disk();
    let mut session = Session::begin(&path(&image));
    session.enter("read 5", &["read lba=5"]);
    session.enter(
        "ring",
        &[
            "Descriptor Area at 0x",
            "flags INDIRECT",
            "len 16     flags NEXT next 1",
            "len 512    flags NEXT WRITE next 2 (data)",
            "len 1      flags WRITE",
            "Driver Area at 0x",
            "flags 0, idx 1",
            "Device Area at 0x",
            "id 0 len 513",
        ],
    );
    session.enter(
        "features",
        &[
            "VIRTIO_BLK_F_FLUSH",
            "offered, accepted",
            "VIRTIO_F_VERSION_1",
        ],
    );
    session.enter(
        "regs",
        &[
            "MagicValue          0x74726976 \"virt\"",
            "QueueReady          0x00000001",
            "Status              0x0000000f ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK",
        ],
    );
    session.exit();
}

fn resized() {
    for notify in NOTIFY_MODES {
        let (_dir, image) = disk();
        let mut session = Session::begin(&format!("{},notify={notify}", image.display()));
        session.enter("crc 2048", &["it has 2048 sectors"]);
        let file = fs::OpenOptions::new().write(true).open(&image).unwrap();
        file.set_len(2 << 20).unwrap();
        session.vmm.signal(libc::SIGHUP);
        // Until then it is the guest's to ask.
        let grown = "4096 sectors, open";
        let sees = |session: &mut Session| {
            session.pty.press(b"disks\r");
            session.pty.expect("disks=1 ok").contains(grown)
        };
        assert!((0..1000).any(|_| sees(&mut session)), "{notify}");
        session.enter("crc 4095", &["crc lba=4095 count=1 crc32="]);
        session.enter("hand", &[]);
        session.enter("disks", &[grown]);
        session.exit();
    }
}

fn exit() {
    let (_dir, image) = disk();
    let mut session = Session::begin(&path(&image));
    session.keys("exit 7\r", &["shell commands=0 exit=7"]);
    assert_eq!(session.vmm.wait().code(), 7);
    assert!(!session.pty.is_raw());
    for (commands, status) in [("exit 124\n", 124), ("exit 0\n", 0), ("exit\n", 0)] {
        assert_eq!(pipe(&[path(&image)], commands).0.code(), status);
    }
}

fn boots() {
    let (_dir, image) = disk();
    for kernel in entries() {
        let mut vmm = start_on(kernel.as_deref(), &[path(&image)], "run=shell")
            .stdin(Stdio::piped())
            .spawn();
        let stdin = vmm.stdin.take().unwrap();
        write_all(stdin, b"crc 0\nexit 9\n".to_vec())
            .join()
            .unwrap();
        let ended = vmm.wait();
        assert_eq!(ended.code(), 9, "{kernel:?}: {}", ended.stderr);
        assert_eq!(ended.last_line(), "shell commands=1 exit=9");
    }
}

fn ctrl_a_x() {
    let (_dir, image) = disk();
    let mut session = Session::begin(&path(&image));
    session.keys("crc 0", &["crc 0"]);
    session.keys("\x01x", &[]);
    let ended = session.vmm.wait();
    assert_eq!((ended.code(), ended.stderr.as_str()), (0, ""));
}

fn piped() {
    let (_dir, image) = disk();
    let (ended, shown) = pipe(
        &[path(&image)],
        "crc 1\n\n  crc   2  \r\nwrong\ncrc 3\nexit 3\n",
    );
    assert_eq!(ended.code(), 3);
    let sum = |lba: u32| crc32fast::hash(format!("{:<512}", format!("sector {lba}")).as_bytes());
    let line = |lba| format!("crc lba={lba} count=1 crc32={:08x} ok\n", sum(lba));
    let expected = format!(
        "shell: `help` lists the commands\n\
         disk 0> crc 1\n{}disk 0> \ndisk 0>   crc   2  \n{}\
         disk 0> wrong\nthere is no command \"wrong\"; `help` lists them\n\
         disk 0> crc 3\n{}disk 0> exit 3\nshell commands=3 exit=3\n",
        line(1),
        line(2),
        line(3)
    );
    assert_eq!(shown, expected);
    assert_eq!(ended.stderr, "");
}

fn end_of_input() {
    let (_dir, image) = disk();
    let disks = [path(&image)];
    let (ended, shown) = pipe(&disks, "crc 1\n");
    assert_eq!(ended.code(), 0);
    assert!(
        shown.ends_with("disk 0> \nshell commands=1 ok\n"),
        "{shown}"
    );
    let (ended, _) = pipe(&disks, "crc 1\nexit 5");
    assert_eq!(ended.code(), 5);
    // Nothing at all.
    let ended = start_on(None, &disks, "run=shell").spawn().wait();
    ended.assert_ok("shell commands=0 ok");
    // A file.
    let (_dir, script) = file("script", b"crc 1\nexit 4\n");
    let vmm = start_on(None, &disks, "run=shell").stdin(fs::File::open(script).unwrap());
    assert_eq!(vmm.spawn().wait().code(), 4);
}

fn pasted() {
    let (_dir, image) = disk();
    let mut session = Session::begin(&path(&image));
    let line = |lba: u32| format!("crc {lba:<90}");
    let pasted: String = (0..110).map(|lba| line(lba) + "\r").collect();
    assert!(pasted.len() > 10_000);
    let writer = write_all(session.pty.keyboard(), pasted.into_bytes());
    for lba in 0..110 {
        session.pty.expect(&format!("{}\r\n", line(lba)));
        session.pty.expect(&format!("crc lba={lba} count=1"));
        session.pty.expect("disk 0> ");
    }
    writer.join().unwrap();
    // A line alone that no terminal shows in one.
    let word: String = ('a'..='z').cycle().take(1000).collect();
    let writer = write_all(session.pty.keyboard(), format!("{word}\r").into_bytes());
    session
        .pty
        .expect(&format!("{word}\r\nthere is no command \"{word}\""));
    writer.join().unwrap();
    session.pty.expect("> ");
    session.exit();
}

fn idle() {
    let (_dir, image) = disk();
    for notify in NOTIFY_MODES {
        // A queue that is polled is watched for a while, and then let be.
        let mut session = Session::begin(&format!("{},notify={notify}", image.display()));
        assert_comes_to_rest(&session.vmm);
        session.enter("crc 0", &["crc lba=0"]);
        assert_comes_to_rest(&session.vmm);
        session.keys("read", &["read"]);
        assert_comes_to_rest(&session.vmm);
        session.enter(" 0", &["read lba=0"]);
        session.exit();
    }
}
