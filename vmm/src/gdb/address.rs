//! Where a debugger connects: what `--gdb` is given, and the socket that listens there. A path is
//! taken only if there is nothing, and there is nothing again when the socket is closed.

use std::ffi::OsStr;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::number::number;

/// Where a debugger connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// This TCP port of the local host; 0 is one that is free.
    Tcp(u16),
    /// A Unix socket with this path.
    Unix(PathBuf),
}

/// Why words are no [`Address`].
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// Neither kind.
    #[error("it is neither tcp:PORT nor unix:PATH")]
    Kind,
    /// No port.
    #[error("a port is a number from 0 (one that is free) to 65535")]
    Port,
    /// No path.
    #[error("the path is empty")]
    NoPath,
}

impl Address {
    /// The address that `words` say.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse(words: &OsStr) -> Result<Self, AddressError> {
        let words = words.as_bytes();
        if let Some(port) = words.strip_prefix(b"tcp:") {
            let port = str::from_utf8(port).map_err(|_| AddressError::Port)?;
            let port = number(0..=u16::MAX)(port).map_err(|_| AddressError::Port);
            return port.map(Self::Tcp);
        }
        match words.strip_prefix(b"unix:") {
            None => Err(AddressError::Kind),
            Some(b"") => Err(AddressError::NoPath),
            Some(path) => Ok(Self::Unix(OsStr::from_bytes(path).into())),
        }
    }
}

/// As gdb's `target remote` takes it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "{}:{port}", Ipv4Addr::LOCALHOST),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
    _file: Option<SocketFile>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens at `address`.
    ///
    /// # Errors
    /// Where that cannot be, or, for a path, where there is something already.
    pub fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(port) => {
                let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, *port))?;
                socket.set_nonblocking(true)?;
                let address = Address::Tcp(socket.local_addr()?.port());
                Ok(Self {
                    socket: Socket::Tcp(socket),
                    address,
                    _file: None,
                })
            }
            Address::Unix(path) => {
                let socket = UnixListener::bind(path)?;
                let file = SocketFile(path.clone());
                socket.set_nonblocking(true)?;
                Ok(Self {
                    socket: Socket::Unix(socket),
                    address: address.clone(),
                    _file: Some(file),
                })
            }
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The directory that the path of the socket is in, if it has one.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn directory(&self) -> io::Result<Option<OwnedFd>> {
        let Address::Unix(path) = &self.address else {
            return Ok(None);
        };
        let parent = path.parent().filter(|parent| *parent != Path::new(""));
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(parent.unwrap_or(Path::new(".")))?;
        Ok(Some(directory.into()))
    }

    /// The connection of who came first; `None` where he has gone again.
    ///
    /// # Errors
    /// Where the host refuses.
    pub fn accept(&self) -> io::Result<Option<OwnedFd>> {
        let accepted = match &self.socket {
            Socket::Tcp(socket) => socket.accept().and_then(|(stream, _)| {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Ok(stream.into())
            }),
            Socket::Unix(socket) => socket.accept().and_then(|(stream, _)| {
                stream.set_nonblocking(true)?;
                Ok(stream.into())
            }),
        };
        use io::ErrorKind::{ConnectionAborted, Interrupted, InvalidInput, WouldBlock};
        match accepted {
            Ok(stream) => Ok(Some(stream)),
            // InvalidInput: of a connection that has been reset TCP knows no option.
            Err(error)
                if [ConnectionAborted, Interrupted, InvalidInput, WouldBlock]
                    .contains(&error.kind()) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

/// The path of a Unix socket, which is removed when this is dropped.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let path: &Path = &self.0;
        match std::fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log::warn!("cannot remove {}: {error}", path.display()),
        }
    }
}

#[cfg(test)]
#[path = "address_tests.rs"]
mod tests;
