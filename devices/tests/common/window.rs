//! The registers as memory of a guest: what it may do with their second page, in place of KVM. It can do
//! nothing with the first but read it.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use devices::virtio::page::{PAGE_SIZE, WINDOW_OFFSET};
use devices::virtio::{Access, PageMapping, RegisterPage};
use spec::block::config;
use spec::mmio::{CONFIG_OFFSET, Register};

/// The memory of a guest that has it in place of the registers of a device.
pub struct Window {
    page: Arc<RegisterPage>,
    slot: Arc<Mutex<Slot>>,
}

struct Slot {
    access: Access,
    /// All that the guest has been allowed.
    allowed: Vec<Access>,
    /// What the machine cannot allow.
    refused: Option<Access>,
    /// Status and the word of `writeback`, as the guest has found them when it could read again.
    found: Vec<[u32; 2]>,
}

struct SecondPage {
    page: Weak<RegisterPage>,
    slot: Arc<Mutex<Slot>>,
}

impl PageMapping for SecondPage {
    fn allow(&mut self, access: Access) -> io::Result<()> {
        let mut slot = self.slot.lock().unwrap();
        if slot.refused == Some(access) {
            return Err(io::ErrorKind::Other.into());
        }
        if (slot.access, access) == (Access::None, Access::Read) {
            let page = self.page.upgrade().unwrap();
            let offsets = [Register::Status.offset(), CONFIG_OFFSET + config::WRITEBACK];
            let found = offsets.map(|offset| word(&page, offset).0.load(Ordering::SeqCst));
            slot.found.push(found);
        }
        slot.access = access;
        slot.allowed.push(access);
        Ok(())
    }
}

impl Window {
    /// Shows the guest `page`, which it may write if the device lets it and `can_open`.
    pub fn on(page: &Arc<RegisterPage>, can_open: bool) -> Self {
        let slot = Arc::new(Mutex::new(Slot {
            access: Access::Read,
            allowed: Vec::new(),
            refused: None,
            found: Vec::new(),
        }));
        page.mapped_by(
            Box::new(SecondPage {
                page: Arc::downgrade(page),
                slot: Arc::clone(&slot),
            }),
            can_open,
        );
        Self {
            page: Arc::clone(page),
            slot,
        }
    }

    /// Whether the guest may write to the second page.
    pub fn is_open(&self) -> bool {
        self.slot.lock().unwrap().access == Access::Write
    }

    /// What the guest has been allowed since this was last asked for.
    pub fn allowed(&self) -> Vec<Access> {
        std::mem::take(&mut self.slot.lock().unwrap().allowed)
    }

    /// Status and the word of `writeback`, as the guest has found them each time that it could read
    /// again, since this was last asked for.
    pub fn found(&self) -> Vec<[u32; 2]> {
        std::mem::take(&mut self.slot.lock().unwrap().found)
    }

    /// Has the machine unable to allow `access`, or able to allow all again.
    pub fn refuse(&self, access: Option<Access>) {
        self.slot.lock().unwrap().refused = access;
    }

    /// Writes to the window, if that is a store to memory, and returns whether it is.
    pub fn write(&self, offset: u64, data: &[u8]) -> bool {
        let is_second = offset >= Register::InterruptStatus.offset();
        let is_store = self.is_open() && is_second && has(offset, data);
        if is_store {
            for (place, byte) in (offset..).zip(data) {
                let (word, index) = word(&self.page, place);
                // No other CPU of the guest is there to write to the other bytes.
                let mut bytes = word.load(Ordering::SeqCst).to_ne_bytes();
                bytes[index] = *byte;
                word.store(u32::from_ne_bytes(bytes), Ordering::SeqCst);
            }
        }
        is_store
    }

    /// Fills `data` from the window, if that is a load from memory, and returns whether it is.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> bool {
        let is_load = has(offset, data);
        if is_load {
            for (place, byte) in (offset..).zip(data) {
                let (word, index) = word(&self.page, place);
                *byte = word.load(Ordering::SeqCst).to_ne_bytes()[index];
            }
        }
        is_load
    }
}

/// The word of `page` that has the byte at `offset`, and which of its bytes that is.
fn word(page: &RegisterPage, offset: u64) -> (&AtomicU32, usize) {
    let place = WINDOW_OFFSET + offset as usize;
    let start = page.address().wrapping_add(place & !3).cast_mut();
    // SAFETY: it is a word of the two pages, as all callers see to; they live as long as `page`, and
    // are aligned. All there is atomic.
    let word = unsafe { AtomicU32::from_ptr(start.cast()) };
    (word, place % 4)
}

/// Whether the two pages have the bytes at `offset`.
fn has(offset: u64, data: &[u8]) -> bool {
    let end = offset.checked_add(data.len() as u64);
    end.is_some_and(|end| end <= (2 * PAGE_SIZE - WINDOW_OFFSET) as u64)
}
