//! The files that reports have been kept in, read back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::report::{FORMAT, Report};

/// What is wrong with a file.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} holds no report of vmm bench: {source}", path.display())]
    NoReport {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// It was to hold what a Linux guest gets, and does not.
    #[error("{} holds no figures of a Linux guest: {source}", path.display())]
    NoLinux {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// It holds a report that this program does not understand.
    #[error("{} is a report of format {found}: this program reads format {FORMAT}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// The report in `path`.
///
/// # Errors
/// Where it cannot be read, or holds something else.
pub fn read(path: &Path) -> Result<Report, FileError> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let text = fs::read(path).map_err(|source| {
        let path = path.into();
        FileError::Read { path, source }
    })?;
    let no_report = |source| {
        let path = path.into();
        FileError::NoReport { path, source }
    };
    let Version { format } = serde_json::from_slice(&text).map_err(no_report)?;
    if format != FORMAT {
        let path = path.into();
        return Err(FileError::Format {
            path,
            found: format,
        });
    }
    serde_json::from_slice(&text).map_err(no_report)
}

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
