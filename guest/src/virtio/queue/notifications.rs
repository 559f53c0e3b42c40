//! Of what driver and device notify each other (sections 2.7.7 and 2.7.10): whether the device wants to
//! know of what is available, and what it is to interrupt for. By event indices where these are
//! negotiated, else by flags.

use core::sync::atomic::{Ordering, fence};

use spec::queue::{self, AVAIL_F_NO_INTERRUPT, USED_F_NO_NOTIFY};

use super::VirtQueue;

impl VirtQueue<'_> {
    /// Whether the device wants to be notified of the chains added since the last call.
    pub fn needs_notification(&mut self) -> bool {
        let added = core::mem::take(&mut self.not_considered);
        // Full fence: the device writes what it wants, then looks at `avail.idx` once more; we
        // wrote `avail.idx`, and now look at what it wants. If both could look before the other's
        // write arrives, the device would sleep and we would not wake it. x86 does reorder a
        // load before an older store.
        fence(Ordering::SeqCst);
        added > 0 && self.is_notification_wanted(self.avail_idx, self.avail_idx.wrapping_sub(added))
    }

    /// Whether the device wants to be notified of the next chain, as far as it has said by now.
    #[must_use]
    pub fn will_need_notification(&self) -> bool {
        self.is_notification_wanted(self.avail_idx.wrapping_add(1), self.avail_idx)
    }

    /// Whether the device wants to be notified when `avail.idx` goes from `old` to `new`.
    fn is_notification_wanted(&self, new: u16, old: u16) -> bool {
        if self.event_idx {
            let offset = queue::avail_event(self.size) as usize;
            let event = self.device_area.load16(offset, Ordering::Relaxed);
            queue::need_event(event, new, old)
        } else {
            let offset = queue::RING_FLAGS as usize;
            self.device_area.load16(offset, Ordering::Relaxed) & USED_F_NO_NOTIFY == 0
        }
    }

    /// Asks the device to interrupt when it has used `chains` more than have been popped: from 1
    /// to how many are in flight. Without event indices it interrupts whenever it has used some.
    /// Returns whether it is safe to wait for that: false where so many are used already, for which
    /// the device may have seen no reason to interrupt.
    #[must_use]
    pub fn request_interrupt(&mut self, chains: u16) -> bool {
        if self.event_idx {
            let offset = queue::used_event(self.size) as usize;
            // The entry of the last of them: the device interrupts when it has written it.
            let event = self.used_idx.wrapping_add(chains).wrapping_sub(1);
            self.driver_area.store16(offset, event, Ordering::Relaxed);
        } else {
            self.driver_area
                .store16(queue::RING_FLAGS as usize, 0, Ordering::Relaxed);
        }
        // Full fence, as in `needs_notification` with the sides exchanged: we have written what
        // we want, and look at `used.idx` once more.
        fence(Ordering::SeqCst);
        !self.has_used(chains)
    }

    /// Whether the device has used `chains` more than have been popped.
    #[must_use]
    pub fn has_used(&self, chains: u16) -> bool {
        let offset = queue::RING_IDX as usize;
        let idx = self.device_area.load16(offset, Ordering::Relaxed);
        idx.wrapping_sub(self.used_idx) >= chains
    }

    /// Where the device keeps `used.idx`, and which it was when all had been popped that now have.
    #[must_use]
    pub const fn popped(&self) -> (u64, u16) {
        (self.device_area.addr() + queue::RING_IDX, self.used_idx)
    }

    /// Tells the device that its interrupts are of no use now. It may send some all the same.
    pub fn suppress_interrupts(&mut self) {
        if self.event_idx {
            // `flags` must stay 0 (section 2.7.7.1). An event half a turn of the 16-bit index
            // away is one that no device reaches before it is moved again.
            let offset = queue::used_event(self.size) as usize;
            let event = self.used_idx.wrapping_add(0x8000);
            self.driver_area.store16(offset, event, Ordering::Relaxed);
        } else {
            let offset = queue::RING_FLAGS as usize;
            self.driver_area
                .store16(offset, AVAIL_F_NO_INTERRUPT, Ordering::Relaxed);
        }
    }
}
