//! The files that a command is to keep what it found in: written whole or not at all. Knows nothing
//! of what is in them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use tempfile::NamedTempFile;
use thiserror::Error;

/// A file cannot be written.
#[derive(Debug, Error)]
#[error("cannot write {}: {source}", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// Whether `path` can be written, without writing it.
///
/// # Errors
/// Where it cannot.
pub fn check(path: &Path) -> Result<(), WriteError> {
    let check = || match place(path)? {
        Place::InDirectory(target) => {
            if target.exists() {
                File::options().write(true).open(&target)?;
            }
            temporary(&target).map(drop)
        }
        Place::Special => File::options().write(true).open(path).map(drop),
    };
    check().map_err(|source| cannot_write(path, source))
}

/// Makes `content` all that is in `path`. Where that fails, what was there before still is.
///
/// # Errors
/// Where it cannot be written.
pub fn write(path: &Path, content: &[u8]) -> Result<(), WriteError> {
    let write = || match place(path)? {
        Place::InDirectory(target) => {
            let mut file = temporary(&target)?;
            file.write_all(content)?;
            file.persist(&target)?;
            Ok(())
        }
        Place::Special => File::options().write(true).open(path)?.write_all(content),
    };
    write().map_err(|source| cannot_write(path, source))
}

fn cannot_write(path: &Path, source: io::Error) -> WriteError {
    let path = path.into();
    WriteError { path, source }
}

/// How a file is written.
enum Place {
    /// A regular file with this path, or none yet: made beside it and renamed.
    InDirectory(PathBuf),
    /// A terminal, a pipe or the like: written to.
    Special,
}

fn place(path: &Path) -> io::Result<Place> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Place::InDirectory(fs::canonicalize(path)?)),
        Ok(metadata) if metadata.is_dir() => Err(io::Error::from_raw_os_error(libc::EISDIR)),
        Ok(_) => Ok(Place::Special),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Place::InDirectory(path.into()))
        }
        Err(error) => Err(error),
    }
}

/// A file beside `target`, with the permissions of any that is made anew.
fn temporary(target: &Path) -> io::Result<NamedTempFile> {
    let directory = match target.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(directory)
        .map_err(without_name)
}

/// The host's own error of those that `tempfile` returns, which have the name of the temporary file
/// in front: it means nothing to anybody.
fn without_name(error: io::Error) -> io::Error {
    let named = error.get_ref().and_then(std::error::Error::source);
    let number = named
        .and_then(|source| source.downcast_ref())
        .and_then(io::Error::raw_os_error);
    number.map_or(error, io::Error::from_raw_os_error)
}

/// `value` as JSON for people too: each field in a line of its own, a list of numbers in one line.
///
/// # Errors
/// None that memory does not give.
pub fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut out, Layout::default()))?;
    out.push(b'\n');
    Ok(out)
}

/// Objects over several lines, arrays in one.
#[derive(Default)]
struct Layout(PrettyFormatter<'static>);

impl Formatter for Layout {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
