//! Bytes to and from a debugger. Waits for it no longer than the machine runs, whatever it does or
//! leaves undone.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use crate::stop::{StopEvent, poll};

/// How much is read at once, and how much is kept before it is sent, in bytes.
const BUFFER: usize = 16 * 1024;

/// A connection with a debugger.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    stop: StopEvent,
    input: VecDeque<u8>,
    output: Vec<u8>,
}

impl Connection {
    /// The connection by `socket`, which does not block. It fails, rather than wait, once `stop` has
    /// happened.
    #[must_use]
    pub fn new(socket: OwnedFd, stop: StopEvent) -> Self {
        Self {
            socket,
            stop,
            input: VecDeque::new(),
            output: Vec::new(),
        }
    }

    /// What is ready when there is something to be received.
    pub fn readable(&self) -> PollFd<'_> {
        PollFd::new(&self.socket, PollFlags::IN)
    }

    /// The next byte that has been received, if any.
    pub fn next(&mut self) -> Option<u8> {
        self.input.pop_front()
    }

    /// Receives what is there; `false` when nothing can come any more.
    ///
    /// # Errors
    /// Where the connection is broken.
    pub fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = [0; BUFFER];
        match rustix::io::read(&self.socket, &mut buffer) {
            Ok(0) => Ok(false),
            Ok(len) => {
                self.input.extend(buffer.iter().take(len));
                Ok(true)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let mut rest = self.output.as_slice();
        while !rest.is_empty() {
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::OUT),
                PollFd::new(&self.stop, PollFlags::IN),
            ];
            poll(&mut fds)?;
            // What is short is sent all the same, where there is room: how the machine has ended.
            let stopping = !fds[1].revents().is_empty();
            if stopping && (fds[0].revents().is_empty() || self.output.len() >= BUFFER) {
                return Err(io::Error::other("the machine stops"));
            }
            match rustix::io::write(&self.socket, rest) {
                Ok(len) => rest = rest.get(len..).unwrap_or_default(),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.output.clear();
        Ok(())
    }
}

impl gdbstub::conn::Connection for Connection {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.write_all(&[byte])
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.extend(bytes);
        if self.output.len() < BUFFER {
            return Ok(());
        }
        self.send()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}
