//! The real binary, from outside: what it prints, how it ends, what it does to the terminal. What
//! a test needs of the machine and does not find makes it ignored, with the reason.

// This is all test code, but a harness of its own does not set cfg(test).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(feature = "bench")]
mod bench;
mod block_devices;
#[cfg(feature = "bench")]
mod block_io;
mod boot;
mod clear;
mod cli;
mod console;
mod data_safety;
mod disk;
#[cfg(feature = "bench")]
mod exits;
#[cfg(feature = "explain")]
mod explain;
#[cfg(feature = "explain")]
mod explain_page;
#[cfg(feature = "gdb")]
mod gdb;
mod guests;
mod harness;
mod host_failures;
mod hostile;
mod hostile_smp;
mod journal;
mod kernels;
mod kvm;
mod limits;
mod linux;
mod linux_clear;
mod linux_disk;
mod locks;
mod memory;
mod needs;
mod power_loss;
#[cfg(feature = "gdb")]
mod probes;
mod pty;
mod qemu;
mod sandbox;
mod smp;
#[cfg(feature = "bench")]
mod start;
mod stats;
mod status;
#[allow(dead_code)] // The unit tests use more of it.
#[path = "../../src/boot/test_elf.rs"]
mod test_elf;
mod trace;
mod write_log;

use libtest_mimic::Arguments;

fn main() {
    let trials = [
        #[cfg(feature = "bench")]
        bench::tests(),
        boot::tests(),
        clear::tests(),
        cli::tests(),
        console::tests(),
        data_safety::tests(),
        disk::tests(),
        #[cfg(feature = "bench")]
        block_io::tests(),
        #[cfg(feature = "bench")]
        exits::tests(),
        #[cfg(feature = "explain")]
        explain::tests(),
        #[cfg(feature = "explain")]
        explain_page::tests(),
        hostile::tests(),
        hostile_smp::tests(),
        host_failures::tests(),
        #[cfg(feature = "gdb")]
        gdb::tests(),
        kvm::tests(),
        limits::tests(),
        linux::tests(),
        linux_clear::tests(),
        linux_disk::tests(),
        locks::tests(),
        memory::tests(),
        power_loss::tests(),
        #[cfg(feature = "gdb")]
        probes::tests(),
        qemu::tests(),
        sandbox::tests(),
        smp::tests(),
        stats::tests(),
        #[cfg(feature = "bench")]
        start::tests(),
        status::tests(),
        trace::tests(),
    ];
    let trials = trials.into_iter().flatten().collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
