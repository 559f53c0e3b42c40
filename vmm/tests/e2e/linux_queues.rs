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
    --bsrange=4k-32k --numjobs=4 --cpus_allowed=0-3 --cpus_allowed_policy=split --size=256k \
    --offset_increment=1m --verify=crc32c --verify_fatal=1 --name=queues";

fn queues() {
    for notify in NOTIFY_MODES {
        let images = [(); 2].map(|()| empty_image(8 << 20));
        let options = ["trap", "mapped"].map(|how| format!(",queues=4,registers={how}"));
        let disks = images.iter().zip(&options);
        let disks: Vec<_> = disks
            .map(|((_, path), options)| disk(path, &format!(",notify={notify}{options}")))
            .collect();
        let linux = Script {
            cpus: "4",
            disks: &with_tools(&disks),
            ..Script::default()
        };
        let (_dir, vmm) = linux.start(&format!(
            "set -e
            {TOOLS}
            for d in vdb vdc; do
                echo $d: $(ls /sys/block/$d/mq) on $(cat /sys/block/$d/mq/*/cpu_list)
                {FIO} --filename=/dev/$d
            done
            dmesg | grep 'nobody cared' || echo DONE
            poweroff -f\n"
        ));
        let vmm = vmm.command(|command| _ = command.args(["--stats=json", "--pin"]));
        let ended = vmm.spawn().wait();
        let printed = String::from_utf8_lossy(&ended.stdout).replace('\r', "");
        for line in [
            "vdb: 0 1 2 3 on 0 1 2 3\n",
            "vdc: 0 1 2 3 on 0 1 2 3\n",
            "DONE\n",
        ] {
            assert!(printed.contains(line), "{notify}: no {line} in\n{printed}");
        }
        let line = ended.stderr.lines().find(|line| line.starts_with('{'));
        let report: Value = serde_json::from_str(line.expect(&ended.stderr)).unwrap();
        for queue in report["queues"].as_array().unwrap() {
            let (of, requests) = (&queue["device"], queue["all"]["count"].as_u64());
            let least = if of == "virtio-blk 1 (disk1)" || of == "virtio-blk 2 (disk2)" {
                // 256 KiB are written and read back, in requests of 32 KiB at most.
                16
            } else {
                0
            };
            assert!(requests >= Some(least), "{notify}: {queue}");
        }
    }
}
