//! The guest's access to the second page: what opens and closes it, and what becomes of what the guest
//! has written there.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, Weak};
use std::thread;

use super::super::PageMapping;
use super::*;

const USED: u32 = InterruptStatus::USED_BUFFER.bits();
const CONFIG: u32 = InterruptStatus::CONFIG_CHANGE.bits();
/// The part of the configuration space that the driver may change.
const WRITABLE: Range<usize> = 6..8;
/// What the configuration space holds.
const SPACE: [u8; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];
/// The status of a device that lives.
const LIVE: u32 = 15;

/// What the guest may do, and what the machine has been asked to let it do.
struct Slot {
    access: Access,
    /// Since the test looked last.
    allowed: Vec<Access>,
    /// What the machine cannot.
    refused: Option<Access>,
    /// What the guest writes to Status at the last moment at which it can.
    last_word: Option<u32>,
    /// What the guest has found in Status as soon as it could read again.
    found: Vec<u32>,
}

struct Mapping {
    page: Weak<RegisterPage>,
    slot: Arc<Mutex<Slot>>,
}

impl PageMapping for Mapping {
    fn allow(&mut self, access: Access) -> io::Result<()> {
        let page = self.page.upgrade().unwrap();
        let mut slot = self.slot.lock().unwrap();
        if slot.refused == Some(access) {
            return Err(io::ErrorKind::Other.into());
        }
        if let (Access::Write, Some(value)) = (slot.access, slot.last_word.take()) {
            page.set(Register::Status, value);
        }
        if let (Access::None, Access::Read) = (slot.access, access) {
            slot.found.push(page.get(Register::Status));
        }
        slot.access = access;
        slot.allowed.push(access);
        Ok(())
    }
}

/// A guest that has the page of a device that lives for memory.
struct Guest {
    page: Arc<RegisterPage>,
    slot: Arc<Mutex<Slot>>,
}

impl Guest {
    fn new(can_open: bool) -> Self {
        let page = Arc::new(RegisterPage::default());
        page.set(Register::Status, LIVE);
        page.show_config(|space| {
            space[..SPACE.len()].copy_from_slice(&SPACE);
            0
        })
        .unwrap();
        let slot = Arc::new(Mutex::new(Slot {
            access: Access::Read,
            allowed: Vec::new(),
            refused: None,
            last_word: None,
            found: Vec::new(),
        }));
        page.mapped_by(
            Box::new(Mapping {
                page: Arc::downgrade(&page),
                slot: Arc::clone(&slot),
            }),
            can_open,
        );
        Self { page, slot }
    }

    /// One that may write.
    fn open() -> Self {
        let guest = Self::new(true);
        guest.page.open(WRITABLE).unwrap();
        assert_eq!(guest.allowed(), [Access::Write]);
        guest
    }

    /// What the machine has been asked for since this was last looked at.
    fn allowed(&self) -> Vec<Access> {
        std::mem::take(&mut self.slot.lock().unwrap().allowed)
    }

    fn refuse(&self, access: Access) {
        self.slot.lock().unwrap().refused = Some(access);
    }

    fn store(&self, word: &AtomicU32, value: u32) {
        assert_eq!(self.slot.lock().unwrap().access, Access::Write, "it exits");
        word.store(value.to_le(), Ordering::SeqCst);
    }

    fn write(&self, register: Register, value: u32) {
        self.store(self.page.word(register), value);
    }

    fn contents(&self) -> Vec<u32> {
        let words = self.page.words.0.iter();
        words.map(|word| word.load(Ordering::SeqCst)).collect()
    }
}

fn unchanged() -> Written {
    Written {
        status: LIVE,
        config: SPACE[WRITABLE].to_vec(),
    }
}

#[test]
fn an_open_page_closes_once_and_is_read_again() {
    let guest = Guest::open();
    assert_eq!(guest.page.close().unwrap(), Some(unchanged()));
    assert_eq!(guest.allowed(), [Access::None]);
    assert_eq!(guest.page.close().unwrap(), None);
    assert_eq!(guest.allowed(), []);
    guest.page.show().unwrap();
    assert_eq!(guest.allowed(), [Access::Read]);
    guest.page.open(WRITABLE).unwrap();
    guest.page.open(WRITABLE).unwrap();
    assert_eq!(guest.allowed(), [Access::Write]);
}

