//! The words of a command, taken one after the other, and what is wrong with one that cannot be
//! carried out. What they mean is the commands' matter.

use alloc::string::String;
use core::fmt;
use core::ops::RangeInclusive;

use ext4_view::Ext4Error;
use thiserror::Error;

use super::super::failure::{Failure, NotIn};
use crate::cmdline::number;
use crate::dma::OutOfMemory;
use crate::virtio::Error;

/// Why a command has not been carried out.
#[derive(Debug, Error)]
pub enum Wrong {
    /// There are too few words, or too many.
    #[error("there are too few words, or too many")]
    Words,
    /// A word is not the number that it should be.
    #[error("{word} is {}", NotIn(.range))]
    Number {
        /// The word.
        word: String,
        /// What it may be.
        range: RangeInclusive<u64>,
    },
    /// A word is none of those that there can be.
    #[error("{word} is none of {choices}")]
    Choice {
        /// The word.
        word: String,
        /// What it may be.
        choices: &'static str,
    },
    /// As a workload fails.
    #[error(transparent)]
    Failure(#[from] Failure<'static>),
    /// The driver could not go on.
    #[error(transparent)]
    Driver(#[from] Error),
    /// The disk is not open in the way that the command needs.
    #[error("the disk is not open for this")]
    NotOpen,
    /// The device has not been notified of a request, and does not look by itself.
    #[error("the request is in the queue; the device has not been notified: `kick` does that")]
    NotNotified,
    /// The file system, or what is asked of it.
    #[error(transparent)]
    Files(#[from] Ext4Error),
    /// There is no file system.
    #[error("there is no ext2, ext3 or ext4 file system on the disk")]
    NoFiles,
    /// The file system needs more memory than there can be.
    #[error("a file system with {0}")]
    TooLarge(&'static str),
    /// The console cannot be written to.
    #[error("the console cannot be written to")]
    Console,
}

impl Wrong {
    /// Whether it is how the command was put that is wrong.
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Words | Self::Number { .. } | Self::Choice { .. }
        )
    }
}

impl From<fmt::Error> for Wrong {
    fn from(_: fmt::Error) -> Self {
        Self::Console
    }
}

impl From<OutOfMemory> for Wrong {
    fn from(error: OutOfMemory) -> Self {
        Self::Driver(error.into())
    }
}

/// The words that have not been taken yet.
#[derive(Clone, Debug)]
pub struct Arguments<'l>(&'l str);

impl<'l> Arguments<'l> {
    /// All words of `line`.
    pub const fn new(line: &'l str) -> Self {
        Self(line)
    }

    /// The next word, if there is one.
    pub fn word(&mut self) -> Option<&'l str> {
        let text = self.0.trim_ascii_start();
        if text.is_empty() {
            return None;
        }
        let end = text
            .find(|char: char| char.is_ascii_whitespace())
            .unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.0 = rest;
        Some(word)
    }

    /// The next word, which must be there.
    pub fn needed(&mut self) -> Result<&'l str, Wrong> {
        self.word().ok_or(Wrong::Words)
    }

    /// The next word, a number in `range`.
    pub fn number(&mut self, range: RangeInclusive<u64>) -> Result<u64, Wrong> {
        parse(self.needed()?, range)
    }

    /// The same, or `default` where there is no further word.
    pub fn number_or(&mut self, default: u64, range: RangeInclusive<u64>) -> Result<u64, Wrong> {
        self.word().map_or(Ok(default), |word| parse(word, range))
    }

    /// All the rest as it is, without the space around it.
    pub fn rest(&mut self) -> &'l str {
        core::mem::take(&mut self.0).trim_ascii()
    }

    /// Sees that there is no further word.
    pub fn end(&mut self) -> Result<(), Wrong> {
        self.word().map_or(Ok(()), |_| Err(Wrong::Words))
    }
}

/// `word` as a number in `range`: decimal, or hexadecimal after `0x`.
pub fn parse(word: &str, range: RangeInclusive<u64>) -> Result<u64, Wrong> {
    match number(word) {
        Some(number) if range.contains(&number) => Ok(number),
        _ => Err(Wrong::Number {
            word: word.into(),
            range,
        }),
    }
}
