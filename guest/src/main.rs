//! The image: what runs when the machine is booted. It makes the machine ready, hands it to the
//! workload that the command line chooses, and ends with the workload's verdict.

#![no_std]
#![no_main]

mod machine;

use core::cell::UnsafeCell;
use core::fmt::Write;
use core::ptr;

use guest::cmdline::CommandLine;
use guest::dma::Arena;
use guest::workloads::{self, Environment};

use machine::boot_info::{BootError, BootInfo};
use machine::exit::exit;
use machine::heap::HEAP_SIZE;
use machine::serial::Serial;
use machine::{BareMetal, init};

#[cfg(not(panic = "abort"))]
compile_error!("the image is built with `--profile image`; see vmm/build.rs");

/// Size of the memory for queues and data, in bytes.
const ARENA_SIZE: usize = 2 << 20;

/// Memory that only devices and the arena use.
#[repr(C, align(4096))]
struct DmaMemory(UnsafeCell<[u8; ARENA_SIZE]>);

// SAFETY: nobody refers to what is in it; its address alone is used, once, by `start`.
unsafe impl Sync for DmaMemory {}

static DMA_MEMORY: DmaMemory = DmaMemory(UnsafeCell::new([0; ARENA_SIZE]));

/// Called by `boot.s`, once, with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn start(start_info: u64, boot_params: u64, entry_bits: u32) -> ! {
    let mut console = Serial::init();
    let boot = match BootInfo::find(start_info, boot_params) {
        Ok(boot) => boot,
        Err(error) => give_up(&mut console, &error),
    };
    init();
    let command_line = CommandLine(boot.command_line());
    // SAFETY: the static is used nowhere else, `start` is called once, and the image is
    // identity-mapped.
    let arena = unsafe { Arena::new(DMA_MEMORY.0.get().cast(), ARENA_SIZE) };
    let (ram, ram_end) = boot.free_ram();
    // SAFETY: the memory map says that this is RAM, it is identity-mapped, and neither the image
    // nor what the loader left is in it.
    let mut ram = unsafe {
        Arena::new(
            ptr::with_exposed_provenance_mut(ram as usize),
            (ram_end - ram) as usize,
        )
    };
    let heap = ram.split_off(HEAP_SIZE);
    let ok = workloads::run(&mut Environment {
        command_line,
        console: &mut console,
        machine: &mut BareMetal::new(boot, entry_bits, heap),
        arena,
        ram,
    });
    exit(if ok { 0 } else { 1 })
}

/// Ends the run before it has begun.
fn give_up(console: &mut Serial, error: &BootError) -> ! {
    // The console cannot fail.
    let _ = writeln!(console, "boot FAILED: {error}");
    exit(1)
}
