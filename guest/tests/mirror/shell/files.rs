//! Files of a file system in the shell: what the host wrote, and what no host would write.

use std::path::Path;
use std::process::Command;

use devices::virtio::block::backend::MemoryBackend;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{assert_shows, session, shown};
use crate::host::Notify;

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
