//! The registers as memory of a guest, which may write to the second of their pages when the device lets
//! it, in place of KVM.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use devices::virtio::page::WINDOW_OFFSET;
use devices::virtio::{Access, PageMapping, RegisterPage};
use spec::mmio::{CONFIG_OFFSET, Register};

/// Size of what is reached of the window, with what lies past the end of the configuration space.
pub const REACHED: u64 = 2 * CONFIG_OFFSET;

/// The memory that a guest has in place of the registers of a device.
pub struct Window {
    page: Arc<RegisterPage>,
    is_open: Arc<AtomicBool>,
}

struct SecondPage(Arc<AtomicBool>);

impl PageMapping for SecondPage {
    fn allow(&mut self, access: Access) -> io::Result<()> {
        self.0.store(access == Access::Write, Ordering::SeqCst);
        Ok(())
    }
}

impl Window {
    /// Shows a guest `page`.
    pub fn on(page: &Arc<RegisterPage>) -> Self {
        let is_open = Arc::default();
        page.mapped_by(Box::new(SecondPage(Arc::clone(&is_open))), true);
        Self {
            page: Arc::clone(page),
            is_open,
        }
    }

    /// Whether the guest may write to the second page.
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::SeqCst)
    }

    /// Writes at `offset`, if that is a store to memory, and returns whether it is.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let is_store = self.is_open() && offset >= Register::InterruptStatus.offset();
        if is_store {
            for (offset, byte) in (offset..).zip(bytes) {
                self.store(offset, *byte);
            }
        }
        is_store
    }

    fn store(&self, offset: u64, byte: u8) {
        assert!(offset < REACHED);
        let place = WINDOW_OFFSET + offset as usize;
        let word = self.page.address().wrapping_add(place & !3).cast_mut();
        // SAFETY: it is a word of the two pages, which live as long as `self`, and aligned, as they
        // are. All there is atomic.
        let word = unsafe { AtomicU32::from_ptr(word.cast()) };
        // The guest has no other CPU that could write to the other bytes.
        let mut bytes = word.load(Ordering::SeqCst).to_ne_bytes();
        bytes[place % 4] = byte;
        word.store(u32::from_ne_bytes(bytes), Ordering::SeqCst);
    }
}
