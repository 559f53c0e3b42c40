//! `run=shell` by what is typed, against the device: every command, and what is wrong with one.

mod by_hand;
mod files;

use std::panic::{AssertUnwindSafe, catch_unwind};

use devices::virtio::block::backend::MemoryBackend;

use crate::bench::Control;
use crate::host::{Host, Notify, Ram, Screen, run_at};
use crate::workloads::{NOTIFY, disk};

/// What the shell shows when `lines` are typed on `disks`, the last of which is read-only where there
/// are two; and with which status it ends.
fn session(
    disks: &[&MemoryBackend],
    notify: Notify,
    parameters: &str,
    lines: &str,
) -> (u8, String) {
    let mut ram = Ram::new();
    let mut hosts: Vec<Host> = disks
        .iter()
        .enumerate()
        .map(|(i, disk)| Host::new(&ram, *disk, notify, i == 1))
        .collect();
    let mut control = Control::absent(&ram);
    let mut screen = Screen {
        keys: lines.bytes().collect(),
        ..Screen::default()
    };
    let parameters = format!("run=shell {parameters}");
    let ended = catch_unwind(AssertUnwindSafe(|| {
        run_at(&mut ram, &mut hosts, &parameters, &mut control, &mut screen)
    }));
    let status = match ended {
        Ok(true) => 0,
        Ok(false) => 1,
        Err(status) => *status.downcast::<u8>().unwrap(),
    };
    (status, screen.shown)
}

/// What the shell shows of `lines` on one disk.
fn shown(disk: &MemoryBackend, notify: Notify, lines: &str) -> String {
    let (status, shown) = session(&[disk], notify, "", lines);
    assert_eq!(status, 0, "{shown}");
    shown
}

#[track_caller]
fn assert_shows(shown: &str, lines: &[&str]) {
    let mut rest = shown;
    for line in lines {
        let at = rest.find(line);
        let at = at.unwrap_or_else(|| panic!("no {line:?} where it should be in\n{shown}"));
        rest = &rest[at + line.len()..];
    }
}

#[test]
fn each_request_does_to_the_disk_what_it_says() {
    for notify in NOTIFY {
        let disk = disk();
        let mut expected = disk.bytes().clone();
        let crc = crc32fast::hash(&expected[512..1024]);
        let lines = "crc 1\nread 0x1 1\nwrite 3 hello, disk \nfill 4 0x2 0xab\nstats\nexit\n";
        let shown = shown(&disk, notify, lines);
        assert_shows(
            &shown,
            &[
                &format!("crc lba=1 count=1 crc32={crc:08x} ok\n"),
                "00000200  ",
                &format!("read lba=1 count=1 crc32={crc:08x} ok\n"),
                "write lba=3 count=1 bytes=11 ok\n",
                "fill lba=4 count=2 byte=0xab ok\n",
                "requests       6, 0 failed, 0 in flight\n",
                "1024 bytes read, 1536 written\n",
                "shell commands=5 ok\n",
            ],
        );
        expected[3 * 512..4 * 512].fill(0);
        expected[3 * 512..][..11].copy_from_slice(b"hello, disk");
        expected[4 * 512..6 * 512].fill(0xab);
        assert!(*disk.bytes() == expected);
    }
}

