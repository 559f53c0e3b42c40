//! A stock Linux guest on disks with several queues: it has one for each CPU, and uses them all at
//! once, in every notify mode, with trapped registers and with mapped ones.

use libtest_mimic::Trial;
use serde_json::Value;

use crate::guests::{NOTIFY_MODES, disk};
use crate::linux::Script;
use crate::linux_disk::{TOOLS, empty_image, with_tools};
use crate::needs::Needs;

pub fn tests() -> Vec<Trial> {
    vec![crate::harness::test(
        "linux_uses_a_queue_for_each_cpu_and_finds_every_byte_in_every_notify_mode",
        Needs::Linux(&["tools.img"]),
        queues,
    )]
}

/// A job on each CPU, with a part of the disk of its own.
const FIO: &str = "chroot /tools fio --direct=1 --ioengine=libaio --iodepth=8 --rw=randwrite \
    --bsrange=4k-32k --numjobs=2 --cpus_allowed=0-1 --cpus_allowed_policy=split --size=256k \
    --offset_increment=1m --verify=crc32c --verify_fatal=1 --name=queues";

fn queues() {
    let ways: Vec<_> = NOTIFY_MODES
        .into_iter()
        .flat_map(|notify| ["trap", "mapped"].map(|registers| (notify, registers)))
        .collect();
    let images: Vec<_> = ways.iter().map(|_| empty_image(2 << 20)).collect();
    let disks: Vec<_> = ways
        .iter()
        .zip(&images)
        .map(|((notify, registers), (_, path))| {
            let options = format!(",queues=2,notify={notify},registers={registers}");
            disk(path, &options)
        })
        .collect();
    let linux = Script {
        cpus: "2",
        disks: &with_tools(&disks),
        ..Script::default()
    };
    let names: Vec<_> = (b'b'..).take(ways.len()).map(char::from).collect();
    let (_dir, vmm) = linux.start(&format!(
        "set -e
        {TOOLS}
        for d in {}; do
            echo vd$d: $(ls /sys/block/vd$d/mq) on $(cat /sys/block/vd$d/mq/*/cpu_list)
            {FIO} --filename=/dev/vd$d
        done
        dmesg | grep 'nobody cared' || echo DONE
        poweroff -f\n",
        names
            .iter()
            .map(char::to_string)
            .collect::<Vec<_>>()
            .join(" "),
    ));
    let vmm = vmm.command(|command| _ = command.args(["--stats=json", "--pin"]));
    let ended = vmm.spawn().wait();
    let printed = String::from_utf8_lossy(&ended.stdout).replace('\r', "");
    assert!(printed.contains("DONE\n"), "{printed}\n{}", ended.stderr);
    let line = ended.stderr.lines().find(|line| line.starts_with('{'));
    let report: Value = serde_json::from_str(line.expect(&ended.stderr)).unwrap();
    for ((way, name), number) in ways.iter().zip(names).zip(1..) {
        let line = format!("vd{name}: 0 1 on 0 1\n");
        assert!(printed.contains(&line), "{way:?}: no {line} in\n{printed}");
        let device = format!("virtio-blk {number} (disk{number})");
        let queues = report["queues"].as_array().unwrap().iter();
        let requests: Vec<_> = queues
            .filter(|queue| queue["device"] == device)
            .map(|queue| queue["all"]["count"].as_u64().unwrap())
            .collect();
        // 256 KiB are written and read back, in requests of 32 KiB at most.
        let all_used = requests.len() == 2 && requests.iter().all(|count| *count >= 16);
        assert!(all_used, "{way:?}: {requests:?}");
    }
}