#[test]
fn a_page_that_the_guest_may_only_read_or_does_not_have_never_opens() {
    let guest = Guest::new(false);
    guest.page.open(WRITABLE).unwrap();
    assert!(!guest.page.settle());
    assert_eq!(guest.page.close().unwrap(), None);
    assert_eq!(guest.allowed(), []);
    let page = RegisterPage::default();
    page.open(WRITABLE).unwrap();
    assert!(!page.settle());
    assert_eq!(page.close().unwrap(), None);
}

#[test]
fn a_device_that_has_more_to_tell_than_a_used_buffer_keeps_its_page_closed() {
    let guest = Guest::new(true);
    let is_opened = || {
        guest.page.open(WRITABLE).unwrap();
        guest.allowed() == [Access::Write]
    };
    guest.page.add_needs_reset().unwrap();
    assert!(!is_opened());
    guest.page.set(Register::Status, 0);
    guest
        .page
        .add_pending(InterruptStatus::CONFIG_CHANGE)
        .unwrap();
    guest
        .page
        .add_pending(InterruptStatus::USED_BUFFER)
        .unwrap();
    assert!(!is_opened());
    guest.page.acknowledge(CONFIG);
    assert!(is_opened());
}

#[test]
fn what_a_device_tells_of_beside_a_used_buffer_closes_its_page_before_it_is_there() {
    let closes = |tell: &dyn Fn(&RegisterPage)| {
        let guest = Guest::open();
        tell(&guest.page);
        let closed = guest.allowed();
        assert_eq!(guest.page.close().unwrap(), None, "closed already");
        // With the status that it had.
        assert_eq!(guest.slot.lock().unwrap().found[..1], [LIVE]);
        closed
    };
    let once = [Access::None, Access::Read];
    let needs_reset = closes(&|page| page.add_needs_reset().unwrap());
    assert_eq!(needs_reset, once);
    let changed = closes(&|page| page.add_pending(InterruptStatus::CONFIG_CHANGE).unwrap());
    assert_eq!(changed, once);
    assert_eq!(closes(&|page| page.show_config(|_| 0).unwrap()), once);
    let shown = closes(&|page| page.show_config(|_| 1).unwrap());
    assert_eq!(shown, [once, once].concat());

    let guest = Guest::open();
    guest
        .page
        .add_pending(InterruptStatus::USED_BUFFER)
        .unwrap();
    guest.page.acknowledge(USED);
    assert_eq!(guest.allowed(), []);
}

#[test]
fn what_the_guest_has_written_anywhere_is_gone_from_a_closed_page() {
    let guest = Guest::open();
    guest
        .page
        .add_pending(InterruptStatus::USED_BUFFER)
        .unwrap();
    let before = guest.contents();
    for word in guest.page.second_words().skip(1) {
        guest.store(word, 0x1020_3040);
    }
    guest.write(Register::InterruptACK, !USED);
    let written = guest.page.close().unwrap();
    let expected = Written {
        status: 0x1020_3040,
        config: vec![0x20, 0x10],
    };
    assert_eq!(written, Some(expected));
    assert_eq!(guest.contents(), before);
    // Not before it is done.
    assert!(guest.slot.lock().unwrap().found.is_empty());
}

#[test]
fn what_the_guest_writes_while_it_still_can_counts() {
    let guest = Guest::open();
    guest.slot.lock().unwrap().last_word = Some(3);
    let written = guest.page.close().unwrap().unwrap();
    assert_eq!(written.status, 3);
    assert_eq!(guest.page.get(Register::Status), LIVE);
}

