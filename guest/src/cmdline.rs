//! The kernel command line: `key=value` words separated by white space, and Linux's syntax for
//! virtio-mmio devices. Knows nothing of what the keys mean to a workload.

use core::str::SplitAsciiWhitespace;

use thiserror::Error;

/// The key by which Linux, and so everybody, is told of a virtio-mmio device.
const DEVICE_KEY: &str = "virtio_mmio.device";

/// A kernel command line.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine<'a>(pub &'a str);

impl<'a> CommandLine<'a> {
    /// The words, in their order: key and value, or all of a word that is not `key=value`.
    pub fn words(self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        let words: SplitAsciiWhitespace<'a> = self.0.split_ascii_whitespace();
        words.map(|word| match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        })
    }

    /// The words that have the form `key=value`, in their order.
    pub fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.words().filter_map(|(key, value)| Some((key, value?)))
    }

    /// The value of `key`; where it is given more than once, the last.
    #[must_use]
    pub fn value(self, key: &str) -> Option<&'a str> {
        self.pairs()
            .filter(|&(k, _)| k == key)
            .last()
            .map(|(_, value)| value)
    }

    /// The virtio-mmio devices, in their order.
    pub fn devices(self) -> impl Iterator<Item = Result<Window, BadDevice<'a>>> {
        self.pairs()
            .filter(|&(key, _)| key == DEVICE_KEY)
            .map(|(_, value)| Window::parse(value).ok_or(BadDevice(value)))
    }
}

/// Where a virtio-mmio device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Guest-physical address of its registers.
    pub base: u64,
    /// Size of its registers and configuration space, in bytes.
    pub size: u64,
    /// The GSI by which it interrupts.
    pub gsi: u32,
}

impl Window {
    /// Parses Linux's `<size>@<baseaddr>:<irq>[:<id>]`. The id is for Linux's own use.
    fn parse(value: &str) -> Option<Self> {
        let (size, rest) = value.split_once('@')?;
        let mut rest = rest.split(':');
        let base = number(rest.next()?)?;
        let gsi = number(rest.next()?)?.try_into().ok()?;
        if let Some(id) = rest.next() {
            number(id)?;
        }
        let size = self::size(size)?;
        if rest.next().is_some() || size == 0 || base.checked_add(size).is_none() {
            return None;
        }
        Some(Self { base, size, gsi })
    }
}

/// The value of a `virtio_mmio.device` that is none.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{DEVICE_KEY}={0} is not <size>@<address>:<gsi>[:<id>]")]
pub struct BadDevice<'a>(pub &'a str);

/// The value of a number: decimal, or hexadecimal after `0x`.
#[must_use]
pub fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // `from_str_radix` takes a sign; a command line has none.
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// The value of a size in bytes: a number, with K, M or G after it for powers of 1024.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (text.get(..text.len() - 1)?, 10),
        b'M' | b'm' => (text.get(..text.len() - 1)?, 20),
        b'G' | b'g' => (text.get(..text.len() - 1)?, 30),
        _ => (text, 0),
    };
    number(digits)?.checked_mul(1 << shift)
}

#[cfg(test)]
#[path = "cmdline_tests.rs"]
mod tests;