#[test]
fn a_command_that_cannot_be_carried_out_is_told_by_its_reason_and_the_next_one_is() {
    let disk = disk();
    let before = disk.bytes().clone();
    for (line, reason) in [
        (
            "frobnicate",
            "there is no command \"frobnicate\"; `help` lists them\n",
        ),
        (
            "read",
            "read FAILED: there are too few words, or too many\nusage: read LBA [COUNT]\n",
        ),
        ("read 1 2 3", "too many\nusage: read LBA [COUNT]\n"),
        ("read -1", "read FAILED: -1 is not a number from 0\nusage: "),
        (
            "crc 0 0",
            "crc FAILED: 0 is not a number from 1\nusage: crc LBA [COUNT]\n",
        ),
        (
            "read 512",
            "read FAILED: lba=512 count=1 is past the end of the disk: it has 512 sectors\n",
        ),
        (
            "crc 1 18446744073709551615",
            "count=18446744073709551615 is past the end of the disk",
        ),
        (
            "fill 0 1 256",
            "fill FAILED: 256 is not a number from 0 to 255\nusage: fill LBA COUNT",
        ),
        ("write 0", "usage: write LBA TEXT\n"),
        ("write 511 \u{e9}", "write lba=511 count=1 bytes=2 ok\n"),
        ("fill 511 1", "fill lba=511 count=1 byte=0x00 ok\n"),
        (
            "notify maybe",
            "notify FAILED: maybe is none of on off\nusage: notify [on|off]\n",
        ),
        (
            "exit 125",
            "exit FAILED: 125 is not a number from 0 to 124\nusage: exit [STATUS]\n",
        ),
        (
            "notify off now",
            "notify FAILED: there are too few words, or too many\nusage: notify [on|off]\n",
        ),
        (
            "kick 1",
            "kick FAILED: 1 is not a number from 0 to 0\nusage: kick [QUEUE]\n",
        ),
        ("hand 3", "hand FAILED: 3 is none of 1 2 4 8 16"),
        (
            "help frobnicate",
            "help FAILED: frobnicate is none of the commands that `help` lists",
        ),
        ("bench 0", "usage: bench [REQUESTS [COUNT]]\n"),
        ("bench 1 129", "129 is not a number from 1 to 128"),
        (
            "desc 8",
            "desc FAILED: 8 is not a number from 0 to 7\nusage: desc ",
        ),
        ("desc t16", "16 is not a number from 0 to 15"),
        (
            "desc 0 nowhere 1",
            "nowhere is none of header data status table",
        ),
        ("desc 0 data+4097 1", "4097 is not a number from 0 to 4096"),
        (
            "desc 0 data 1 red",
            "red is none of next next=INDEX write indirect flags=BITS",
        ),
        ("avail 65536", "65536 is not a number from 0 to 65535"),
        (
            "header read",
            "read is none of in out flush get_id discard write_zeroes, or a number",
        ),
        (
            "put status 1 2",
            "2 is not a number from 1 to 1\nusage: put ",
        ),
        ("dump data 4097", "4097 is not a number from 1 to 4096"),
        (
            "disk 1",
            "disk 1 FAILED: there is no disk 1: disks=1\nno disk> ",
        ),
        // What is on the disk is no superblock, whatever it would mean in one.
        (
            "cat /etc/motd",
            "cat FAILED: there is no ext2, ext3 or ext4 file system on the disk\n",
        ),
    ] {
        let shown = shown(
            &disk,
            Notify::Trap,
            &format!("{line}\ndisk 0\ncrc 0\nexit\n"),
        );
        assert_shows(
            &shown,
            &[&format!("> {line}\n"), reason, "crc lba=0 count=1", " ok\n"],
        );
    }
    let mut expected = before;
    expected[511 * 512..].fill(0);
    assert!(*disk.bytes() == expected);
}

#[test]
fn the_shell_ends_at_the_end_of_its_input_with_the_command_that_it_is_in() {
    let disk = disk();
    let end = |lines| session(&[&disk], Notify::Trap, "", lines);
    assert_shows(&end("").1, &["disk 0> \nshell commands=0 ok\n"]);
    assert_shows(
        &end("crc 0").1,
        &["> crc 0\n", " ok\n", "> \nshell commands=1 ok\n"],
    );
    assert_shows(&end("\x04crc 0\n").1, &["disk 0> \nshell commands=0 ok\n"]);
    let (status, shown) = end("crc 0\nexit 7");
    assert_eq!(status, 7);
    assert!(shown.ends_with("shell commands=1 exit=7\n"), "{shown}");
    assert_eq!(end("exit 0\n").0, 0);
}

#[test]
fn every_command_has_its_help() {
    let disk = disk();
    let list = shown(&disk, Notify::Trap, "help\n");
    let names = list.lines().filter_map(|line| line.strip_prefix("  "));
    let names: Vec<&str> = names.filter_map(|line| line.split(' ').next()).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| !name.is_empty()).collect();
    assert!(names.len() >= 28, "{names:?}");
    for name in names {
        let help = shown(&disk, Notify::Trap, &format!("help {name}\n"));
        assert_shows(&help, &[&format!("> help {name}\n  {name}"), "disk 0> "]);
    }
}

#[test]
fn disks_are_listed_and_each_can_be_opened() {
    let (a, b) = (disk(), disk());
    let lines = "disks\ndisk 1\ndisks\nfill 0 1\nread 0\ndisk 2\ndisks\n";
    let (status, shown) = session(&[&a, &b], Notify::IoEventFd, "", lines);
    assert_eq!(status, 0);
    assert_shows(
        &shown,
        &[
            "disk 0  at 0xd0000000, GSI 5, 512 sectors, open\n",
            "disk 1  at 0xd0001000, GSI 6, 512 sectors, read-only\n",
            "disks=2 ok\n",
            "disk 1> disks\n",
            "disk 0  at 0xd0000000, GSI 5, 512 sectors\n",
            "disk 1  at 0xd0001000, GSI 6, 512 sectors, read-only, open\n",
            "fill FAILED: the disk is read-only\n",
            "read lba=0 count=1",
            "disk 2 FAILED: there is no disk 2: disks=2\nno disk> ",
            "disks=2 ok\n",
        ],
    );
    assert!(*a.bytes() == *b.bytes());
}

