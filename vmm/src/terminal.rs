//! The terminal on stdin, in raw mode for as long as the guest has it, and exactly as it was
//! afterwards, on every way out. Moves no byte.

use std::io::{self, IsTerminal, Stdin};

use rustix::process::getpgrp;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use vmm_sys_util::signal::{block_signal, unblock_signal};

/// What stdin is to the console.
#[derive(Debug)]
pub enum Input {
    /// A terminal of ours, now in raw mode: keys come one by one and unseen.
    Terminal(RawTerminal),
    /// A terminal that another job has: touching it would stop this process.
    Background,
    /// A pipe, a file or anything else: bytes as they are.
    Stream,
}

/// Finds out what stdin is, and takes it over if it is a terminal.
///
/// # Errors
/// Where the terminal cannot be set.
pub fn take_over_stdin() -> io::Result<Input> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Ok(Input::Stream);
    }
    // Without a foreground job there is none that it could be taken from.
    if tcgetpgrp(&stdin).is_ok_and(|foreground| foreground != getpgrp()) {
        return Ok(Input::Background);
    }
    RawTerminal::new(stdin).map(Input::Terminal)
}

/// A terminal in raw mode. Dropping this restores it.
#[derive(Debug)]
pub struct RawTerminal {
    stdin: Stdin,
    saved: Termios,
}

impl RawTerminal {
    fn new(stdin: Stdin) -> io::Result<Self> {
        let saved = tcgetattr(&stdin)?;
        let mut raw = saved.clone();
        raw.make_raw();
        // Output keeps its modes, so that a line feed goes on returning the carriage.
        raw.output_modes = saved.output_modes;
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Self { stdin, saved })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // If this job is in the background by now, SIGTTOU would stop it here, unless blocked.
        let blocked = block_signal(libc::SIGTTOU).is_ok();
        if let Err(error) = tcsetattr(&self.stdin, OptionalActions::Now, &self.saved) {
            log::error!("cannot restore the terminal: {error}");
        }
        if blocked && let Err(error) = unblock_signal(libc::SIGTTOU) {
            log::error!("cannot unblock SIGTTOU: {error:?}");
        }
    }
}
