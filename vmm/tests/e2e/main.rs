//! The real binary, from outside: what it prints, how it ends, what it does to the terminal. What
//! a test needs of the machine and does not find makes it ignored, with the reason. With
//! `E2E_PART=n/m` every m-th test from the n-th on is run, so that m runs are all of them.

// This is all test code, but a harness of its own does not set cfg(test).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(feature = "bench")]
mod bench;
mod block_devices;
#[cfg(feature = "bench")]
mod block_io;
mod boot;
mod broken;
mod clear;
mod cli;
mod console;
mod data_safety;
mod device_disks;
mod direct;
mod disk;
#[cfg(feature = "io-uring")]
mod engine;
#[cfg(feature = "bench")]
mod exits;
#[cfg(feature = "explain")]
mod explain;
#[cfg(feature = "explain")]
mod explain_page;
#[cfg(feature = "gdb")]
mod gdb;
mod guests;
mod guide;
mod harness;
mod host_failures;
mod hostile;
mod hostile_disks;
mod hostile_smp;
mod hostile_smp_sectors;
mod journal;
mod kernels;
mod kvm;
mod limits;
mod linux;
mod linux_clear;
mod linux_disk;
mod linux_queues;
mod locks;
mod mapped;
mod memory;
mod needs;
mod pin;
mod power_loss;
#[cfg(feature = "gdb")]
mod probes;
mod pty;
#[cfg(feature = "qcow2")]
mod qcow2;
mod qemu;
mod queues;
mod resize;
mod sandbox;
mod shell;
mod smp;
#[cfg(feature = "bench")]
mod start;
mod stats;
mod status;
#[allow(dead_code)] // The unit tests use more of it.
#[path = "../../src/boot/test_elf.rs"]
mod test_elf;
mod throttle;
mod trace;
mod write_log;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let trials = [
        #[cfg(feature = "bench")]
        bench::tests(),
        boot::tests(),
        broken::tests(),
        clear::tests(),
        cli::tests(),
        console::tests(),
        data_safety::tests(),
        device_disks::tests(),
        direct::tests(),
        disk::tests(),
        #[cfg(feature = "io-uring")]
        engine::tests(),
        #[cfg(feature = "bench")]
        block_io::tests(),
        #[cfg(feature = "bench")]
        exits::tests(),
        #[cfg(feature = "explain")]
        explain::tests(),
        #[cfg(feature = "explain")]
        explain_page::tests(),
        guide::tests(),
        hostile::tests(),
        hostile_disks::tests(),
        hostile_smp::tests(),
        host_failures::tests(),
        #[cfg(feature = "gdb")]
        gdb::tests(),
        kvm::tests(),
        limits::tests(),
        linux::tests(),
        linux_clear::tests(),
        linux_disk::tests(),
        linux_queues::tests(),
        locks::tests(),
        mapped::tests(),
        memory::tests(),
        pin::tests(),
        power_loss::tests(),
        #[cfg(feature = "gdb")]
        probes::tests(),
        #[cfg(feature = "qcow2")]
        qcow2::tests(),
        qemu::tests(),
        resize::tests(),
        queues::tests(),
        throttle::tests(),
        sandbox::tests(),
        shell::tests(),
        smp::tests(),
        stats::tests(),
        #[cfg(feature = "bench")]
        start::tests(),
        status::tests(),
        trace::tests(),
    ];
    let trials = part(trials.into_iter().flatten().collect());
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Those of `trials` that this run is to do.
fn part(trials: Vec<Trial>) -> Vec<Trial> {
    let Ok(part) = std::env::var("E2E_PART") else {
        return trials;
    };
    let numbers = part
        .split_once('/')
        .and_then(|(n, m)| Some((n.parse().ok()?, m.parse().ok()?)));
    let (n, m): (usize, usize) = numbers.expect("E2E_PART is n/m");
    assert!((1..=m).contains(&n), "E2E_PART is n/m with n from 1 to m");
    trials.into_iter().skip(n - 1).step_by(m).collect()
}
