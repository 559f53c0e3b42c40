//! `run=storm`, against the device, in every notify mode: that it comes to its end, and leaves the
//! disk alone. That nothing grows meanwhile is seen from outside the process.

use devices::virtio::block::backend::MemoryBackend;
use guest::rng::pattern;

use crate::host::{Host, Notify, Ram, run};

#[test]
fn a_storm_passes_and_leaves_a_device_that_works_and_the_disk_as_it_was() {
    let mut before = vec![0; 600 * 512];
    pattern(99, 0, &mut before);
    for notify in [Notify::Trap, Notify::IoEventFd, Notify::Poll] {
        for storm in [
            "kind=bad rounds=5",
            "kind=large rounds=2",
            "kind=full rounds=50",
        ] {
            let disk = MemoryBackend::new(before.clone());
            let mut ram = Ram::new();
            let mut hosts = [Host::new(&ram, &disk, notify, false)];
            let (ok, console) = run(&mut ram, &mut hosts, &format!("run=storm {storm}"));
            let verdict = format!("storm {storm} ok\n");
            assert!(ok && console.ends_with(&verdict), "{notify:?}: {console}");
            assert!(*disk.bytes() == before, "{notify:?}, {storm}");
        }
    }
}
