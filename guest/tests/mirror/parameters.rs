//! The words on the command line: which disk they choose, and what is said of those that are wrong.

use crate::host::{Host, Notify, Ram, run};
use crate::workloads::{assert_fails, disk, verdict};

#[test]
fn disks_are_counted_in_the_order_of_the_command_line() {
    let (first, second) = (disk(), disk());
    let mut ram = Ram::new();
    let mut hosts = [
        Host::new(&ram, &first, Notify::Trap, false),
        Host::new(&ram, &second, Notify::Trap, false),
    ];
    let (ok, console) = run(&mut ram, &mut hosts, "run=fill disk=1");
    assert!(ok, "{console}");
    assert!(*first.bytes() == *disk().bytes());
    assert!(second.bytes()[..512] == [0; 512]);
}

#[test]
fn what_is_wrong_with_a_parameter_is_told() {
    let parameters = "lba count retry queue_size disk wait indirect event_idx";
    for (line, expected) in [
        (
            "run=sleep",
            "sleep FAILED: no such workload; there are info read fill clear verify watch journal \
             explain selftest hostile storm stalled broken shell bench crash"
                .to_owned(),
        ),
        (
            "run=read lbaa=1",
            format!("read lbaa=1 FAILED: unknown parameter lbaa; there are {parameters}"),
        ),
        (
            "run=crash wait=irq",
            "crash wait=irq FAILED: unknown parameter wait; there are how".to_owned(),
        ),
        (
            "run=bench disk=0",
            "bench disk=0 FAILED: unknown parameter disk; there are".to_owned(),
        ),
        (
            "run=read lba=x",
            "read lba=x FAILED: lba=x is not a number from 0".to_owned(),
        ),
        (
            "run=read count=0",
            "read count=0 FAILED: count=0 is not a number from 1".to_owned(),
        ),
        (
            "run=fill byte=256",
            "fill byte=256 FAILED: byte=256 is not a number from 0 to 255".to_owned(),
        ),
        (
            "run=fill wait=never",
            "fill wait=never FAILED: wait=never is none of irq poll".to_owned(),
        ),
        (
            "run=fill disk=1",
            "fill disk=1 FAILED: there is no disk 1: disks=1".to_owned(),
        ),
        (
            "run=fill lba=500 count=13",
            "fill lba=500 count=13 FAILED: lba=500 count=13 is past the end of the disk: it has \
             512 sectors"
                .to_owned(),
        ),
        (
            "run=fill lba=0xffffffffffffffff",
            "fill lba=0xffffffffffffffff FAILED: lba=18446744073709551615 count=1 is past the end \
             of the disk: it has 512 sectors"
                .to_owned(),
        ),
        (
            "run=verify depth=0",
            "verify depth=0 FAILED: depth=0 is not a number from 1 to 256".to_owned(),
        ),
        (
            "run=journal count=8 size=9",
            "journal count=8 size=9 FAILED: size=9 is not a number from 1 to 8".to_owned(),
        ),
        (
            "run=journal queue_size=4 indirect=off",
            "journal queue_size=4 indirect=off FAILED: queue size 4 is not a power of two from 8 \
             to 256"
                .to_owned(),
        ),
        (
            "run=verify queue_size=512",
            "verify queue_size=512 FAILED: device at 0xd0000000: queue size 512 is not a power of \
             two from 4 to 256"
                .to_owned(),
        ),
        (
            "run=read lba 1",
            "read lba 1 FAILED: lba is not key=value".to_owned(),
        ),
        (
            "run=info quiet disk=0 and more",
            "info disk=0 and more FAILED: and is not key=value".to_owned(),
        ),
        (
            "run=info disk=abc",
            "info disk=abc FAILED: disk=abc is not a number from 0".to_owned(),
        ),
        (
            "run=crash disk=0",
            "crash disk=0 FAILED: unknown parameter disk; there are how".to_owned(),
        ),
    ] {
        assert_fails(line, &expected);
    }
}

#[test]
fn words_for_kernels_in_general_are_not_parameters() {
    let line =
        "run=fill console=ttyS0 reboot=k panic=1 8250.nr_uarts=0 quiet nokaslr ro i8042.noaux";
    let (ok, verdict) = verdict(&disk(), Notify::Trap, line);
    assert!(ok, "{verdict}");
}

#[test]
fn workloads_that_write_refuse_a_read_only_disk() {
    for workload in ["fill", "clear", "verify", "journal"] {
        let disk = disk();
        let mut ram = Ram::new();
        let mut hosts = [Host::new(&ram, &disk, Notify::Trap, true)];
        let (ok, console) = run(&mut ram, &mut hosts, &format!("run={workload}"));
        assert_eq!(
            (ok, console),
            (false, format!("{workload} FAILED: the disk is read-only\n"))
        );
    }
}
