//! The time during which the guest may write to the second page without an exit: what begins and ends
//! it, and what there is then of what was written. What that means, the transport says.

use std::io;
use std::ops::Range;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use spec::mmio::{CONFIG_OFFSET, DeviceStatus, InterruptStatus, Register};

use super::{Access, PAGE_WORDS, RegisterPage, SecondPage, allow, word_at};

/// What the second page held when it was opened.
pub(super) struct Opened {
    words: Vec<u32>,
    /// How many of them a device has: the others are 0, and nobody's.
    used: usize,
    /// The part of the configuration space that the driver may change.
    config: Range<usize>,
}

/// What the driver has written to an open page, but for acknowledgements.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    /// What it has written to Status last; what was there if it has not.
    pub status: u32,
    /// What the part of the configuration space reads as that it may change.
    pub config: Vec<u8>,
}

impl RegisterPage {
    /// Lets the guest write to the second page without an exit, where that can be: from InterruptStatus
    /// to the end of the configuration space, of which the driver may change `config`. Not while it has
    /// to be told of a change, since an acknowledgement of that must not come late.
    ///
    /// # Errors
    /// The page cannot be given to the guest.
    pub fn open(&self, config: Range<usize>) -> io::Result<()> {
        let [can_open, is_open] =
            [&self.can_open, &self.is_open].map(|flag| flag.load(Ordering::Relaxed));
        if !can_open || is_open {
            return Ok(());
        }
        let mut second = self.lock_second();
        let quiet = !self.status().contains(DeviceStatus::DEVICE_NEEDS_RESET)
            && !self.pending().contains(InterruptStatus::CONFIG_CHANGE);
        let SecondPage { mapping, opened } = &mut *second;
        if let Some(mapping) = mapping.as_mut().filter(|_| quiet && opened.is_none()) {
            let words = self.second_words().map(|word| word.load(Ordering::SeqCst));
            let words: Vec<u32> = words.collect();
            let last = words
                .iter()
                .rposition(|word| *word != 0)
                .unwrap_or_default();
            let end = word_at(CONFIG_OFFSET as usize + config.end) - PAGE_WORDS;
            let used = end.max(last) + 1;
            mapping.allow(Access::Write)?;
            *opened = Some(Opened {
                words,
                used,
                config,
            });
            self.is_open.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Takes the second page from a guest that can write there, and returns what the driver has
    /// written: the page holds what it held before, but for what has been acknowledged. The caller
    /// does what has been written, and [shows](Self::show) the page again.
    ///
    /// # Errors
    /// The page cannot be taken from the guest.
    pub fn close(&self) -> io::Result<Option<Written>> {
        if !self.is_open.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.take_second(&mut self.lock_second())
    }

    /// Lets the guest read the second page again that has been taken from it.
    ///
    /// # Errors
    /// The page cannot be given back.
    pub fn show(&self) -> io::Result<()> {
        allow(&mut self.lock_second().mapping.as_mut(), Access::Read)
    }

    /// Applies what the driver has acknowledged on an open page, and returns whether anything else is
    /// written there. The guest must not run meanwhile.
    #[must_use]
    pub fn settle(&self) -> bool {
        if !self.is_open.load(Ordering::Relaxed) {
            return false;
        }
        let second = self.lock_second();
        second.opened.as_ref().is_some_and(|opened| {
            self.apply_ack();
            let words = opened.words.iter().zip(self.second_words());
            let mut others = words.take(opened.used).skip(1);
            others.any(|(was, word)| *was != word.load(Ordering::SeqCst))
        })
    }

    /// The second page, closed. What the driver has written there has been found already: it does not
    /// run, or the page has been closed before.
    pub(super) fn lock_closed(&self) -> io::Result<MutexGuard<'_, SecondPage>> {
        let mut second = self.lock_second();
        if self.take_second(&mut second)?.is_some() {
            allow(&mut second.mapping.as_mut(), Access::Read)?;
        }
        Ok(second)
    }

    fn take_second(&self, second: &mut SecondPage) -> io::Result<Option<Written>> {
        let SecondPage { mapping, opened } = second;
        let Some(opened) = opened.take() else {
            return Ok(None);
        };
        self.is_open.store(false, Ordering::Relaxed);
        allow(&mut mapping.as_mut(), Access::None)?;
        self.apply_ack();
        let places = opened
            .config
            .clone()
            .map(|offset| CONFIG_OFFSET as usize + offset);
        let written = Written {
            status: self.get(Register::Status),
            config: places.map(|place| self.byte(place)).collect(),
        };
        // InterruptStatus, the first, goes on.
        for (word, value) in self.second_words().zip(opened.words).skip(1) {
            word.store(value, Ordering::SeqCst);
        }
        Ok(Some(written))
    }

    /// What can be pending of an open page is a used buffer alone, whatever the guest has written.
    fn apply_ack(&self) {
        let acknowledged = self.get(Register::InterruptACK);
        if acknowledged != 0 {
            self.set(Register::InterruptACK, 0);
            self.silent_acks.fetch_add(1, Ordering::Relaxed);
        }
        let kept = InterruptStatus::USED_BUFFER.bits() & !acknowledged;
        self.word(Register::InterruptStatus)
            .fetch_and(kept.to_le(), Ordering::SeqCst);
    }
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
