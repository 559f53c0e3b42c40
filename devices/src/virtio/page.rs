//! The register window as memory, which holds at each place what the driver reads there: for a
//! transport that answers reads from it, and for a guest that has it in place of the registers. What
//! the values are, others say; some of them live here alone.

mod open;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use spec::mmio::{CONFIG_OFFSET, DeviceStatus, InterruptStatus, Register};

pub use open::Written;

use crate::locks::lock;
use open::Opened;

/// Size of a page, in bytes: that of the window.
pub const PAGE_SIZE: usize = 4096;
/// Where in two pages the window begins: so that what a driver accesses while it handles an
/// interrupt, and all that is behind it, is on the second page, and QueueNotify is on the first.
pub const WINDOW_OFFSET: usize = PAGE_SIZE - Register::InterruptStatus.offset() as usize;
/// Width of a register, in bytes.
const WIDTH: usize = 4;
/// How many words a page has.
const PAGE_WORDS: usize = PAGE_SIZE / WIDTH;
/// Room for the configuration space, in bytes.
const CONFIG_SIZE: usize = PAGE_SIZE - CONFIG_OFFSET as usize;

/// The window in its two pages, little endian as the guest sees it. Any thread may read and write it
/// at any time, and a guest may read it.
///
/// InterruptStatus and DEVICE_NEEDS_RESET, which threads of a device set, have no other place. All
/// else is written for the driver to see alone. While the second page is [open](Self::open) the guest
/// may write there, and what it holds is the guest's word.
#[derive(Default)]
pub struct RegisterPage {
    words: Box<Words>,
    /// Held while the configuration space is read or written here, and while the guest's access
    /// changes.
    second: Mutex<SecondPage>,
    /// Whether the second page can be open at all, and whether it is: for who need not wait to know.
    can_open: AtomicBool,
    is_open: AtomicBool,
    /// How many acknowledgements have been applied that did not exit.
    silent_acks: AtomicU64,
}

/// What a guest may have: nothing else is in these 8 KiB.
#[repr(C, align(4096))]
struct Words([AtomicU32; 2 * PAGE_WORDS]);

impl Default for Words {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; 2 * PAGE_WORDS])
    }
}

/// The guest's access to the second page, if it has some.
#[derive(Default)]
struct SecondPage {
    mapping: Option<Box<dyn PageMapping>>,
    opened: Option<Opened>,
}

/// What the guest can do with the second page without an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: each access exits.
    None,
    /// Read it.
    Read,
    /// Read and write it.
    Write,
}

/// The second page as memory of a guest.
pub trait PageMapping: Send {
    /// Gives the guest this access. When this returns it has no other.
    ///
    /// # Errors
    /// The machine cannot.
    fn allow(&mut self, access: Access) -> io::Result<()>;
}

impl RegisterPage {
    /// Where the two pages are in this process: twice [`PAGE_SIZE`] bytes, aligned to a page, for as
    /// long as this lives.
    #[must_use]
    pub fn address(&self) -> *const u8 {
        std::ptr::from_ref(&*self.words).cast()
    }

    /// Says how the guest reads the second page, which it does already, and whether it may be given
    /// [`Access::Write`]. It may where the device serves its queues only while the guest's one CPU
    /// waits for that: then nothing is in flight when the driver writes to the page, and the device
    /// learns of what it has written at the next exit.
    pub fn mapped_by(&self, mapping: Box<dyn PageMapping>, can_open: bool) {
        self.can_open.store(can_open, Ordering::Relaxed);
        self.lock_second().mapping = Some(mapping);
    }

    /// What `register` reads as.
    #[must_use]
    pub fn get(&self, register: Register) -> u32 {
        u32::from_le(self.word(register).load(Ordering::SeqCst))
    }

    /// Has `register` read as `value`.
    pub fn set(&self, register: Register, value: u32) {
        self.word(register).store(value.to_le(), Ordering::SeqCst);
    }

