//! A disk that gets another size at any moment of what the driver does with it.

use devices::virtio::block::backend::MemoryBackend;
use guest::virtio::Transport;
use spec::mmio::Register;

use crate::host::{Host, Notify, Ram, Read, run};

const OLD: usize = 100;
const NEW: usize = 40;

/// Runs `run=watch` on a disk that changes its size right before the read number `moment` of
/// ConfigGeneration: what it printed.
fn watch(notify: Notify, wait: &str, moment: u32) -> (bool, String) {
    let disk = MemoryBackend::new(vec![0; OLD * 512]);
    let mut ram = Ram::new();
    let mut hosts = [Host::new(&ram, &disk, notify, false)];
    let (mut port, mut reads) = (hosts[0].port(), 0);
    hosts[0].forge = Some(Box::new(move |read| {
        if read == Read::Register(Register::ConfigGeneration) {
            reads += 1;
            if reads == moment {
                disk.bytes().resize(NEW * 512, 0);
                port.refresh();
                // A device with a thread has that look when it comes to it.
                while port.read(Register::ConfigGeneration) == 0 {
                    port.pause();
                }
            }
        }
        None
    }));
    run(&mut ram, &mut hosts, &format!("run=watch wait={wait}"))
}

#[test]
fn watch_sees_the_new_size_whenever_it_comes() {
    let told = format!("watch capacity={OLD}\nwatch capacity={NEW}\nwatch count=1 ok\n");
    for notify in [Notify::Trap, Notify::IoEventFd, Notify::Poll] {
        for wait in ["irq", "poll"] {
            // Between the halves that the driver reads at the end of its first check.
            for moment in [3, 4] {
                assert_eq!(watch(notify, wait, moment), (true, told.clone()));
            }
        }
    }
}

#[test]
fn the_size_that_a_disk_has_once_it_is_live_is_the_one_that_is_used() {
    // Before the driver has read the first capacity, and between its halves.
    for moment in [1, 2] {
        let (_, console) = watch(Notify::Trap, "irq", moment);
        assert!(
            console.starts_with(&format!("watch capacity={NEW}\n")),
            "{console}"
        );
    }
}
