//! The console: the guest's serial output to stdout, and stdin to the serial port. Knows what
//! bytes mean to the user (Ctrl-A), not what they mean to the guest.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::{Builder, JoinHandle};

use devices::DeviceError;
use devices::serial::SerialInput;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::error::{Error, cannot};
use crate::sandbox::Ticket;
use crate::stop::{StopEvent, StopReason, poll};

/// What a pipe that is ready takes at once without blocking, in bytes (PIPE_BUF).
const CHUNK: usize = 4096;
/// How much input is read ahead of a guest that does not take it, in bytes.
const READ_AHEAD: usize = 64 * 1024;

/// Where the serial port writes: stdout, unbuffered, for a prompt without a line end is to be
/// seen too. A reader that is slow holds up the guest, but not the end of the machine.
#[derive(Debug)]
pub struct Output {
    stop: StopEvent,
}

impl Output {
    /// An output whose writes fail, rather than wait, once `stop` has happened.
    #[must_use]
    pub fn new(stop: StopEvent) -> Self {
        Self { stop }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stdout = io::stdout();
        let bytes = bytes.get(..CHUNK).unwrap_or(bytes);
        loop {
            let mut fds = [
                PollFd::new(&stdout, PollFlags::OUT),
                PollFd::new(&self.stop, PollFlags::IN),
            ];
            poll(&mut fds)?;
            if fds.iter().all(|fd| fd.revents().is_empty()) {
                continue;
            }
            if fds[0].revents().is_empty() {
                return Err(io::Error::other("the machine stops"));
            }
            match rustix::io::write(&stdout, bytes) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                result => return Ok(result?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the console reads, and whether a user sits there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Keys of a terminal in raw mode: Ctrl-A is ours.
    Keys,
    /// Bytes of a pipe or a file: all are the guest's.
    Bytes,
}

/// The thread that reads stdin. Dropping this stops it and waits for it.
#[derive(Debug)]
pub struct InputThread {
    stop: StopEvent,
    /// `None` once it has been waited for.
    thread: Option<JoinHandle<()>>,
}

impl InputThread {
    /// Starts to feed stdin to `serial`, which makes `room` readable when it can take more. The
    /// thread enters the sandbox by `ticket`.
    ///
    /// # Errors
    /// Where there can be no thread.
    pub fn spawn(
        source: Source,
        serial: SerialInput,
        room: Arc<OwnedFd>,
        stop: StopEvent,
        reasons: Sender<StopReason>,
        ticket: Ticket,
    ) -> Result<Self, Error> {
        let mut feeder = Feeder {
            serial,
            room,
            stop: stop.clone(),
            keys: (source == Source::Keys).then(Keys::default),
            pending: VecDeque::new(),
        };
        let thread = Builder::new()
            .name("console".into())
            .spawn(move || {
                ticket.enter();
                if let Some(reason) = feeder.run() {
                    // Nobody listens any more when the machine has stopped for another reason.
                    let _ = reasons.send(reason);
                }
            })
            .map_err(cannot("start the console's thread"))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for InputThread {
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the hook that reports them all.
            let _ = thread.join();
        }
    }
}

struct Feeder {
    serial: SerialInput,
    room: Arc<OwnedFd>,
    stop: StopEvent,
    /// `None` where every byte is the guest's.
    keys: Option<Keys>,
    /// What has been read and not yet fed.
    pending: VecDeque<u8>,
}

impl Feeder {
    /// Reads and feeds until the machine stops or the input ends; returns why the machine is to
    /// stop, if it is this that says so.
    fn run(&mut self) -> Option<StopReason> {
        let stdin = io::stdin();
        let mut open = true;
        while open || !self.pending.is_empty() {
            // What is not wanted now is not asked for; poll ignores events of 0.
            let want = |wanted: bool| {
                if wanted {
                    PollFlags::IN
                } else {
                    PollFlags::empty()
                }
            };
            let mut fds = vec![
                PollFd::new(&self.stop, PollFlags::IN),
                PollFd::new(&self.room, want(!self.pending.is_empty())),
            ];
            if open && self.pending.len() < READ_AHEAD {
                fds.push(PollFd::new(&stdin, PollFlags::IN));
            }
            if let Err(error) = poll(&mut fds) {
                return Some(StopReason::Failed(cannot("wait for input")(error)));
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready[0] {
                return None;
            }
            if ready[1]
                && let Err(error) = rustix::io::read(&self.room, &mut [0; 8])
            {
                return Some(StopReason::Failed(cannot("wait for the guest")(error)));
            }
            if ready.get(2) == Some(&true) {
                match self.read(stdin.as_fd()) {
                    Ok(Read::Bytes) => {}
                    Ok(Read::End) => open = false,
                    Ok(Read::Quit) => return Some(StopReason::Quit),
                    Err(error) => {
                        log::warn!("no more input: cannot read stdin: {error}");
                        open = false;
                    }
                }
            }
            if let Err(error) = self.feed() {
                return Some(StopReason::Failed(error.into()));
            }
        }
        // The guest has the rest in its FIFO, and no more will come.
        match self.serial.hang_up() {
            Ok(()) => None,
            Err(error) => Some(StopReason::Failed(error.into())),
        }
    }

    fn read(&mut self, stdin: impl AsFd) -> Result<Read, Errno> {
        let mut buffer = [0; CHUNK];
        let len = match rustix::io::read(stdin, &mut buffer) {
            Err(Errno::INTR | Errno::AGAIN) => return Ok(Read::Bytes),
            result => result?,
        };
        let bytes = buffer.get(..len).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(Read::End);
        }
        match &mut self.keys {
            None => self.pending.extend(bytes),
            Some(keys) => {
                for &byte in bytes {
                    match keys.press(byte) {
                        Key::Guest(bytes) => self.pending.extend(bytes),
                        Key::Nothing => {}
                        Key::Quit => return Ok(Read::Quit),
                    }
                }
            }
        }
        Ok(Read::Bytes)
    }

    /// Gives the serial port as much as it has room for.
    fn feed(&mut self) -> Result<(), DeviceError> {
        let len = self.serial.room().min(self.pending.len());
        let bytes: Vec<u8> = self.pending.drain(..len).collect();
        // In loopback mode the port takes nothing though it has room: the line is cut, and what
        // comes in is lost, as it is on the wire.
        self.serial.enqueue(&bytes)?;
        Ok(())
    }
}

enum Read {
    Bytes,
    End,
    Quit,
}

/// Tells the user's commands from keys for the guest: Ctrl-A X leaves, Ctrl-A Ctrl-A (or Ctrl-A a)
/// is Ctrl-A.
#[derive(Debug, Default)]
struct Keys {
    escaped: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Key {
    Guest(Vec<u8>),
    Nothing,
    Quit,
}

impl Keys {
    const CTRL_A: u8 = 1;

    fn press(&mut self, byte: u8) -> Key {
        if !std::mem::take(&mut self.escaped) {
            self.escaped = byte == Self::CTRL_A;
            return if self.escaped {
                Key::Nothing
            } else {
                Key::Guest(vec![byte])
            };
        }
        match byte {
            b'x' | b'X' => Key::Quit,
            b'a' | Self::CTRL_A => Key::Guest(vec![Self::CTRL_A]),
            other => Key::Guest(vec![Self::CTRL_A, other]),
        }
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
