//! `run=hostile`, against the device, in every notify mode: that the device survives each case on
//! a disk and on a read-only one, and that what the cases say can be relied on.

use devices::virtio::block::backend::MemoryBackend;
use guest::rng::pattern;

use crate::host::{Host, Notify, Ram, run};

const SECTORS: usize = 64;
/// How many of the first sectors the cases may write, and the seed of what they write there.
const KNOWN: usize = 16;
const SEED: u64 = 1;
const NOTIFY: [Notify; 3] = [Notify::Trap, Notify::IoEventFd, Notify::Poll];

/// A disk of which no two sectors are alike.
fn disk() -> MemoryBackend {
    let mut bytes = vec![0; SECTORS * 512];
    pattern(99, 0, &mut bytes);
    MemoryBackend::new(bytes)
}

/// What the cases leave on a disk.
fn left() -> Vec<u8> {
    let mut bytes = disk().bytes().clone();
    pattern(SEED, 0, &mut bytes[..KNOWN * 512]);
    bytes
}

/// The lines of TAP that tell of cases, after their number has been compared with the plan.
fn results(console: &str) -> Vec<&str> {
    let mut lines = console.lines();
    assert_eq!(lines.next(), Some("TAP version 14"), "{console}");
    let plan = lines.next().unwrap().strip_prefix("1..").unwrap();
    let is_result = |line: &&str| line.starts_with("ok ") || line.starts_with("not ok ");
    let results: Vec<_> = lines.filter(is_result).collect();
    assert_eq!(results.len().to_string(), plan, "{console}");
    for (line, number) in results.iter().zip(1..) {
        let rest = line.strip_prefix("not ").unwrap_or(line);
        assert!(rest.starts_with(&format!("ok {number} - ")), "{line}");
    }
    results
}

#[test]
fn the_device_survives_every_case_and_the_disk_holds_what_was_rightly_written() {
    for (notify, read_only) in NOTIFY.into_iter().flat_map(|n| [(n, false), (n, true)]) {
        let disk = disk();
        let expected = if read_only {
            disk.bytes().clone()
        } else {
            left()
        };
        let mut ram = Ram::new();
        let mut hosts = [Host::new(&ram, &disk, notify, read_only)];
        let (ok, console) = run(&mut ram, &mut hosts, "run=hostile case=all");
        let failed = console.lines().any(|line| line.starts_with("not ok "));
        assert!(ok && !failed, "{notify:?}, {read_only}: {console}");
        for line in results(&console) {
            assert!(
                line.contains(" # SKIP ") || line.contains("; seen "),
                "{line}"
            );
        }
        assert!(*disk.bytes() == expected, "{notify:?}, {read_only}");
    }
}