#[test]
fn an_acknowledgement_on_an_open_page_is_applied_once_when_it_is_found_and_closes_nothing() {
    let guest = Guest::open();
    let page = &guest.page;
    for (round, close) in (1..).zip([false, true]) {
        page.add_pending(InterruptStatus::USED_BUFFER).unwrap();
        guest.write(Register::InterruptACK, USED);
        assert_eq!(page.pending(), InterruptStatus::USED_BUFFER);
        if close {
            assert_eq!(page.close().unwrap(), Some(unchanged()));
        } else {
            assert!(!page.settle());
            assert_eq!(guest.allowed(), []);
        }
        assert_eq!(page.pending(), InterruptStatus::empty());
        assert_eq!(page.get(Register::InterruptACK), 0);
        assert_eq!(page.silent_acks(), round);
        // The next event is not what has been acknowledged.
        page.add_pending(InterruptStatus::USED_BUFFER).unwrap();
        assert!(!page.settle());
        assert_eq!(page.pending(), InterruptStatus::USED_BUFFER);
        assert_eq!(page.silent_acks(), round);
    }
}

#[test]
fn no_guest_makes_an_event_of_its_own_or_acknowledges_a_used_buffer_by_another_bit() {
    for close in [false, true] {
        let guest = Guest::open();
        guest
            .page
            .add_pending(InterruptStatus::USED_BUFFER)
            .unwrap();
        guest.write(Register::InterruptStatus, u32::MAX);
        guest.write(Register::InterruptACK, !USED);
        if close {
            guest.page.close().unwrap();
        } else {
            assert!(!guest.page.settle());
        }
        assert_eq!(guest.page.pending(), InterruptStatus::USED_BUFFER);
    }
}

#[test]
fn whatever_else_is_written_where_a_device_has_something_is_noticed() {
    let guest = Guest::open();
    let config_end = CONFIG_OFFSET as usize + SPACE.len();
    let used = guest.page.second_words();
    let used = used.take(word_at(config_end - 1) + 1 - PAGE_WORDS);
    for (index, word) in used.enumerate() {
        let before = word.load(Ordering::SeqCst);
        guest.store(word, before ^ 0x8000_0000);
        // InterruptStatus and InterruptACK.
        assert_eq!(guest.page.settle(), index > 1, "word {index}");
        assert_eq!(guest.allowed(), [], "it does not close the page");
        if index > 1 {
            guest.store(word, before);
        }
    }
    assert!(!guest.page.settle());
}

#[test]
fn a_byte_that_the_driver_may_change_is_noticed_where_all_after_it_is_0() {
    let guest = Guest::new(true);
    guest.page.show_config(|_| 0).unwrap();
    guest.page.open(0x41..0x42).unwrap();
    let word = &guest.page.words.0[word_at(CONFIG_OFFSET as usize + 0x40)];
    guest.store(word, 0x0100);
    assert!(guest.page.settle());
    let written = guest.page.close().unwrap().unwrap();
    assert_eq!(written.config, [1]);
}

#[test]
fn a_used_buffer_that_another_thread_tells_of_meanwhile_is_not_lost() {
    let guest = Guest::open();
    let page = &guest.page;
    thread::scope(|scope| {
        let device = scope.spawn(|| {
            for round in 0..20_000 {
                page.add_pending(InterruptStatus::USED_BUFFER).unwrap();
                thread::yield_now();
                assert_eq!(page.pending(), InterruptStatus::USED_BUFFER, "{round}");
                page.acknowledge(USED);
            }
        });
        while !device.is_finished() {
            assert!(!page.settle());
        }
    });
}

#[test]
fn what_the_machine_cannot_allow_is_an_error_and_tells_the_driver_nothing() {
    let opens = |page: &RegisterPage| page.open(WRITABLE).map(drop);
    let guest = Guest::new(true);
    guest.refuse(Access::Write);
    opens(&guest.page).unwrap_err();
    assert_eq!(guest.allowed(), []);
    assert_eq!(guest.page.close().unwrap(), None, "it is not open");

    type Attempt = fn(&RegisterPage) -> io::Result<()>;
    let attempts: [Attempt; 4] = [
        |page| page.close().and_then(|_| page.show()),
        RegisterPage::add_needs_reset,
        |page| page.add_pending(InterruptStatus::CONFIG_CHANGE),
        |page| page.show_config(|_| 0),
    ];
    for refused in [Access::None, Access::Read] {
        for attempt in attempts {
            let guest = Guest::open();
            guest.refuse(refused);
            attempt(&guest.page).unwrap_err();
            assert_eq!(guest.page.pending(), InterruptStatus::empty());
            assert_eq!(guest.page.get(Register::Status), LIVE);
        }
    }
}