#[test]
fn without_disks_there_is_a_shell_all_the_same() {
    let (status, shown) = session(&[], Notify::Trap, "", "disks\nread 0\nring\nhelp\nexit 3\n");
    assert_eq!(status, 3);
    assert_shows(
        &shown,
        &[
            "no disk> disks\ndisks=0 ok\n",
            "no disk> read 0\ndisk 0 FAILED: there is no disk 0: disks=0\n",
            "no disk> ring\ndisk 0 FAILED: there is no disk 0: disks=0\n",
            "no disk> help\n",
        ],
    );
}

#[test]
fn the_ring_shows_the_request_that_was_made_with_and_without_a_table() {
    let disk = disk();
    let (_, shown) = session(&[&disk], Notify::Trap, "queue_size=4", "read 5\nring\n");
    assert_shows(
        &shown,
        &[
            "Descriptor Area at 0x",
            ", 4 descriptors\n  0   addr 0x",
            "len 48     flags INDIRECT\n",
            "      0   addr 0x",
            "len 16     flags NEXT next 1\n",
            "      1   addr 0x",
            "len 512    flags NEXT WRITE next 2 (data)\n",
            "      2   addr 0x",
            "len 1      flags WRITE\n",
            "Driver Area at 0x",
            "  flags 0, idx 1, used_event 0\n  entry 0     [0]  head 0\n",
            "Device Area at 0x",
            "  flags 0, idx 1, avail_event 1\n  entry 0     [0]  id 0 len 513\n",
        ],
    );
    let parameters = "queue_size=4 indirect=off event_idx=off wait=poll";
    let (_, shown) = session(&[&disk], Notify::Trap, parameters, "read 5\nring\n");
    assert_shows(
        &shown,
        &[
            "len 16     flags NEXT next 1\n",
            "len 512    flags NEXT WRITE next 2 (data)\n",
            "len 1      flags WRITE\n",
            "  flags 1 NO_INTERRUPT, idx 1, used_event 0\n",
        ],
    );
}

#[test]
fn registers_and_features_are_those_of_the_device() {
    let shown = shown(
        &disk(),
        Notify::Trap,
        "regs\nfeatures\nhand\nregs\nfeatures\n",
    );
    let live = "ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK\n";
    assert_shows(
        &shown,
        &[
            "  0x000  MagicValue          0x74726976 \"virt\"\n",
            "  0x008  DeviceID            0x00000002\n",
            "  0x050  QueueNotify         (write-only)\n",
            "  0x070  Status              0x0000000f ",
            live,
            "VIRTIO_F_EVENT_IDX          offered, accepted\n",
            "disk 0 by hand> regs\n",
            live,
            "VIRTIO_F_EVENT_IDX          offered\n",
        ],
    );
}

#[test]
fn a_device_that_is_not_notified_leaves_the_request_until_it_is() {
    // A thread may look by itself.
    let lines = "notify off\ncrc 0\ncrc 0\nstats\nkick\nnotify on\ncrc 0\nkick\n";
    assert_shows(
        &shown(&disk(), Notify::Trap, lines),
        &[
            "notify off\n",
            "crc FAILED: the request is in the queue; the device has not been notified",
            "crc FAILED: other requests are in flight\n",
            "1, 0 failed, 1 in flight\n",
            "  head 0 has been used: 513 bytes written, status 0x00 (OK)\nkick queue=0 ok\n",
            "notify on\n",
            "crc lba=0 count=1 crc32=",
            "kick queue=0 ok: nothing was in flight\n",
        ],
    );
}

#[test]
fn a_device_that_polls_needs_no_notification() {
    let shown = shown(&disk(), Notify::Poll, "notify off\ncrc 0\nstats\n");
    assert_shows(&shown, &["crc lba=0 count=1", "notifications  0, off\n"]);
}

#[test]
fn how_the_driver_waits_can_be_changed_between_requests() {
    for notify in NOTIFY {
        let lines = "irq\nbench 20\npoll\nbench 20 1\nirq\nbench 20 128\nstats\n";
        let shown = shown(&disk(), notify, lines);
        assert_shows(
            &shown,
            &[
                "bench requests=20 bytes=4096 ok\n",
                "0 interrupts\nbench requests=20 bytes=512 ok\n",
                "bench requests=20 bytes=65536 ok\n",
                "60, 0 failed",
                "for interrupts\n",
            ],
        );
    }
}