    /// The status, with DEVICE_NEEDS_RESET.
    #[must_use]
    pub fn status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_retain(self.get(Register::Status))
    }

    /// Adds `flags` to the status. Whoever else adds some loses nothing.
    pub fn add_status(&self, flags: DeviceStatus) {
        self.word(Register::Status)
            .fetch_or(flags.bits().to_le(), Ordering::SeqCst);
    }

    /// The events that the driver has not acknowledged.
    #[must_use]
    pub fn pending(&self) -> InterruptStatus {
        InterruptStatus::from_bits_retain(self.get(Register::InterruptStatus))
    }

    /// Adds DEVICE_NEEDS_RESET to the status. The page is not open then until the device is reset.
    ///
    /// # Errors
    /// The page cannot be taken from the guest or given back.
    pub fn add_needs_reset(&self) -> io::Result<()> {
        let _closed = self.lock_closed()?;
        self.add_status(DeviceStatus::DEVICE_NEEDS_RESET);
        Ok(())
    }

    /// Adds `event` to those that are pending. While a change of the configuration is, the page is
    /// not open.
    ///
    /// # Errors
    /// The page cannot be taken from the guest or given back.
    pub fn add_pending(&self, event: InterruptStatus) -> io::Result<()> {
        let is_change = event.contains(InterruptStatus::CONFIG_CHANGE);
        let _closed = is_change.then(|| self.lock_closed()).transpose()?;
        self.word(Register::InterruptStatus)
            .fetch_or(event.bits().to_le(), Ordering::SeqCst);
        Ok(())
    }

    /// What the driver writes to InterruptACK: it has handled these events. Those that are not
    /// pending are ignored.
    pub fn acknowledge(&self, events: u32) {
        self.word(Register::InterruptStatus)
            .fetch_and(!events.to_le(), Ordering::SeqCst);
    }

    /// The same for a write that did not exit.
    pub fn acknowledge_silently(&self, events: u32) {
        self.acknowledge(events);
        self.silent_acks.fetch_add(1, Ordering::Relaxed);
    }

    /// How many acknowledgements have been applied that did not exit. Of an open page some may have
    /// been written over by later ones.
    #[must_use]
    pub fn silent_acks(&self) -> u64 {
        self.silent_acks.load(Ordering::Relaxed)
    }

    /// Fills `data` with the bytes from `offset` on, in any width; with 0 past the end.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let _unchanged = self.lock_second();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, byte) in data.iter_mut().enumerate() {
            let place = start.saturating_add(index);
            *byte = match place {
                0..PAGE_SIZE => self.byte(place),
                _ => 0,
            };
        }
    }

    /// Has the configuration space read as what `read` fills in, and ConfigGeneration as what it
    /// returns. The one place from which either changes; the page is not open after it.
    ///
    /// A driver that reads the generation, something of the space and the generation again must not
    /// find the same where the space has changed between (section 2.5.1). With memory, no order of
    /// stores is enough for that: so while there is a new generation to be shown, the reads of the
    /// guest exit, and wait for it to be there.
    ///
    /// # Errors
    /// The page cannot be taken from the guest or given back.
    pub fn show_config(&self, read: impl FnOnce(&mut [u8]) -> u32) -> io::Result<()> {
        let mut second = self.lock_closed()?;
        let mut space = [0; CONFIG_SIZE];
        let generation = read(&mut space);
        let is_new = generation != self.get(Register::ConfigGeneration);
        let mut mapping = second.mapping.as_mut().filter(|_| is_new);
        allow(&mut mapping, Access::None)?;
        let (words, _) = space.as_chunks::<WIDTH>();
        let places = self.words.0.iter().skip(word_at(CONFIG_OFFSET as usize));
        for (word, bytes) in places.zip(words) {
            let value = u32::from_ne_bytes(*bytes);
            // Most of the space is zeros for ever.
            if word.load(Ordering::SeqCst) != value {
                word.store(value, Ordering::SeqCst);
            }
        }
        self.set(Register::ConfigGeneration, generation);
        allow(&mut mapping, Access::Read)
    }

    /// What is at an offset in the window.
    fn byte(&self, place: usize) -> u8 {
        let word = self.words.0.get(word_at(place));
        let bytes = word.map_or([0; WIDTH], |word| word.load(Ordering::SeqCst).to_ne_bytes());
        bytes[place % WIDTH]
    }

    fn second_words(&self) -> impl Iterator<Item = &AtomicU32> {
        self.words.0.iter().skip(PAGE_WORDS)
    }

    fn lock_second(&self) -> MutexGuard<'_, SecondPage> {
        lock(&self.second)
    }

    fn word(&self, register: Register) -> &AtomicU32 {
        // All registers are below the configuration space, and so in the page.
        &self.words.0[word_at(register.offset() as usize)]
    }
}

/// Where in the two pages the word is that has the byte at `place` of the window.
const fn word_at(place: usize) -> usize {
    (WINDOW_OFFSET + place) / WIDTH
}

/// Allows the guest's access to the second page, where it has some.
fn allow(mapping: &mut Option<&mut Box<dyn PageMapping>>, access: Access) -> io::Result<()> {
    mapping
        .as_mut()
        .map_or(Ok(()), |mapping| mapping.allow(access))
}

impl fmt::Debug for RegisterPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterPage")
            .field("status", &self.status())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
