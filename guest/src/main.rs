//! The image.
#![no_std]
#![no_main]

mod machine;

use core::fmt::Write;
use machine::{exit::exit, serial::Serial};

#[unsafe(no_mangle)]
extern "C" fn start(start_info: u64, boot_params: u64) -> ! {
    let mut console = Serial::init();
    let _ = writeln!(console, "hello {start_info:#x} {boot_params:#x}");
    exit(0)
}
