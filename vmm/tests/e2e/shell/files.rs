//! Files of a file system in the shell: those that `mkfs.ext4` put there, and what no host would write.

use std::fs;
use std::path::PathBuf;

use guest::rng::Rng;
use tempfile::TempDir;

use super::{path, pipe};
use crate::needs::tool;

/// An image with a file system that has some files, as `mkfs.ext4` makes it with these options.
fn file_system(options: &[&str]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::write(root.join("hello.txt"), "hello from the host\n").unwrap();
    fs::write(root.join("deep/er/numbers"), numbers()).unwrap();
    std::os::unix::fs::symlink("deep/er/numbers", root.join("link")).unwrap();
    let image = dir.path().join("image");
    fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let mut mkfs = tool("mkfs.ext4");
    mkfs.args(["-q", "-F", "-d"])
        .arg(&root)
        .args(options)
        .arg(&image);
    assert!(mkfs.status().unwrap().success());
    (dir, image)
}

fn numbers() -> String {
    (0..3000).map(|i| format!("{i}\n")).collect()
}

pub fn written() {
    for options in [&["-b", "1024"][..], &["-b", "4096"]] {
        let (_dir, image) = file_system(options);
        let before = fs::read(&image).unwrap();
        let debugfs = tool("debugfs")
            .args(["-R", "cat /deep/er/numbers"])
            .arg(&image)
            .output()
            .unwrap();
        let commands = "ls\nls /deep\ncat hello.txt\ncat /link\ncat none\nls hello.txt\n";
        let (ended, shown) = pipe(&[path(&image)], commands);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        for (kind, size, name) in [
            ("d", 0, "lost+found"),
            ("-", 20, "hello.txt"),
            ("l", 15, "link -> deep/er/numbers"),
            ("d", 0, "deep"),
        ] {
            let mut lines = shown
                .lines()
                .filter(|line| line.ends_with(&format!("  {name}")));
            let line = lines
                .next()
                .unwrap_or_else(|| panic!("no {name} in\n{shown}"));
            let size = if size > 0 {
                format!(" {size} ")
            } else {
                String::new()
            };
            assert!(
                line.trim().starts_with(kind) && line.contains(&size),
                "{line}"
            );
        }
        let told = String::from_utf8(debugfs.stdout).unwrap();
        assert_eq!(told, numbers());
        for expected in [
            "ls path=/ entries=6 ok\n",
            "ls path=/deep entries=3 ok\n",
            "> cat hello.txt\nhello from the host\ncat path=/hello.txt bytes=20 ok\n",
            &format!(
                "> cat /link\n{told}cat path=/link bytes={} ok\n",
                told.len()
            ),
            "cat FAILED: ",
            "ls FAILED: ",
        ] {
            assert!(shown.contains(expected), "no {expected} in\n{shown}");
        }
        assert!(fs::read(&image).unwrap() == before, "the image has changed");
    }
}

/// In what holds the superblock, the descriptors, and the inodes and directories.
pub fn corrupted() {
    let mut random = Rng::new(6);
    let mut below = |most: usize| random.next() as usize % most;
    let plain = ["-b", "1024", "-O", "^metadata_csum,^64bit"];
    for options in [&["-b", "1024"][..], &plain] {
        let (_dir, image) = file_system(options);
        let sound = fs::read(&image).unwrap();
        for (start, end) in [(1024, 2048), (2048, 8192), (0, 1 << 20), (0, 8 << 20)] {
            for _ in 0..2 {
                let mut bytes = sound.clone();
                for _ in 0..=below((end - start) / 16) {
                    bytes[start + below(end - start)] = below(256) as u8;
                }
                fs::write(&image, &bytes).unwrap();
                let (ended, shown) = pipe(&[path(&image)], "ls\ncat link\ncat hello.txt\ncrc 0\n");
                assert_eq!(ended.code(), 0, "{shown}");
                assert!(shown.contains("\ncrc lba=0 count=1 crc32="), "{shown}");
            }
        }
        // A link that its inode says to be longer than all memory.
        fs::write(&image, &sound).unwrap();
        let mut debugfs = tool("debugfs");
        debugfs.args(["-w", "-R", "set_inode_field /link size 1000000000000"]);
        assert!(debugfs.arg(&image).output().unwrap().status.success());
        let (ended, shown) = pipe(&[path(&image)], "cat link\nls\ncat hello.txt\n");
        assert_eq!(ended.code(), 0, "{shown}");
        assert!(
            shown.contains("\ncat FAILED: ") && shown.contains("\nls FAILED: "),
            "{shown}"
        );
        assert!(shown.contains("cat path=/hello.txt bytes=20 ok"), "{shown}");
        // Nothing but noise, and nothing at all.
        let mut noise = vec![0; 1 << 20];
        Rng::new(7).fill(&mut noise);
        for bytes in [noise, vec![0; 1024], vec![0; 1 << 20]] {
            fs::write(&image, &bytes).unwrap();
            let (ended, shown) = pipe(&[path(&image)], "ls\ncat hello.txt\ncrc 0\n");
            assert_eq!(ended.code(), 0, "{shown}");
            assert!(
                shown.contains("ls FAILED: ") && shown.contains("cat FAILED: "),
                "{shown}"
            );
        }
    }
}
