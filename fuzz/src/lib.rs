//! The functions that are fuzzed: each takes any bytes, lets a part of the project have them, and
//! panics where that part does not do what it must. `README.md` says what each promises.

// A panic is how a target reports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod command_line;
mod device;
mod harness;
mod input;
mod loaders;
mod model;
mod parts;
mod qcow2;
mod queue;
mod ram;
mod registers;
mod request;
mod window;

use std::{env, fs, io};

pub use command_line::command_line;
pub use device::device;
pub use loaders::loaders;
pub use qcow2::qcow2;
pub use queue::queue;
pub use registers::registers;
pub use request::request;

/// Runs `target` on the content of each file that an argument names.
///
/// # Errors
/// A file cannot be read.
pub fn run_on_arguments(target: fn(&[u8])) -> io::Result<()> {
    for path in env::args_os().skip(1) {
        target(&fs::read(path)?);
    }
    Ok(())
}
