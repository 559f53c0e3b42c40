//! `run=shell` by what is typed, against the device: every command, what is wrong with one, and what
//! the device makes of a queue that is worked by hand.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use devices::virtio::block::backend::MemoryBackend;
use guest::rng::pattern;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

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
        ("cat /etc/motd", "cat FAILED: "),
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

/// The chain of a read of sector `lba`, by hand.
fn chain(lba: u64) -> String {
    format!(
        "header in {lba}\ndesc 0 header 16 next=1\ndesc 1 data 512 write next=2\n\
         desc 2 status 1 write\n"
    )
}

#[test]
fn a_request_by_hand_is_served_and_its_data_can_be_seen() {
    for notify in NOTIFY {
        let lines = format!("{}avail 0\nkick\nused\ndump data 16\n", chain(7));
        let mut sector = [0; 512];
        pattern(99, 7, &mut sector);
        let first: Vec<String> = sector[..8].iter().map(|b| format!("{b:02x}")).collect();
        let shown = shown(&disk(), notify, &lines);
        assert_shows(
            &shown,
            &[
                "(the device is reset, for a queue of 8 descriptors by hand)\nheader at 0x",
                "type 0, sector 7\n",
                "flags NEXT WRITE next 2 (data)\n",
                "  flags 0, idx 1, used_event 0\n  entry 0     [0]  head 0\n",
                "kick queue=0 ok",
                "  entry 0  id 0 len 513\n",
                "status byte 0x00 (OK)\n",
                "USED_BUFFER\nused entries=1 ok\n",
                &first.join(" "),
            ],
        );
    }
}

#[test]
fn a_request_by_hand_can_have_a_table_an_offset_and_bytes_of_its_own() {
    let disk = disk();
    let lines = "header out 9\nput data+512 0x68 105\ndesc t0 header 16 next\n\
                 desc t1 data+512 512 next=5\ndesc t5 status 1 write\ndesc 4 table 96 indirect\n\
                 avail 4\nkick\nused\nring\n";
    let shown = shown(&disk, Notify::Trap, lines);
    assert_shows(
        &shown,
        &[
            "put bytes=2 at 0x",
            "(data+512)\n",
            "entry 0  id 4 len 1\n",
            "status byte 0x00 (OK)\n",
            "flags INDIRECT (table)\n      0   addr",
            "      5   addr",
        ],
    );
    assert_eq!(disk.bytes()[9 * 512..][..3], *b"hi\0");
}

#[test]
fn a_chain_that_is_wrong_is_refused_and_the_next_request_is_served() {
    let refused = [
        "id 0 len 0: nothing was written\n",
        "status byte 0xff (not written)\n",
    ];
    let failed = ["id 0 len 1\n", "status byte 0x01 (IOERR)\n"];
    for (wrong, [used, status]) in [
        ("desc 0 header 16 next=0\n", refused),
        ("desc 0 header 16 next=77\n", refused),
        ("desc 0 header 16 next=1 flags=4\n", refused),
        ("desc 1 table 7 indirect\n", refused),
        ("desc 1 0 512 write next=2\n", failed),
        ("desc 1 0xfffffffffffff000 512 write next=2\n", failed),
    ] {
        let good = chain(0);
        let lines = format!("{good}{wrong}avail 0\nkick\nused\n{good}avail 0\nkick\nused\ncrc 0\n");
        let shown = shown(&disk(), Notify::Trap, &lines);
        assert_shows(
            &shown,
            &[
                used,
                status,
                "entry 1  id 0 len 513\n",
                "status byte 0x00 (OK)\n",
                "(the device is reset, for the driver)\ncrc lba=0 count=1",
            ],
        );
    }
}

#[test]
fn a_device_that_needs_a_reset_is_shown_and_brought_back() {
    for notify in NOTIFY {
        let lines = format!(
            "{}avail idx 100\nkick\nused\nregs\nreset\navail 0\nkick\nused\n",
            chain(1)
        );
        let shown = shown(&disk(), notify, &lines);
        assert_shows(
            &shown,
            &[
                "DEVICE_NEEDS_RESET: `reset` brings it back\nused entries=0 ok\n",
                "0x0000004f ",
                "  status was ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK DEVICE_NEEDS_RESET\n",
                "  status is ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK\n",
                "reset ok: the rings are empty\n",
                "entry 0  id 0 len 513\n",
                "status byte 0x00 (OK)\n",
            ],
        );
    }
}

