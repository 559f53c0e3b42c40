//! The register window as a page of memory, which holds at each place what the driver reads there:
//! for a transport that answers reads from it, and for a guest that has it in place of the
//! registers. What the values are, others say; some of them live here alone.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use spec::mmio::{CONFIG_OFFSET, DeviceStatus, InterruptStatus, Register};

use crate::locks::lock;

/// Size of the page, in bytes: that of the window.
pub const PAGE_SIZE: usize = 4096;
/// Width of a register, in bytes.
const WIDTH: usize = 4;
/// The first word of the configuration space.
const CONFIG_WORD: usize = CONFIG_OFFSET as usize / WIDTH;
/// Room for the configuration space, in bytes.
const CONFIG_SIZE: usize = PAGE_SIZE - CONFIG_OFFSET as usize;

/// The page, little endian as the guest sees it. Any thread may read and write it at any time, and a
/// guest may read it.
///
/// InterruptStatus and DEVICE_NEEDS_RESET, which threads of a device set, have no other place. All
/// else is written for the driver to see alone.
#[derive(Default)]
pub struct RegisterPage {
    words: Box<Words>,
    /// Held while the configuration space is read or written here; and how the guest reads the page,
    /// if it does.
    config: Mutex<Option<Box<dyn PageMapping>>>,
}

/// What a guest may have: nothing else is in these 4 KiB.
#[repr(C, align(4096))]
struct Words([AtomicU32; PAGE_SIZE / WIDTH]);

impl Default for Words {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; PAGE_SIZE / WIDTH])
    }
}

/// The page as memory of a guest, which reads it without an exit.
pub trait PageMapping: Send {
    /// Takes it from the guest: when this returns each read of the guest exits.
    ///
    /// # Errors
    /// The machine cannot.
    fn hide(&self) -> io::Result<()>;

    /// Gives it to the guest again.
    ///
    /// # Errors
    /// The machine cannot.
    fn show(&self) -> io::Result<()>;
}

impl RegisterPage {
    /// Where it is in this process: [`PAGE_SIZE`] bytes, aligned to as many, for as long as this
    /// lives.
    #[must_use]
    pub fn address(&self) -> *const u8 {
        std::ptr::from_ref(&*self.words).cast()
    }

    /// Says how the guest reads the page, which it does already.
    pub fn mapped_by(&self, mapping: Box<dyn PageMapping>) {
        *self.lock_config() = Some(mapping);
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

    /// Adds `events` to those that are pending.
    pub fn add_pending(&self, events: InterruptStatus) {
        self.word(Register::InterruptStatus)
            .fetch_or(events.bits().to_le(), Ordering::SeqCst);
    }

    /// What the driver writes to InterruptACK: it has handled these events. Those that are not
    /// pending are ignored.
    pub fn acknowledge(&self, events: u32) {
        self.word(Register::InterruptStatus)
            .fetch_and(!events.to_le(), Ordering::SeqCst);
    }

    /// Fills `data` with the bytes from `offset` on, in any width; with 0 past the end.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let _unchanged = self.lock_config();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, byte) in data.iter_mut().enumerate() {
            let place = start.saturating_add(index);
            let word = self.words.0.get(place / WIDTH);
            let bytes = word.map_or([0; WIDTH], |word| word.load(Ordering::SeqCst).to_ne_bytes());
            *byte = bytes[place % WIDTH];
        }
    }

    /// Has the configuration space read as what `read` fills in, and ConfigGeneration as what it
    /// returns. The one place from which either changes.
    ///
    /// A driver that reads the generation, something of the space and the generation again must not
    /// find the same where the space has changed between (section 2.5.1). With memory, no order of
    /// stores is enough for that: so while there is a new generation to be shown, the reads of the
    /// guest exit, and wait for it to be there.
    ///
    /// # Errors
    /// The page cannot be taken from the guest or given back.
    pub fn show_config(&self, read: impl FnOnce(&mut [u8]) -> u32) -> io::Result<()> {
        let mapping = self.lock_config();
        let mut space = [0; CONFIG_SIZE];
        let generation = read(&mut space);
        let is_new = generation != self.get(Register::ConfigGeneration);
        let mapping = mapping.as_ref().filter(|_| is_new);
        mapping.map_or(Ok(()), |mapping| mapping.hide())?;
        let (words, _) = space.as_chunks::<WIDTH>();
        for (word, bytes) in self.words.0.iter().skip(CONFIG_WORD).zip(words) {
            let value = u32::from_ne_bytes(*bytes);
            // Most of the space is zeros for ever.
            if word.load(Ordering::SeqCst) != value {
                word.store(value, Ordering::SeqCst);
            }
        }
        self.set(Register::ConfigGeneration, generation);
        mapping.map_or(Ok(()), |mapping| mapping.show())
    }

    fn lock_config(&self) -> MutexGuard<'_, Option<Box<dyn PageMapping>>> {
        lock(&self.config)
    }

    fn word(&self, register: Register) -> &AtomicU32 {
        // All registers are below the configuration space, and so in the page.
        &self.words.0[register.offset() as usize / WIDTH]
    }
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