/// An image with a file system of these options and some files, if this machine can make one.
fn file_system(options: &[&str]) -> Option<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let (root, image) = (dir.path().join("root"), dir.path().join("image"));
    std::fs::create_dir_all(root.join("deep/er")).unwrap();
    let write = |path: &str, bytes: &[u8]| std::fs::write(root.join(path), bytes).unwrap();
    write("hello", b"hello from the host\n");
    write("deep/er/numbers", numbers().as_bytes());
    write("empty", b"");
    for i in 0..200 {
        write(&format!("deep/file-{i}"), &[b'x'; 10]);
    }
    let long = format!("{}hello", "deep/../".repeat(10));
    for (link, to) in [
        ("link", "deep/er/numbers"),
        ("deep/back", "../hello"),
        ("root", "/deep/er/./.."),
        ("long", long.as_str()),
        ("loop", "deep/../loop"),
    ] {
        std::os::unix::fs::symlink(to, root.join(link)).unwrap();
    }
    std::fs::File::create(&image)
        .unwrap()
        .set_len(8 << 20)
        .unwrap();
    let mkfs = ["/sbin/mkfs.ext4", "/usr/sbin/mkfs.ext4"]
        .iter()
        .find(|path| Path::new(path).exists());
    let made = mkfs.map(|mkfs| {
        let mut command = Command::new(mkfs);
        command
            .args(["-q", "-F", "-d"])
            .arg(&root)
            .args(options)
            .arg(&image);
        assert!(command.status().unwrap().success());
        std::fs::read(&image).unwrap()
    });
    if made.is_none() {
        eprintln!("not run: there is no mkfs.ext4");
    }
    made
}

fn numbers() -> String {
    (0..20_000).map(|i| format!("{i}\n")).collect()
}

/// File systems as they are made, of small and large blocks, old and new.
const OPTIONS: [&[&str]; 4] = [
    &["-b", "1024"],
    &["-b", "4096"],
    &["-b", "1024", "-O", "^metadata_csum,^64bit,^extents"],
    &["-b", "1024", "-O", "^has_journal,^dir_index"],
];

#[test]
fn files_and_directories_are_what_the_host_wrote() {
    for options in OPTIONS {
        let Some(image) = file_system(options) else {
            return;
        };
        let disk = MemoryBackend::new(image);
        let before = disk.bytes().clone();
        let lines = "ls\nls deep\ncat hello\ncat /link\ncat empty\ncat none\ncat deep\nls hello\n\
                     cat root/back\nls root/er\ncat long\ncat ../../hello\ncat loop\n";
        let shown = shown(&disk, Notify::Trap, lines);
        assert_shows(
            &shown,
            &[
                "ls path=/ entries=10 ok\n",
                "ls path=/deep entries=204 ok\n",
                "> cat hello\nhello from the host\ncat path=/hello bytes=20 ok\n",
                &format!(
                    "> cat /link\n{}cat path=/link bytes={} ok\n",
                    numbers(),
                    numbers().len()
                ),
                "> cat empty\ncat path=/empty bytes=0 ok\n",
                "cat FAILED: ",
                "cat FAILED: ",
                "ls FAILED: ",
                "> cat root/back\nhello from the host\ncat path=/root/back bytes=20 ok\n",
                "ls path=/root/er entries=3 ok\n",
                "> cat long\nhello from the host\n",
                "> cat ../../hello\nhello from the host\n",
                "cat FAILED: ",
            ],
        );
        assert!(shown.contains("        20  hello\n"), "{shown}");
        assert!(shown.contains("  link -> deep/er/numbers\n"), "{shown}");
        assert!((0..200).all(|i| shown.contains(&format!("  file-{i}\n"))));
        assert!(*disk.bytes() == before);
    }
}

#[test]
fn a_file_system_with_random_bytes_in_it_ends_no_shell() {
    let images: Vec<Vec<u8>> = OPTIONS
        .iter()
        .filter_map(|options| file_system(options))
        .collect();
    if images.is_empty() {
        return;
    }
    // Where metadata is: the first 64 KiB, some of it many times over.
    let place = prop_oneof![1024_usize..2048, 2048_usize..4096, 0_usize..(256 << 10)];
    let strategy = (
        prop::sample::select(images),
        prop::collection::vec((place, any::<[u8; 4]>()), 1..40),
    );
    let mut runner = TestRunner::new(Config::with_cases(150));
    runner
        .run(&strategy, |(mut image, changes)| {
            for (place, bytes) in changes {
                image[place..place + 4].copy_from_slice(&bytes);
            }
            let disk = MemoryBackend::new(image);
            let lines = "ls\nls deep\ncat hello\ncat link\ncrc 0\n";
            let (status, shown) = session(&[&disk], Notify::Trap, "", lines);
            prop_assert_eq!(status, 0);
            prop_assert!(shown.contains("\ncrc lba=0 count=1"));
            Ok(())
        })
        .unwrap();
}
